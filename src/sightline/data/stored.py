"""Storage of object fields in the columns of a dataset, and conversion of their values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.blob import Blob, Column, column_of_objects
from sightline.data.columns import Columns
from sightline.data.relations import has_relations, read_relations
from sightline.data.segmentation import mask_of
from sightline.errors import InputError
from sightline.ops.masks import mask_to_rle
from sightline.structures import Instances, Size
from sightline.structures.fields import field_of
from sightline.structures.relations import FIELDS as RELATIONS

USUAL = ("boxes", "labels", "crowd", "difficult", "areas")
"""Fields of all objects in all datasets."""
STORED = {**{name: name for name in USUAL}, "keypoints": "keypoints", "captions": "captions", "masks": "segmentations"}
"""The attribute of `Columns` that stores a field; all other fields are in `Columns.extra`."""
_TYPES = {"d": np.float32, "i": np.int64}
"""float64 → float32 and int32 → int64, by NumPy type characters."""


class Deferred:
    """A value in a column that is read from a file when the target is made; base class."""

    def read(self) -> Any:
        """The value.

        Raises:
            InputError: the file cannot be read; the message names it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement read")


def optional_fields(columns: Columns) -> list[str]:
    """The fields for which the columns contain values, beyond the usual ones."""
    there = {name for name in STORED if getattr(columns, STORED[name]) is not None} - {*USUAL}
    if not columns.segmentations.data.size:  # all datasets have this column
        there.discard("masks")
    return [*(name for name in STORED if name in there), *columns.extra, *_of_tables(columns)]


def known_fields(columns: Columns) -> set[str]:
    """The fields that have a column."""
    return {name for name, place in STORED.items() if getattr(columns, place) is not None} | {
        *columns.extra,
        *_of_tables(columns),
    }


def _of_tables(columns: Columns) -> tuple[str, ...]:
    """The fields whose values are in a table."""
    return RELATIONS if has_relations(columns) else ()


def read_field(columns: Columns, name: str, rows: slice, size: Size, image: str) -> Any:
    """A field of the objects in `rows`, which belong to the image named `image` of `size`.

    Raises:
        InputError: a keypoint that is not absent has no position, or a mask cannot be created.
    """
    if name == "masks":
        return _masks(columns.segmentations[rows], size, image)
    if name in _of_tables(columns):
        return read_relations(columns, name, rows)
    column: Column = getattr(columns, STORED[name]) if name in STORED else columns.extra[name]
    if isinstance(column, Blob):
        return column[rows].texts()
    if column.dtype == object:
        return [value.read() if isinstance(value, Deferred) else value for value in column[rows]]
    values = torch.from_numpy(column[rows].astype(_TYPES.get(column.dtype.char, column.dtype)))
    if field_of(name).pairs and not values[values[..., 2] > 0].isfinite().all():
        bad = int((~values[..., :2].isfinite().all(2) & (values[..., 2] > 0)).any(1).nonzero()[0])
        raise InputError(
            f"{image}: object {bad + 1} has a keypoint at {values[bad].tolist()}, which is not finite; mark it again "
            "or as absent (sightline check --fix does)"
        )
    return values


def stored_objects(targets: Sequence[Instances]) -> dict[str, Any]:
    """The fields of all targets, concatenated, as columns by the names of `Columns`."""
    count = sum(len(target) for target in targets)
    present = {name: None for target in targets if len(target) for name in target.fields}
    boxes = _numbers(targets, "boxes", (4,), np.float64)
    areas = _numbers(targets, "areas", (), np.float64, missing=np.nan)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return {
        "boxes": boxes,
        "labels": _numbers(targets, "labels", (), np.int32),
        "crowd": _numbers(targets, "crowd", (), bool),
        "difficult": _numbers(targets, "difficult", (), bool),
        "areas": np.where(np.isnan(areas), sides[:, 0] * sides[:, 1], areas),
        "segmentations": Blob.empty(count),
        **{STORED[name]: _optional(targets, name) for name in present if name in STORED and name not in USUAL},
        "extra": {name: _gathered(targets, name) for name in present if name not in (*STORED, *RELATIONS)},
    }


def _optional(targets: Sequence[Instances], name: str) -> Column:
    """A field that only some targets have and that has its own column: outlines, keypoints or phrases."""
    if name == "masks":
        return Blob.of(
            json.dumps(mask_to_rle(value), separators=(",", ":")) if value is not None else ""
            for target in targets
            for value in (target.fields[name] if name in target else [None] * len(target))
        )
    if field_of(name).shape is None:
        return Blob.of(value for target in targets for value in target.fields.get(name, [""] * len(target)))
    points = max(target.fields[name].shape[1] for target in targets if name in target)
    return _numbers(targets, name, (points, 3), np.float32)


def _numbers(
    targets: Sequence[Instances], name: str, shape: tuple[int, ...], dtype: Any, missing: float = 0
) -> np.ndarray:
    """The field of all targets, concatenated; `missing` for targets that lack it."""
    out = np.full((sum(len(t) for t in targets), *shape), missing, dtype)
    start = 0
    for target in targets:
        if name in target:
            out[start : start + len(target)] = target.fields[name].cpu().numpy()
        start += len(target)
    return out


def _gathered(targets: Sequence[Instances], name: str) -> Column:
    """A field of any other name: an array, a Blob of strings, or an array of objects."""
    values = [t.fields.get(name) for t in targets if len(t)]
    if all(isinstance(v, Tensor) for v in values):
        return np.concatenate([v.cpu().numpy() for v in values])  # type: ignore[union-attr]
    rows = [
        row
        for v, t in zip(values, [t for t in targets if len(t)], strict=True)
        for row in (v if v is not None else [None] * len(t))
    ]
    if all(isinstance(row, str) for row in rows):
        return Blob.of(map(str, rows))
    return column_of_objects(rows)


def _masks(segmentations: Blob, size: Size, name: str) -> Tensor:
    masks = torch.zeros(len(segmentations), *size, dtype=torch.bool)
    for number, entry in enumerate(segmentations):
        if entry:
            try:
                masks[number] = mask_of(json.loads(entry), size)
            except InputError as error:
                raise InputError(f"{name}: segmentation {number} {error}") from None
    return masks

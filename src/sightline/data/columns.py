"""Annotations as columns: flat NumPy arrays with one row per annotation, and offsets for each image.

A million boxes take some tens of bytes each, where Python objects would take thousands. Reading a row changes no
reference count, so forked worker processes share all memory pages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sightline.data.blob import Blob, Column, column_joined, column_taken, ranges
from sightline.data.tables import Table
from sightline.errors import InputError


@dataclass(frozen=True)
class Columns:
    """Annotations of A objects in N images as stored in the file; nothing is corrected, so that `check` can report it.

    Attributes:
        offsets: int64 [N + 1]; the objects of image i are rows `offsets[i]` to `offsets[i + 1]` of the columns below.
        boxes: float64 [A, 4], x1, y1, x2, y2 in pixels.
        labels: int32 [A], class ids.
        crowd, difficult: bool [A].
        areas: float64 [A], in pixels; the area of the box if the format has no areas.
        ids: int64 [A], annotation ids from the file; counted from 1 if the format has none.
        segmentations: polygons or RLE as compact COCO JSON, one entry per object, empty if there is none.
        keypoints: float32 [A, P, 3] (x, y, visibility), or None.
        captions: one phrase per object, or None.
        extra: additional columns by name, each with A rows (arrays or Blobs).
        names: image paths relative to the dataset's root, with / as separator.
        heights, widths: int32 [N], in pixels, as stated in the labels; 0 if not stated.
        image_ids: int64 [N].
        splits: int8 [N], indices into the dataset's split names.
        label_names: path of each image's label file relative to the root, or None if one file holds all labels.
        image_labels: int32 [N], the class of each image (kind "class_scores"), or None.
        maps: path of each image's class map (kind "class_map"), or None.
        image_extra: additional data about each image as compact JSON, or None.
        tables: additional rows about images, by name, such as relations between objects or events in time.
    """

    offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    areas: np.ndarray
    ids: np.ndarray
    segmentations: Blob
    names: Blob
    heights: np.ndarray
    widths: np.ndarray
    image_ids: np.ndarray
    splits: np.ndarray
    keypoints: np.ndarray | None = None
    captions: Blob | None = None
    extra: dict[str, Column] = field(default_factory=dict)
    label_names: Blob | None = None
    image_labels: np.ndarray | None = None
    maps: Blob | None = None
    image_extra: Blob | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for names, length in ((_OBJECT, len(self.labels)), (_IMAGE, len(self.names))):
            for name in names:
                value = getattr(self, name)
                if value is not None and len(value) != length:
                    raise InputError(f"column {name} has {len(value)} rows, but there are {length}")
        if len(self.offsets) != self.images + 1 or self.offsets[-1] != self.objects:
            raise InputError(f"offsets must run from 0 to {self.objects} with {self.images + 1} entries")
        for name, table in self.tables.items():
            table.require_fitting(name, self.offsets)

    @property
    def images(self) -> int:
        """N."""
        return len(self.names)

    @property
    def objects(self) -> int:
        """A."""
        return len(self.labels)

    @property
    def image_of(self) -> np.ndarray:
        """int64 [A]: the image that each object belongs to."""
        return np.repeat(np.arange(self.images), np.diff(self.offsets))

    def objects_of(self, i: int) -> range:
        """Rows of the objects of image `i`."""
        return range(int(self.offsets[i]), int(self.offsets[i + 1]))

    @property
    def nbytes(self) -> int:
        """Bytes of all columns together."""
        values = [getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("extra", "tables")]
        values += [*self.extra.values(), *self.tables.values()]
        return sum(value.nbytes for value in values if value is not None)

    def take_images(self, rows: np.ndarray) -> Columns:
        """Columns of the images at `rows` (ids [M], in this order) with their objects."""
        objects, offsets = ranges(self.offsets, rows)
        tables = {name: table.take_images(rows) for name, table in self.tables.items()}
        return self._taken(objects, rows, offsets, tables)

    def take_objects(self, rows: np.ndarray) -> Columns:
        """Columns of the same images with only the objects at `rows` (a bool mask [A], or increasing ids).

        Rows of `tables` that refer to a removed object are removed, too.
        """
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        offsets = np.searchsorted(rows, self.offsets).astype(np.int64)
        tables = {name: table.take_objects(rows, self.offsets) for name, table in self.tables.items()}
        return self._taken(rows, None, offsets, tables)

    @classmethod
    def of_images(cls, **columns: Any) -> Columns:
        """Columns of images without objects. `columns` are the image columns (see `Columns`)."""
        return cls(**_no_objects(len(columns["names"])), **columns)

    def without_objects(self) -> Columns:
        """Columns of the same images without objects, and without the rows of `tables` that refer to an object."""
        tables = {n: t.take_objects(np.zeros(0, np.int64), self.offsets) for n, t in self.tables.items()}
        return self.replace(**_no_objects(self.images), keypoints=None, captions=None, extra={}, tables=tables)

    def replace(self, **columns: Any) -> Columns:
        """A copy with some columns replaced; the other columns are shared."""
        return dataclasses.replace(self, **columns)

    def _taken(
        self, objects: np.ndarray, images: np.ndarray | None, offsets: np.ndarray, tables: Mapping[str, Table]
    ) -> Columns:
        columns: dict[str, Any] = {name: column_taken(getattr(self, name), objects) for name in _OBJECT}
        columns |= {
            name: getattr(self, name) if images is None else column_taken(getattr(self, name), images)
            for name in _IMAGE
        }
        extra = {name: column_taken(column, objects) for name, column in self.extra.items()}
        return Columns(offsets=offsets, extra=extra, tables=tables, **columns)

    @classmethod
    def concatenate(cls, parts: Sequence[Columns]) -> Columns:
        """Concatenate columns. A column that only some parts have is filled with empty entries for the others."""
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *(part.objects for part in parts)])
        ends = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)]
        columns: dict[str, Any] = {"offsets": np.concatenate([np.zeros(1, np.int64), *ends])}
        for name in (*_OBJECT, *_IMAGE):
            columns[name] = column_joined(
                [getattr(p, name) for p in parts], [p.objects if name in _OBJECT else p.images for p in parts]
            )
        extra = {name: None for part in parts for name in part.extra}
        columns["extra"] = {
            name: column_joined(
                [p.extra.get(name) for p in parts], [p.objects for p in parts], np.nan if name in _UNKNOWN else 0
            )
            for name in extra
        }
        columns["tables"] = {
            name: Table.concatenate([p.tables.get(name) for p in parts], [p.images for p in parts])
            for name in dict.fromkeys(name for part in parts for name in part.tables)
        }
        return cls(**columns)


_UNKNOWN = ("cuboids",)
"""Columns in which NaN says that an object's value is not known: its value where a part lacks the column."""
_OBJECT = ("boxes", "labels", "crowd", "difficult", "areas", "ids", "segmentations", "keypoints", "captions")
_IMAGE = ("names", "heights", "widths", "image_ids", "splits", "label_names", "image_labels", "maps", "image_extra")


def _no_objects(images: int) -> dict[str, Any]:
    return {
        "offsets": np.zeros(images + 1, np.int64),
        "boxes": np.zeros((0, 4)),
        "labels": np.zeros(0, np.int32),
        "crowd": np.zeros(0, bool),
        "difficult": np.zeros(0, bool),
        "areas": np.zeros(0),
        "ids": np.zeros(0, np.int64),
        "segmentations": Blob.empty(0),
    }

"""Sources of datasets in memory: the arguments of `Dataset.from_instances` and similar methods."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.full_scale import FullScale, scale_together
from sightline.data.images import image_size
from sightline.data.keypoint_pairs import require_mirror
from sightline.data.relations import TABLE as RELATIONS
from sightline.data.relations import relations_table
from sightline.data.source import Source
from sightline.data.stored import stored_objects
from sightline.data.tables import Table
from sightline.errors import InputError
from sightline.structures import Classes, Instances, Size

_Image = Tensor | np.ndarray | str | os.PathLike[str]


def source_of_instances(
    images: Sequence[_Image],
    targets: Sequence[Instances],
    classes: Classes | Sequence[str],
    *,
    names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    image_extra: Sequence[Mapping[str, Any]] | None = None,
    full_scale: int | None = None,
    keypoint_names: Sequence[str] = (),
    keypoint_swap: Sequence[int] | None = None,
    tables: Mapping[str, Table] | None = None,
    about: str = "",
) -> Source:
    """The source of a dataset of images with objects.

    Args:
        images: tensors or arrays [C, H, W]: uint8, other integers, or floats in [0, 1]; or image files. A `View` keeps
            its camera. A sequence with an attribute `sizes`, (height, width) of each image, is not read here; its
            images must be uint8 or float in [0, 1].
        targets: the objects of each image. All fields are kept; those other than boxes, labels, crowd, difficult and
            areas are in the dataset's targets after `with_fields`. Masks are stored as RLE.
        classes: class names.
        names: unique image names; by default 000000.png, 000001.png, … (or the file names).
        splits: name of the split of each image; by default all are in "all".
        image_extra: additional data about each image, as JSON values ("captions": sentences about it).
        full_scale: the value that becomes 1.0 in integer images other than uint8 (they become float32, or uint8 if it
            is 255); by default the smallest of 255, 1023, 4095, 16383 and 65535 that is not below any value.
        keypoint_names: one name per keypoint; left and right ones swap in a mirrored image.
        keypoint_swap: for each keypoint the index of its mirror image, if the names do not define it.
        tables: additional rows about the images, by name. The fields `keys` and `relations` of targets become the table
            "relations".
        about: the field that the labels are about, such as "captions"; see `Source`.

    Raises:
        InputError: lengths differ, a target's size is not that of its image, a label is not a class id, or an image has
            values out of range.
    """
    classes = classes if isinstance(classes, Classes) else Classes(classes)
    _same_length(images, targets=targets, names=names, splits=splits, image_extra=image_extra)
    source, image_columns = _image_columns(images, names, splits, full_scale)
    for i, target in enumerate(targets):
        stated = (int(image_columns["heights"][i]), int(image_columns["widths"][i]))
        if target.image_size != stated:
            raise InputError(f"image {i} has size {stated}, but its target is for size {target.image_size}")
        if len(target) and target.labels.max() >= len(classes):
            raise InputError(f"image {i} has label {int(target.labels.max())}, but there are {len(classes)} classes")
    counts = [len(target) for target in targets]
    related = relations_table(targets)
    columns = Columns(
        offsets=np.cumsum([0, *counts]).astype(np.int64),
        ids=np.arange(1, sum(counts) + 1, dtype=np.int64),
        **stored_objects(targets),
        image_extra=None
        if image_extra is None
        else Blob.of(json.dumps(dict(e), separators=(",", ":")) for e in image_extra),
        tables={**({} if related is None else {RELATIONS: related}), **(tables or {})},
        **image_columns,
    )
    points = 0 if columns.keypoints is None else columns.keypoints.shape[1]
    source["keypoint_names"] = tuple(keypoint_names)
    if keypoint_names and len(keypoint_names) != points:
        raise InputError(f"there are {len(keypoint_names)} keypoint names, but targets have {points} keypoints")
    if keypoint_swap is not None:
        source["keypoint_swap"] = require_mirror([*keypoint_swap], points, "keypoint_swap")
    return Source(columns, classes, kind="instances", about=about, **source)


def source_of_class_maps(
    images: Sequence[_Image],
    maps: Sequence[_Image],
    classes: Classes | Sequence[str],
    *,
    names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    ignore: int | None = 255,
    full_scale: int | None = None,
) -> Source:
    """The source of a dataset of images with one class per pixel.

    Args:
        images: tensors or arrays [C, H, W]: uint8, other integers, or floats in [0, 1]; or image files.
        maps: tensors or arrays [H, W] of class ids; or files that `read_map` can read.
        classes: class names.
        names, splits, full_scale: as in `source_of_instances`.
        ignore: the value of ignored pixels (−1 is always ignored, too).

    Raises:
        InputError: lengths or sizes differ.
    """
    _same_length(images, maps=maps, names=names, splits=splits)
    source, image_columns = _image_columns(images, names, splits, full_scale)
    columns = Columns.of_images(**image_columns)
    if isinstance(maps[0] if len(maps) else None, str | os.PathLike):
        at = source["root"] if source["root"] is not None else Path.cwd()
        columns = columns.replace(maps=Blob.of(_relative(Path(m), at) for m in maps))  # type: ignore[arg-type]
        source["root"] = at
    else:
        tensors = [torch.as_tensor(m) for m in maps]
        for i, one in enumerate(tensors):
            stated = (int(columns.heights[i]), int(columns.widths[i]))
            if tuple(one.shape) != stated or one.is_floating_point():
                raise InputError(f"map {i} is {list(one.shape)} of {one.dtype}, but must be integers of size {stated}")
        source["class_maps"] = tensors
    return Source(columns, _classes(classes), kind="class_map", ignore=ignore, **source)


def source_of_labels(
    images: Sequence[_Image],
    labels: Sequence[int | str],
    classes: Classes | Sequence[str],
    *,
    names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    full_scale: int | None = None,
) -> Source:
    """The source of a dataset of images with one class each.

    Args:
        images: tensors or arrays [C, H, W]: uint8, other integers, or floats in [0, 1]; or image files.
        labels: the class of each image, by id or by name.
        classes: class names.
        names, splits, full_scale: as in `source_of_instances`.

    Raises:
        InputError: lengths differ, or a label is not a class.
    """
    known = _classes(classes)
    _same_length(images, labels=labels, names=names, splits=splits)
    ids = [known.id(label) if isinstance(label, str) else int(label) for label in labels]
    for i, label in enumerate(ids):
        if not 0 <= label < len(known):
            raise InputError(
                f"image {i} has label {label}, but there are {len(known)} classes, ids 0 to {len(known) - 1}"
            )
    source, image_columns = _image_columns(images, names, splits, full_scale)
    columns = Columns.of_images(**image_columns).replace(image_labels=np.array(ids, np.int32))
    return Source(columns, known, kind="class_scores", **source)


def _classes(classes: Classes | Sequence[str]) -> Classes:
    return classes if isinstance(classes, Classes) else Classes(classes)


def _same_length(images: Sequence[Any], **others: Sequence[Any] | None) -> None:
    for name, other in others.items():
        if other is not None and len(other) != len(images):
            raise InputError(f"there are {len(images)} images, but {len(other)} {name}; there must be one per image")


def _image_columns(
    images: Sequence[_Image],
    names: Sequence[str] | None,
    splits: Sequence[str] | None,
    full_scale: int | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of a Source, and the image columns."""
    lazy = hasattr(images, "sizes")
    files = not lazy and len(images) > 0 and isinstance(images[0], str | os.PathLike)
    source: dict[str, Any] = {"root": None, "full_scale": FullScale(full_scale)}
    sizes: list[Size] = []
    if files:
        paths = [Path(image).absolute() for image in images]  # type: ignore[arg-type]
        source["root"] = root = Path(os.path.commonpath([p.parent for p in paths]))
        names = [_relative(p, root) for p in paths]
        sizes = [image_size(p) for p in paths]
    elif lazy:  # tensors of these sizes, read when they are asked for
        source["images"], sizes = images, images.sizes  # type: ignore[attr-defined]
    else:
        source["images"] = _image_tensors(images, full_scale)
        sizes = [(int(p.shape[1]), int(p.shape[2])) for p in source["images"]]
    names = [f"{i:06d}.png" for i in range(len(images))] if names is None else list(names)
    if len(set(names)) < len(names):
        again = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"two images have the name {again!r}, but names must be unique")
    source["split_names"] = split_names = tuple(dict.fromkeys(splits)) if splits is not None else ("all",)
    columns = {
        "names": Blob.of(names),
        "heights": np.array([h for h, _ in sizes], np.int32),
        "widths": np.array([w for _, w in sizes], np.int32),
        "image_ids": np.arange(1, len(sizes) + 1, dtype=np.int64),
        "splits": np.array([split_names.index(s) for s in splits] if splits is not None else [0] * len(sizes), np.int8),
    }
    return source, columns


def _image_tensors(images: Sequence[Any], full_scale: int | None) -> list[Tensor]:
    """uint8 or float tensors [C, H, W]; integers of other types are divided by one full scale."""
    tensors = [torch.as_tensor(image) for image in images]
    for i, tensor in enumerate(tensors):
        if tensor.ndim != 3 or 0 in tensor.shape or tensor.is_complex():
            raise InputError(
                f"image {i} is {list(tensor.shape)} of {tensor.dtype}, but must be [C, H, W] with integers or floats"
            )
        if tensor.is_floating_point() and not (tensor.min() >= 0 and tensor.max() <= 1):  # True for NaN, too
            raise InputError(
                f"image {i} has values from {tensor.min():g} to {tensor.max():g}, but floats must lie in [0, 1]; "
                "divide them by their range"
            )
    other = [i for i, t in enumerate(tensors) if not (t.dtype == torch.uint8 or t.is_floating_point())]
    arrays = scale_together({f"image {i}": tensors[i].cpu().numpy() for i in other}, full_scale)
    for i, array in zip(other, arrays, strict=True):
        tensors[i] = torch.from_numpy(array)
    return tensors


def _relative(path: Path, root: Path) -> str:
    path = path.absolute()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()

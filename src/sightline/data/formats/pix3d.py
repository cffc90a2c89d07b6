"""Pix3D: pix3d.json lists images, each with one object: its box, its mask, its mesh, and its pose before the camera.

Sun et al., "Pix3D: dataset and methods for single-image 3D shape modeling", CVPR 2018. An entry of the list has "img",
"mask" and "model" (paths relative to the folder), "category", "bbox" (x1, y1, x2, y2), "img_size" (width, height),
"rot_mat", "trans_mat" and "focal_length", in millimetres of a sensor that is 32 mm wide. "truncated", "occluded" and
"slightly_occluded" become columns; all other entries are in the column "other".

"rot_mat" and "trans_mat" place the mesh before a camera with x to the left, y up and z forwards. Half a turn about z
makes this library's frame of it: x to the right, y down. The principal point is the middle of the image. Lengths are in
the unit of the meshes.

Masks are read by `with_fields("masks")`, meshes when a target is made. A file of a split, such as pix3d_train.json, is
that split; a file pix3d.json is the split "all".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.data.blob import Blob, column_of_objects
from sightline.data.builder import Builder
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.listed import files_to_read, head_of, recognised
from sightline.data.images import read_image
from sightline.data.mesh_files import MeshFile
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.ops.masks import mask_to_rle
from sightline.runtime.reading import read_json
from sightline.structures import Classes

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "Pix3D: pix3d.json with img, model, rot_mat and trans_mat"
_SENSOR = 32.0
"""Width of the sensor in millimetres."""
_FLAGS = ("truncated", "occluded", "slightly_occluded")
_READ = ("img", "mask", "model", "category", "bbox", "img_size", "rot_mat", "trans_mat", "focal_length", *_FLAGS)


def recognise(root: Path) -> str | None:
    """A description of the Pix3D file found in a folder (or `root` itself, if it is one); None if there is none."""
    return recognised(root, ".json", _looks_right)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read Pix3D. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    found = files_to_read(
        root, splits, ".json", _looks_right, "Pix3D file (a list with img and rot_mat); give its path"
    )
    home = files.home_of(root) if images is None else images.absolute()
    entries = [(split, file, n, entry) for split, file in found for n, entry in enumerate(_entries(file))]
    own = {_text(entry, "category", f"{file}: entry {number}") for _, file, number, entry in entries}
    names = Classes(sorted(own) if classes is None else classes)
    order = list(dict.fromkeys(split for split, *_ in entries))
    builder, cameras, meshes, masks, others = Builder(), [], [], [], []
    flags: dict[str, list[bool]] = {name: [] for name in _FLAGS}
    for split, file, number, entry in entries:
        where = f"{file}: entry {number}"
        width, height = (int(side) for side in _numbers(entry, "img_size", 2, where))
        category = _text(entry, "category", where)
        if category not in names:
            raise InputError(f"{where} has the category {category!r}, which is none of {', '.join(names)}; correct it")
        builder.add_image(_text(entry, "img", where), (height, width), order.index(split))
        builder.add_object(_numbers(entry, "bbox", 4, where), names.id(category))
        (focal,) = _numbers(entry, "focal_length", 1, where)
        if not focal > 0:
            raise InputError(f"{where} has a focal_length of {focal}, but it must be millimetres above 0; correct it")
        pixels = focal * width / _SENSOR
        cameras.append({"camera": {"matrix": [[pixels, 0, width / 2], [0, pixels, height / 2], [0, 0, 1]]}})
        meshes.append(_placed(entry, home, where))
        masks.append(str(entry.get("mask") or ""))
        others.append(json.dumps({k: v for k, v in entry.items() if k not in _READ}, separators=(",", ":")))
        for name in _FLAGS:
            flags[name].append(str(entry.get(name)).lower() == "true")
    if not entries:
        raise InputError(f"{root} lists no images; give a Pix3D file with entries")
    extra: dict[str, Any] = {"meshes": column_of_objects(meshes), "other": Blob.of(others)}
    extra |= {name: np.array(values, bool) for name, values in flags.items()}
    columns = builder.build(extra=extra, image_extra=Blob.of(json.dumps(c, separators=(",", ":")) for c in cameras))
    source = Source(
        columns=columns,
        classes=names,
        about="meshes",
        root=home,
        format="pix3d",
        split_names=tuple(order),
        label_files=tuple(next(file for own, file, *_ in entries if own == split) for split in order),
        later={"masks": partial(_with_masks, home, tuple(masks))} if any(masks) else {},
    )
    return Dataset(source)


def _looks_right(file: Path) -> bool:
    head = head_of(file) if file.suffix.lower() == ".json" else b""
    return head.lstrip().startswith(b"[") and all(f'"{key}"'.encode() in head for key in ("img", "model", "rot_mat"))


def _entries(file: Path) -> list[dict[str, Any]]:
    entries = read_json(file, list)
    bad = next((n for n, entry in enumerate(entries) if not isinstance(entry, dict)), None)
    if bad is not None:
        raise InputError(f"{file}: entry {bad} is {str(entries[bad])[:40]!r}, but must be an object; correct it")
    return list(entries)


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f'{where} has {key} {str(value)[:40]!r}, but it must be a text; add "{key}"')
    return value


def _numbers(entry: Mapping[str, Any], key: str, count: int, where: str) -> list[float]:
    """The numbers under a key, nested lists flattened."""
    try:
        found = np.array(entry.get(key), np.float64).ravel()
    except (TypeError, ValueError):
        found = np.zeros(0)
    if len(found) != count or not np.isfinite(found).all():
        what = "a number" if count == 1 else f"{count} numbers"
        raise InputError(f"{where} has {key} {str(entry.get(key))[:60]}, but it must be {what}; correct it")
    values: list[float] = found.tolist()
    return values


def _placed(entry: Mapping[str, Any], home: Path, where: str) -> MeshFile:
    """The mesh of an entry, in the frame of its camera."""
    rotation = np.array(_numbers(entry, "rot_mat", 9, where)).reshape(3, 3)
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2) or np.linalg.det(rotation) < 0:
        raise InputError(
            f"{where} has a rot_mat that is not a rotation: its rows must be orthogonal unit vectors, with a "
            "determinant of 1; correct it"
        )
    half_turn = np.array([-1.0, -1.0, 1.0])
    translation = half_turn * np.array(_numbers(entry, "trans_mat", 3, where))
    turned = half_turn[:, None] * rotation
    return MeshFile(
        str(home / _text(entry, "model", where)), tuple(turned.ravel().tolist()), tuple(translation.tolist())
    )


def _with_masks(home: Path, masks: Sequence[str], source: Source) -> Source:
    """Read the masks of all objects: pixels above half of white."""
    outlines = []
    for row, name in enumerate(masks):
        mask = read_image(home / name, 1)[0] > 127 if name else torch.zeros(0, 0)
        size = int(source.columns.heights[row]), int(source.columns.widths[row])
        if name and tuple(mask.shape) != size:
            raise InputError(
                f"the mask {home / name} has {mask.shape[1]} × {mask.shape[0]} pixels, but its image has {size[1]} × "
                f"{size[0]}; they must be of equal size"
            )
        outlines.append(json.dumps(mask_to_rle(mask), separators=(",", ":")) if name else "")
    return replace(source, columns=source.columns.replace(segmentations=Blob.of(outlines)))

"""Omni3D-style JSON: images with their camera K, and objects with a cuboid in the camera frame (Brazil et al., CVPR
2023).

    {"images": [{"id", "file_path", "width", "height", "K"}], "categories": [{"id", "name"}],
     "annotations": [{"image_id", "category_id", "bbox2D_tight", "bbox2D_trunc", "bbox2D_proj", "center_cam",
                      "dimensions", "R_cam", "valid3D", …}]}

Recognised are *.json with these keys, in the folder itself or in annotations/, one in total or one per split
(KITTI_train.json, KITTI_val.json, …), and the path of one such file. Images are found by their `file_path`, from the
folder of the file and those above it.

A box is the first of `bbox2D_tight`, `bbox2D_trunc`, `bbox2D_proj` that is not −1 (x1, y1, x2, y2). `center_cam` is the
centre of the cuboid in metres, `dimensions` are width, height and length, and `R_cam` is its rotation, as everywhere in
Sightline (`sightline.ops.cuboids`); the published data mixes sources whose pixels count from the corner or from the
centre of the first one, and K and boxes are taken as they are. An object with `valid3D` false, behind the camera or
without a size has no known cuboid. One with less than a third visible, or more than a third truncated, is `difficult`,
as the published evaluation ignores it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.data.blob import Blob
from sightline.data.builder import Builder
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.coco_gather import compact
from sightline.data.formats.finder import Finder
from sightline.data.formats.listed import head_of
from sightline.data.formats.listing import find_folder
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.ops.rotations import angles_from_rotation
from sightline.runtime.reading import read_json
from sightline.structures import Classes
from sightline.structures.view import require_intrinsics
from sightline.words import counted

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "Omni3D: *.json with images and their K, and annotations with center_cam"
_BOXES = ("bbox2D_tight", "bbox2D_trunc", "bbox2D_proj")
_THIRD = 0.33
"""Omni3D's thresholds of the visible and of the truncated fraction."""


@dataclass
class _Entry:
    """An image with its annotations."""

    content: dict[str, Any]
    file: Path
    split: str
    path: Path
    objects: list[tuple[int, dict[str, Any]]] = field(default_factory=list)


def recognise(root: Path) -> str | None:
    """A description of the file found in a folder, or of `root` itself; None if there is none."""
    if root.is_file():
        return root.name if looks_right(root) else None
    return next((files.relative(file, root) for file in _files(root)), None)


def looks_right(file: Path) -> bool:
    """Whether the beginning of a file has the keys of this format."""
    if file.suffix.lower() != ".json":
        return False
    head = head_of(file, 2**16)
    return b'"file_path"' in head and b'"K"' in head


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read Omni3D-style JSON; a split is a file. Arguments and errors: see `sightline.open_dataset`.

    Classes are the categories by increasing id. Annotations of images that are not listed are recorded as orphans.
    """
    root = root.absolute()
    if splits:
        parts = {name: files.resolve(root, given) for name, given in splits.items()}
    elif root.is_file():
        parts = {files.split_in(root.stem) or "all": root}
    else:
        parts = _by_split(root)
    home = files.home_of(root)
    folders = [*([images.absolute()] if images is not None else []), home, *home.parents[:2]]
    finder = Finder(
        [*folders, *(f for f in (find_folder(at, "images") for at in (home, home.parent)) if f is not None)]
    )
    categories: dict[Any, str] = {}
    entries: list[_Entry] = []
    orphans: list[str] = []
    for split, file in parts.items():
        _read_file(file, split, finder, categories, entries, orphans)
    if not entries:
        raise files.none_found(root, orphans, 'under "images"')
    names = list(dict.fromkeys(categories.values()))
    known = Classes(names if classes is None else classes)
    base = _base(home, images, entries)
    builder, extra = Builder(), []
    cuboids: list[list[float]] = []
    impossible: list[str] = []
    for entry in entries:
        size = (_side(entry, "height"), _side(entry, "width"))
        matrix = require_intrinsics(entry.content.get("K"), f"{entry.file}: image {entry.content['file_path']}: K")
        builder.add_image(files.relative(entry.path, base), size, [*parts].index(entry.split))
        extra.append(compact({"camera": {"matrix": matrix.tolist()}}))
        for number, content in entry.objects:
            where = f"{entry.file}: annotation {content.get('id', number)}"
            try:
                _add(builder, cuboids, content, where, categories, known)
                if _is_impossible(content):
                    impossible.append(f"annotation {content.get('id', number)} of {entry.file.name}")
            except InputError as error:
                skip_label(error, entry.file)
    columns = builder.build(extra={"cuboids": np.array(cuboids, np.float64).reshape(-1, 9)}, image_extra=Blob.of(extra))
    return Dataset(
        Source(
            columns=columns,
            classes=known,
            about="cuboids",
            root=base,
            format="omni3d",
            split_names=tuple(parts),
            label_files=tuple(file.absolute() for file in parts.values()),
            orphans=tuple(orphans[:1000]),
            notes=_impossible_note(impossible),
        )
    )


def _is_impossible(content: Mapping[str, Any]) -> bool:
    """Whether an object is said to have a cuboid (`valid3D`), although it is behind the camera or has no size."""
    if content.get("valid3D") is not True or content.get("behind_camera") is True:
        return False
    centre, sides = content.get("center_cam"), content.get("dimensions")
    return centre is not None and sides is not None and (centre[2] <= 0 or min(sides) <= 0)


def _impossible_note(found: Sequence[str]) -> tuple[str, ...]:
    if not found:
        return ()
    what = f"{counted(len(found), 'object')} with valid3D true, but behind the camera or with a side of 0 or less"
    return (f"{what}: the cuboids are taken as unknown; the first is {found[0]}",)


def _files(root: Path) -> list[Path]:
    for folder in (root, find_folder(root, "annotations")):
        found = (
            [] if folder is None else [file for file in files.with_ending(folder, ".json")[:200] if looks_right(file)]
        )
        if found:
            return found
    return []


def _by_split(root: Path) -> dict[str, Path]:
    found = _files(root)
    if not found:
        raise InputError(f"{root} has no .json with images, their K and annotations with center_cam; give its path")
    if len(found) == 1:
        return {files.split_in(found[0].stem) or "all": found[0]}
    parts = {files.split_in(file.stem) or file.stem: file for file in found}
    if len(parts) < len(found):
        names = ", ".join(file.name for file in found)
        raise InputError(f"{root} has several files for one split ({names}); give the path of one, or train=…, val=…")
    return {split: parts[split] for split in files.in_order(parts)}


def _read_file(
    file: Path, split: str, finder: Finder, categories: dict[Any, str], entries: list[_Entry], orphans: list[str]
) -> None:
    content = read_json(file, dict)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list) or not all(isinstance(one, dict) for one in content[key]):
            raise InputError(f'{file}: "{key}" must be a list of objects; export it again')
    for one in sorted(content["categories"], key=lambda one: str(one.get("id")).zfill(12)):
        if not isinstance(one.get("id"), int | str) or not str(one.get("name") or "").strip():
            raise InputError(f'{file} has a category without "id" or "name": {str(one)[:80]}; add them')
        categories.setdefault(one["id"], str(one["name"]).strip())
    by_id: dict[Any, _Entry | None] = {}
    for one in content["images"]:
        if "id" not in one or not isinstance(one.get("file_path"), str):
            raise InputError(f'{file} has an image without "id" or "file_path": {str(one)[:80]}; add them')
        if not isinstance(one["id"], int | str):
            raise InputError(
                f"{file}: the id of image {one['file_path']} is {str(one['id'])[:40]}, but must be a number or a text; "
                "correct it"
            )
        if one["id"] in by_id:
            raise InputError(
                f"{file}: image {one['file_path']} has the id {one['id']} of another image; give each image an id of "
                "its own"
            )
        place = finder.find(one["file_path"], near=(file.parent,))
        if place is None:
            orphans.append(f"{file.name}: image {one['file_path']}")
        by_id[one["id"]] = None if place is None else _Entry(one, file, split, place)
    for number, one in enumerate(content["annotations"]):
        if not isinstance(one.get("image_id"), int | str) or one["image_id"] not in by_id:
            orphans.append(f"{file.name}: annotation {one.get('id', number)} of image {one.get('image_id')}")
        elif (entry := by_id[one["image_id"]]) is not None:
            entry.objects.append((number, one))
    entries += [entry for entry in by_id.values() if entry is not None]


def _base(home: Path, images: Path | None, entries: Sequence[_Entry]) -> Path:
    """The folder that names are relative to: the dataset's, or the nearest one above that holds all images."""
    base = files.naming_root(home, images)
    while not all(entry.path.is_relative_to(base) for entry in entries) and base != base.parent:
        base = base.parent
    return base


def _side(entry: _Entry, name: str) -> int:
    value = entry.content.get(name)
    if type(value) is not int or value < 1:
        raise InputError(f"{entry.file}: image {entry.content['file_path']} has the {name} {value!r}; give its pixels")
    return value


def _add(
    builder: Builder,
    cuboids: list[list[float]],
    content: Mapping[str, Any],
    where: str,
    categories: Mapping[Any, str],
    classes: Classes,
) -> None:
    name = categories.get(content.get("category_id"))
    if name is None or name not in classes:
        raise files.unknown_class(where, f"category_id {content.get('category_id')!r}", list(classes))
    box = next(
        (own for key in _BOXES if (own := _floats(content, key, (4,), where)) is not None and own != [-1.0] * 4), None
    )
    if box is None:
        raise InputError(f"{where} has none of {', '.join(_BOXES)}; add a box x1, y1, x2, y2, or remove it")
    cuboid = _cuboid(content, where)
    seen, cut = (_fraction(content, key, where) for key in ("visibility", "truncation"))
    hard = 0 <= seen < _THIRD or cut > _THIRD
    builder.add_object(box, classes.id(name), crowd=bool(content.get("iscrowd")), difficult=hard)
    cuboids.append(cuboid)


def _cuboid(content: Mapping[str, Any], where: str) -> list[float]:
    """The nine numbers; NaN if they are unknown."""
    unknown = [math.nan] * 9
    if content.get("valid3D") is False or content.get("behind_camera") is True:
        return unknown
    centre, sides = _floats(content, "center_cam", (3,), where), _floats(content, "dimensions", (3,), where)
    rotation = _floats(content, "R_cam", (3, 3), where)
    if centre is None or sides is None or rotation is None:
        return unknown
    if min(sides) <= 0 or centre[2] <= 0:
        return unknown
    matrix = torch.tensor(rotation, dtype=torch.float64).reshape(3, 3)
    if not torch.allclose(matrix @ matrix.T, torch.eye(3, dtype=torch.float64), atol=1e-2) or matrix.det() < 0:
        raise InputError(
            f"{where}: R_cam is not a rotation matrix: {matrix.tolist()}; correct it, or set valid3D to false"
        )
    return [*centre, *sides, *angles_from_rotation(matrix).tolist()]


def _floats(content: Mapping[str, Any], key: str, shape: tuple[int, ...], where: str) -> list[float] | None:
    """The numbers of an entry as one flat list; None if it is missing."""
    value = content.get(key)
    if value is None:
        return None
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != shape or not np.isfinite(array).all():
        sides = " × ".join(map(str, shape))
        raise InputError(f"{where}: {key} is {str(value)[:60]}, but must be {sides} numbers; correct or remove it")
    flat: list[float] = array.flatten().tolist()
    return flat


def _fraction(content: Mapping[str, Any], key: str, where: str) -> float:
    """A fraction, −1 if it is unknown."""
    value = content.get(key, -1)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: {key} is {value!r}, but must be a number; correct or remove it")
    return float(value)

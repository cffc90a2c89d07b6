"""KITTI's object detection data: image_2/NAME.png, label_2/NAME.txt and calib/NAME.txt.

The folders are in the folder itself or in training/. ImageSets/train.txt, val.txt, … (beside the folders or above them)
list the names of each split; without them there is one split, "all". Names without a label file, such as those of the
test set, are left out.

A line of a label file is an object: class, truncated (fraction), occluded (0 to 3), alpha, box x1 y1 x2 y2, height,
width, length, position x y z, rotation_y. What differs here (`sightline.ops.cuboids`):

- the position of a cuboid is its centre, not the middle of its lower side, and in the frame of the camera of the image,
  not in that of KITTI's camera 0, which is a few centimetres beside it (P2 of the calibration has the shift);
- pixels count from the outer corner of the first pixel, not from its centre: 0.5 is added to boxes and to the principal
  point;
- roll and pitch are 0, and yaw is rotation_y.

"truncated", "occluded" and "alpha" become columns. Objects beyond KITTI's level "hard" are `difficult`. A DontCare
region is a crowd of each class that KITTI evaluates (car, pedestrian, cyclist), without a cuboid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.blob import Blob
from sightline.data.builder import Builder
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.coco_gather import compact
from sightline.data.formats.kitti_write import DONT_CARE, HALF, write
from sightline.data.formats.listing import contents, find_folder
from sightline.data.images import is_image
from sightline.data.kitti_levels import DIFFICULTIES, EVALUATED
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Classes
from sightline.words import counted

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "KITTI: label_2/*.txt beside image_2/ and calib/, perhaps in training/"


@dataclass(frozen=True)
class _Folders:
    base: Path
    labels: Path
    images: Path
    calib: Path | None


@dataclass(frozen=True)
class _Camera:
    """The matrix [3, 3] of the camera of an image, and the shift [3] from camera 0 to it in metres."""

    matrix: np.ndarray
    shift: np.ndarray


def recognise(root: Path) -> str | None:
    """A description of the labels found in a folder; None if there are none."""
    found = None if root.is_file() else _folders(root)
    return None if found is None else files.relative(found.labels, root)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read KITTI's objects. A split is a text file of names. Arguments and errors: see `sightline.open_dataset`.

    Classes are in alphabetical order. An image without a calibration file has no camera, and a note says so.
    """
    root = root.absolute()
    found = _folders(root, images)
    if found is None:
        raise InputError(f"{root} has no label_2/ beside image_2/; give KITTI's folder, such as the one with training/")
    pictures = {files.without_suffix(name): name for name in contents(found.images).files if is_image(name)}
    labels = {files.without_suffix(name) for name in contents(found.labels).files if name.endswith(".txt")}
    lists, notes = _lists(root, found, splits, labels)
    base = files.naming_root(root, images)
    reader = _Reader(classes)
    orphans, cameras = [], []
    for number, names in enumerate(lists.values()):
        for name in names:
            path = found.labels / f"{name}.txt"
            if name not in pictures:
                orphans.append(f"{files.relative(path, root)}")
                continue
            place = found.images / pictures[name]
            camera = _camera(found.calib / f"{name}.txt") if found.calib is not None else None
            cameras.append("" if camera is None else compact({"camera": {"matrix": camera.matrix.round(6).tolist()}}))
            reader.builder.add_image(
                files.relative(place, base), files.header_size(place), number, files.relative(path, base)
            )
            reader.labels(path, camera)
    if not cameras:
        raise files.none_found(root, orphans, f"in {files.relative(found.images, root)}/")
    if "" in cameras:
        notes.append(f"{counted(cameras.count(''), 'image')} without a calibration file have no known camera")
    columns, known = reader.finish(Blob.of(cameras) if any(cameras) else None)
    return Dataset(
        Source(
            columns=columns,
            classes=known,
            about="cuboids",
            root=base,
            format="kitti",
            split_names=tuple(lists),
            folders=(files.folder_name(found.images, base),) * len(lists),
            orphans=tuple(orphans[:1000]),
            notes=tuple(notes),
        )
    )


def _folders(root: Path, images: Path | None = None) -> _Folders | None:
    for base in (root, find_folder(root, "training")):
        if base is None:
            continue
        labels, pictures = find_folder(base, "label_2"), images or find_folder(base, "image_2")
        if labels is not None and pictures is not None:
            return _Folders(base, labels, pictures, find_folder(base, "calib"))
    return None


def _lists(
    root: Path, found: _Folders, splits: Mapping[str, str | Path] | None, labels: set[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """The names of the images of each split, and notes."""
    if splits:
        given = {name: files.resolve(root, path) for name, path in splits.items()}
    else:
        sets = next((f for at in (root, found.base, root.parent) if (f := find_folder(at, "ImageSets"))), None)
        every = [] if sets is None else files.with_ending(sets, ".txt")
        given = {files.split_name(file.stem): file for file in every if file.stem.lower() != "trainval"}
    if not given:
        return {"all": sorted(labels)}, []
    lists, notes = {}, []
    for split in files.in_order(given):
        path = given[split]
        if path.is_dir():
            raise InputError(
                f"{path} is a folder, but a split of KITTI's data is a text file with the names of its images"
            )
        names = [line.strip() for line in files.read_text(path).splitlines() if line.strip()]
        labelled = [name for name in names if name in labels]
        if labelled:
            lists[split] = labelled
        if len(labelled) < len(names):
            missing = next(name for name in names if name not in labels)
            count = counted(len(names) - len(labelled), "name")
            notes.append(f"{path.name}: {count} without a label file, such as {missing}, left out")
    if not lists:
        raise InputError(f"none of the names in {', '.join(path.name for path in given.values())} has a label file")
    return lists, notes


class _Reader:
    """Collects the objects of all label files."""

    def __init__(self, classes: Sequence[str] | None):
        self.fixed = classes is not None
        self.ids = {name: k for k, name in enumerate(classes or ())}
        self.builder = Builder()
        self.cuboids: list[list[float]] = []
        self.truncated: list[float] = []
        self.occluded: list[int] = []
        self.alpha: list[float] = []

    def labels(self, path: Path, camera: _Camera | None) -> None:
        """Add the objects of a label file to the current image."""
        for number, line in enumerate(files.read_text(path).splitlines(), 1):
            if line.strip():
                try:
                    self._object(f"{path} line {number}", line.split(), camera)
                except InputError as error:
                    skip_label(error, path, number)

    def _object(self, where: str, words: list[str], camera: _Camera | None) -> None:
        if len(words) not in (15, 16):
            raise InputError(
                f"{where} has {counted(len(words), 'value')}, but an object has 15: class, truncated, occluded, alpha, "
                "four of the box, three sizes, three of the position, rotation_y; correct or remove it"
            )
        name, values = words[0], _numbers(words[1:], where)
        truncated, occluded, alpha, x1, y1, x2, y2, h, w, length, x, y, z, yaw = values[:14]
        box = [value + HALF for value in (x1, y1, x2, y2)]
        if name == DONT_CARE:
            for k in self._evaluated():
                self._add(box, k, [math.nan] * 9, 0.0, 0, 0.0, crowd=True)
            return
        if name not in self.ids and self.fixed:
            raise files.unknown_class(where, f"class {name!r}", list(self.ids))
        known = min(h, w, length) > 0
        if not known and max(h, w, length) > 0:
            raise InputError(
                f"{where} has the height, width and length {h:g}, {w:g} and {length:g} m, but all must be above 0, or "
                "all −1 if they are unknown; correct or remove it"
            )
        shift = np.zeros(3) if camera is None else camera.shift
        centre = np.array([x, y - h / 2, z]) + shift
        cuboid = [*centre.tolist(), w, h, length, 0.0, 0.0, yaw] if known else [math.nan] * 9
        limits = DIFFICULTIES["hard"]
        beyond = occluded > limits.occluded or truncated > limits.truncated or y2 - y1 <= limits.height
        id = self.ids.setdefault(name, len(self.ids))
        self._add(box, id, cuboid, truncated, round(occluded), alpha, difficult=beyond)

    def _evaluated(self) -> list[int]:
        """Ids of the classes that KITTI evaluates; they are added, unless the user gave the classes."""
        if not self.fixed:
            for name in EVALUATED:
                self.ids.setdefault(name.capitalize(), len(self.ids))
        found = [k for name, k in self.ids.items() if name.lower() in EVALUATED]
        return found or [0]

    def _add(
        self,
        box: list[float],
        label: int,
        cuboid: list[float],
        truncated: float,
        occluded: int,
        alpha: float,
        *,
        crowd: bool = False,
        difficult: bool = False,
    ) -> None:
        self.builder.add_object(box, label, crowd=crowd, difficult=difficult)
        self.cuboids.append(cuboid)
        self.truncated.append(truncated)
        self.occluded.append(occluded)
        self.alpha.append(alpha)

    def finish(self, image_extra: Blob | None) -> tuple[Any, Classes]:
        """Columns and classes."""
        extra = {
            "cuboids": np.array(self.cuboids, np.float64).reshape(-1, 9),
            "truncated": np.array(self.truncated, np.float64),
            "occluded": np.array(self.occluded, np.int64),
            "alpha": np.array(self.alpha, np.float64),
        }
        columns = self.builder.build(extra=extra, image_extra=image_extra)
        if not self.fixed:
            columns = self._without_empty(columns)
        if self.fixed:
            return columns, Classes(self.ids)
        names = sorted(self.ids)
        places = np.array([names.index(name) for name in self.ids], np.int32)
        return columns.replace(labels=places[columns.labels] if len(places) else columns.labels), Classes(names)

    def _without_empty(self, columns: Any) -> Any:
        """Leave out DontCare regions and their classes, if there are objects, but none of a class KITTI evaluates."""
        named = set(columns.labels[~columns.crowd].tolist())
        if not named or any(name.lower() in EVALUATED for name, id in self.ids.items() if id in named):
            return columns
        ids = {old: new for new, old in enumerate(sorted(named))}
        self.ids = {name: ids[id] for name, id in self.ids.items() if id in ids}
        kept = columns.take_objects(np.isin(columns.labels, sorted(named)))
        return kept.replace(labels=np.array([ids[old] for old in kept.labels.tolist()], np.int32))


def _numbers(words: Sequence[str], where: str) -> list[float]:
    values = []
    for word in words:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{where} has {word!r}, but must have numbers after the class; correct or remove it")
        values.append(value)
    return values


def _camera(path: Path) -> _Camera | None:
    """The camera of an image, from the line "P2:" with twelve numbers; None without a file.

    Raises:
        InputError: the file has no such line, or it is not the matrix of a camera.
    """
    if not path.is_file():
        return None
    for number, line in enumerate(reading.read_text(path).splitlines(), 1):
        key, _, rest = line.partition(":")
        if key.strip() != "P2":
            continue
        where = f"{path} line {number}"
        values = _numbers(rest.split(), where)
        if len(values) != 12:
            raise InputError(f"{where}: P2 has {counted(len(values), 'number')}, but is a matrix of 3 × 4; correct it")
        matrix = np.array(values).reshape(3, 4)
        intrinsics = matrix[:, :3].copy()
        if not np.allclose(intrinsics[2], [0, 0, 1]) or abs(np.linalg.det(intrinsics)) < 1e-9:
            raise InputError(f"{where}: P2 is not the matrix of a camera: {intrinsics.tolist()}; correct it")
        shift = np.linalg.solve(intrinsics, matrix[:, 3])
        intrinsics[2] = [0, 0, 1]
        intrinsics[:2, 2] += HALF
        return _Camera(intrinsics, shift)
    raise InputError(f"{path} has no line P2, the matrix of the camera of image_2; add it, or remove the file")

"""Lines of YOLO label files: a box, a polygon, or a box with keypoints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sightline.data.builder import Builder
from sightline.data.formats import files
from sightline.data.malformed import skip_label
from sightline.data.segmentation import area_of
from sightline.errors import InputError
from sightline.runtime.limits import require_within
from sightline.structures import Classes, Size


@dataclass(frozen=True)
class Keypoints:
    """Keypoint settings in data.yaml.

    Attributes:
        points: P, number of keypoints per object.
        numbers: 2 (x, y) or 3 (x, y, visibility) per keypoint.
        names: one per keypoint; empty if the file has none.
        swap: for each keypoint the index of its mirror image (`flip_idx`); None if the file has none.
    """

    points: int
    numbers: int
    names: tuple[str, ...] = ()
    swap: tuple[int, ...] | None = None


@dataclass
class Lines:
    """Reads label files into a builder; lines that cannot be read are skipped (see `sightline.data.malformed`).

    Attributes:
        builder: receives the objects.
        names: class names by the ids in the files; None if only ids are known.
        classes: the classes that the objects' ids refer to; None for `names` by increasing id.
        keypoints: keypoints after each box; None for boxes and polygons.
        keypoint_rows: [P, 3] (x, y, visibility) for each object, if there are keypoints.
        predicted: number of lines with a confidence or a track number at the end (see `without_confidence`), or with
            confidences of keypoints in place of visibilities.
    """

    builder: Builder
    names: Mapping[int, str] | None
    classes: Classes | None
    keypoints: Keypoints | None = None
    keypoint_rows: list[np.ndarray] = field(default_factory=list)
    predicted: int = 0

    def __post_init__(self) -> None:
        self._places = None if self.names is None else {id: k for k, id in enumerate(self.names)}

    def text(self, label: Path | None) -> str | None:
        """The text of an image's label file, "" if it has none; None if the file cannot be read as text."""
        try:
            return "" if label is None else files.read_text(label)
        except InputError as error:
            skip_label(error, label or Path())
            return None

    def add(self, label: Path, text: str, size: Size) -> None:
        """Add the objects in the text of a label file to the current image."""
        for number, line in enumerate(text.splitlines(), 1):
            parts = line.split()
            if parts:
                try:
                    self._add(label, number, line, parts, size)
                except InputError as error:
                    skip_label(error, label, number)

    def _add(self, label: Path, number: int, line: str, parts: Sequence[str], size: Size) -> None:
        where = f"{label}: line {number}"
        height, width = size if all(size) else (float("nan"), float("nan"))
        try:
            if "_" in line:
                raise ValueError
            values = [float(part) for part in parts]
            id = int(values[0])
        except (ValueError, OverflowError):
            raise self._wrong(where, line) from None
        if len(values) < 5 or id != values[0] or id < 0:
            raise self._wrong(where, line)
        given = len(values)
        values = without_confidence(values, self.keypoints)
        points = self._points(values[5:]) if self.keypoints is not None else None
        if self.keypoints is None and len(values) > 5 and looks_like_keypoints(values[1:]):
            raise InputError(
                f"{where} looks like a box with {(len(values) - 5) // 3} keypoints (x, y, visibility), but no "
                "data.yaml has kpt_shape; write one with kpt_shape: [number of keypoints, 3]"
            )
        if (len(values) % 2 == 0) if self.keypoints is None else (points is None):
            raise self._wrong(where, line)
        place = self._class(where, id)
        three = self.keypoints is not None and self.keypoints.numbers == 3
        self.predicted += len(values) < given or (three and any(value % 1 for value in values[7::3]))
        if len(values) == 5 or points is not None:
            x, y, w, h = values[1] * width, values[2] * height, values[3] * width, values[4] * height
            self.builder.add_object((x - w / 2, y - h / 2, x + w / 2, y + h / 2), place)
        else:
            outline = np.array(values[1:]).reshape(-1, 2) * (width, height)
            (x1, y1), (x2, y2) = outline.min(0).tolist(), outline.max(0).tolist()
            flat = outline.ravel().round(4).tolist()
            polygon = json.dumps([flat], separators=(",", ":")) if all(size) else ""
            self.builder.add_object((x1, y1, x2, y2), place, area=area_of([flat], size), segmentation=polygon.encode())
        if points is not None:
            self.keypoint_rows.append(
                points * np.array([width if all(size) else 0.0, height if all(size) else 0.0, 1.0])
            )

    def _class(self, where: str, id: int) -> int:
        if self.names is None or self._places is None:
            require_within(f"{where}: the class id", id, "class_ids")
            return id
        if id not in self._places:
            known = [f"{k} {name}" for k, name in self.names.items()]
            raise files.unknown_class(where, f"class id {id}", known)
        if self.classes is None:
            return self._places[id]
        if self.names[id] not in self.classes:
            raise files.unknown_class(where, f"class {self.names[id]!r}", self.classes)
        return self.classes.id(self.names[id])

    def _points(self, values: Sequence[float]) -> np.ndarray | None:
        """float64 [P, 3]: x and y as fractions of the image, and visibility; None if the numbers are not such points.

        With two numbers per point, a point at (0, 0) or with a negative coordinate is absent; all others are visible.
        Visibilities between 0 and 1 are confidences of predictions: points are visible from 0.5, else absent.
        """
        assert self.keypoints is not None, "called only if there are keypoints"
        total, each = self.keypoints.points, self.keypoints.numbers
        if not values:
            return np.zeros((total, 3))
        if len(values) != total * each:
            return None
        points = np.zeros((total, 3))
        points[:, :each] = np.array(values).reshape(total, each)
        if each == 2:
            absent = (points[:, :2] < 0).any(1) | (points[:, :2] == 0).all(1)
            points[:, 2] = np.where(absent, 0, 2)
        elif (points[:, 2] % 1 != 0).any() and ((points[:, 2] >= 0) & (points[:, 2] <= 1)).all():
            points[:, 2] = np.where(points[:, 2] < 0.5, 0, 2)
        elif not np.isin(points[:, 2], (0, 1, 2)).all():
            return None
        points[points[:, 2] == 0] = 0
        return points if np.isfinite(points).all() else None

    def _wrong(self, where: str, line: str) -> InputError:
        shown = line.strip()
        shown = shown if len(shown) <= 60 else shown[:57] + "…"
        what = "(or a polygon's points), with nothing but a confidence or a track number after a box"
        if self.keypoints is not None:
            total, each = self.keypoints.points, self.keypoints.numbers
            kinds = "x, y, visibility 0, 1 or 2" if each == 3 else "x, y"
            what = f"and {total} keypoints of {each} numbers ({kinds}), as kpt_shape says: {5 + total * each} numbers"
        return InputError(
            f"{where} is {shown!r}, but a line must be a class id and the box's centre x, centre y, width and height "
            f"as fractions of the image {what}; correct or remove it"
        )


def without_confidence(values: list[float], keypoints: Keypoints | None) -> list[float]:
    """The numbers of a line without a confidence (0 … 1), a track number, or both in this order, after the label.

    Tools append them to predicted boxes and keypoints. After a polygon, a confidence is indistinguishable from a
    polygon that lacks a coordinate, and is not removed.

    >>> without_confidence([0, 0.5, 0.5, 0.1, 0.1, 0.87], None)
    [0, 0.5, 0.5, 0.1, 0.1]
    """
    whole = [5] if keypoints is None else [5, 5 + keypoints.points * keypoints.numbers]
    if len(values) in whole:
        return values
    for expected in whole:
        more = values[expected:]
        if len(more) == 1 and (0 <= more[0] <= 1 or _is_track(more[0])):
            return values[:expected]
        if len(more) == 2 and 0 <= more[0] <= 1 and _is_track(more[1]):
            return values[:expected]
    return values


def _is_track(value: float) -> bool:
    """Whether a number is that of a track: whole, and beyond 1, up to where it could be a polygon's coordinate."""
    return 1 < value < 2**31 and value == int(value)


def looks_like_keypoints(values: Sequence[float]) -> bool:
    """Whether numbers after a class id are a box and then points of x, y and a visibility of 0, 1 or 2 inside it."""
    if len(values) < 7 or (len(values) - 4) % 3:
        return False
    (x, y, w, h), points = values[:4], np.array(values[4:]).reshape(-1, 3)
    if not np.isin(points[:, 2], (0, 1, 2)).all() or not (points[:, 2] > 0).any():
        return False
    seen = points[points[:, 2] > 0]
    return bool((np.abs(seen[:, :2] - (x, y)) <= np.array([w, h]) / 2 + 1e-3).all())

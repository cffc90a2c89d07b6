"""Builds columns image by image."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.errors import InputError

_LARGEST = 2**30


def _shown(side: int) -> str:
    return f"{side}" if abs(side) < 10**12 else "more than 10^12"


class Builder:
    """Collects columns image by image without one Python object per box, for readers of many small label files."""

    def __init__(self) -> None:
        self._boxes, self._areas = array("d"), array("d")
        self._labels, self._heights, self._widths = array("i"), array("i"), array("i")
        self._crowd, self._difficult, self._splits = array("b"), array("b"), array("b")
        self._image_ids, self._ends = array("q"), array("q", [0])
        self._segmentations: list[bytes] = []
        self._names: list[str] = []
        self._label_names: list[str] = []

    def add_image(self, name: str, size: tuple[int, int], split: int, label_name: str = "") -> None:
        """Begin the next image; `size` is (height, width), 0 if unknown.

        Raises:
            InputError: the size is negative or too large for an image.
        """
        if not all(0 <= side < _LARGEST for side in size):
            stated = f"{_shown(size[1])} × {_shown(size[0])} pixels"
            raise InputError(
                f"{label_name or name}: the image size is given as {stated}, which is impossible; correct it"
            )
        self._names.append(name)
        self._label_names.append(label_name)
        self._heights.append(size[0])
        self._widths.append(size[1])
        self._splits.append(split)
        self._image_ids.append(len(self._names))
        self._ends.append(self._ends[-1])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the current image."""
        return self._heights[-1], self._widths[-1]

    def add_object(
        self,
        box: Sequence[float],
        label: int,
        *,
        crowd: bool = False,
        difficult: bool = False,
        area: float | None = None,
        segmentation: bytes = b"",
    ) -> None:
        """Add an object (box x1, y1, x2, y2 in pixels) to the current image."""
        x1, y1, x2, y2 = box
        self._boxes.extend(box)
        self._areas.append(max(x2 - x1, 0.0) * max(y2 - y1, 0.0) if area is None else area)
        self._labels.append(label)
        self._crowd.append(crowd)
        self._difficult.append(difficult)
        self._segmentations.append(segmentation)
        self._ends[-1] += 1

    def build(self, **columns: Any) -> Columns:
        """Return the collected columns; `columns` adds or replaces columns."""
        total = len(self._labels)
        ready: dict[str, Any] = {
            "offsets": np.array(self._ends, np.int64),
            "boxes": np.array(self._boxes, np.float64).reshape(-1, 4),
            "labels": np.array(self._labels, np.int32),
            "crowd": np.array(self._crowd, bool),
            "difficult": np.array(self._difficult, bool),
            "areas": np.array(self._areas, np.float64),
            "ids": np.arange(1, total + 1, dtype=np.int64),
            "segmentations": Blob.of(self._segmentations),
            "names": Blob.of(self._names),
            "heights": np.array(self._heights, np.int32),
            "widths": np.array(self._widths, np.int32),
            "image_ids": np.array(self._image_ids, np.int64),
            "splits": np.array(self._splits, np.int8),
            "label_names": Blob.of(self._label_names) if any(self._label_names) else None,
        }
        return Columns(**ready | columns)

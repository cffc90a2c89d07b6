"""Labels whose stated size is the size of the image before EXIF rotation.

Either only the size is wrong and the labels were drawn on the upright image, or both belong to the image as stored.
The labels decide: if they extend beyond one of the two frames, they belong to the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from sightline.data.blob import Blob
from sightline.data.check.labels import OUTSIDE
from sightline.data.columns import Columns
from sightline.data.orientation import STANDING
from sightline.structures import Size

Drawn = Literal["upright", "stored"]
WORDS: dict[Drawn | None, str] = {
    "upright": "the labels fit only the upright image: the size is wrong",
    "stored": "the labels fit only the image as stored: they must be rotated, too",
    None: "the labels do not show whether they were drawn on the upright or the stored image: look at it",
}


def is_stored_size(stated: Size, upright: Size | None, orientation: int) -> bool:
    """Whether the stated size is the size of the stored image, before rotation by EXIF orientation 5 to 8."""
    return orientation >= 5 and upright is not None and stated != upright and stated == upright[::-1]


def drawn_on(columns: Columns, i: int, upright: Size) -> Drawn | None:
    """On which image the labels of image `i` were drawn; None if the labels do not show it.

    Objects that fit only one of the two images decide, if they agree. If there are no objects, only the size is wrong.
    """
    rows = columns.objects_of(i)
    if not len(rows):
        return "upright"
    found: set[Drawn] = set()
    for row in rows:
        inside = _fits(columns, row, upright), _fits(columns, row, upright[::-1])
        if inside[0] != inside[1]:
            found.add("upright" if inside[0] else "stored")
    return found.pop() if len(found) == 1 else None


def _fits(columns: Columns, row: int, size: Size) -> bool:
    height, width = size
    points = [columns.boxes[row].reshape(2, 2)]
    if columns.keypoints is not None:
        points.append(columns.keypoints[row][columns.keypoints[row, :, 2] > 0, :2].astype(np.float64))
    if columns.segmentations.lengths[row]:
        entry = json.loads(columns.segmentations[row])
        if isinstance(entry, dict):
            if entry.get("size") != [height, width]:
                return False
        else:
            points += [np.asarray(ring[: len(ring) // 2 * 2], np.float64).reshape(-1, 2) for ring in _rings(entry)]
    xy = np.concatenate(points)
    xy = xy[np.isfinite(xy).all(1)]
    return bool(((xy >= -OUTSIDE) & (xy <= np.array([width, height]) + OUTSIDE)).all())


def _rings(entry: object) -> list[list[float]]:
    """The polygons of a segmentation that contain only numbers."""
    rings = entry if isinstance(entry, list) else []
    return [r for r in rings if isinstance(r, list) and all(isinstance(v, int | float) for v in r)]


def rotate_upright(columns: Columns, i: int, orientation: int, stored: Size, swap: tuple[int, ...] | None) -> Columns:
    """Columns in which the labels of image `i`, drawn on the stored image, are rotated upright.

    Args:
        columns: columns of all images.
        i: position of the image.
        orientation: EXIF orientation, 5 to 8.
        stored: (height, width) of the image before rotation.
        swap: keypoint permutation for mirroring; used for the two orientations that mirror.
    """
    rows = slice(int(columns.offsets[i]), int(columns.offsets[i + 1]))
    height, width = stored

    def moved(xy: np.ndarray) -> np.ndarray:
        x, y = xy[..., 0], xy[..., 1]
        return np.stack([height - y if orientation in (6, 7) else y, width - x if orientation in (7, 8) else x], -1)

    corners = moved(columns.boxes[rows].reshape(-1, 2, 2))
    boxes = columns.boxes.copy()
    first, second = corners[:, 0], corners[:, 1]
    # an inverted box stays inverted: each side keeps its sign
    start = np.where(_reversed(orientation), second, first)
    boxes[rows] = np.concatenate([start, first + second - start], axis=1)
    heights, widths = columns.heights.copy(), columns.widths.copy()
    heights[i], widths[i] = width, height
    changed = columns.replace(boxes=boxes, heights=heights, widths=widths)
    if columns.keypoints is not None:
        points = columns.keypoints.copy()
        own = points[rows]
        own[..., :2] = np.where(own[..., 2:] > 0, moved(own[..., :2]), own[..., :2])
        points[rows] = own[:, list(swap)] if orientation in (5, 7) and swap is not None else own
        changed = changed.replace(keypoints=points)
    if not columns.segmentations.lengths[rows].any():
        return changed
    entries = list(columns.segmentations)
    for row in range(rows.start, rows.stop):
        if entries[row]:
            entries[row] = _rotated_outline(json.loads(entries[row]), orientation, moved)
    return changed.replace(segmentations=Blob.of(entries))


def _reversed(orientation: int) -> np.ndarray:
    """bool [2]: whether x and y of the upright image run against the axis of the stored image they come from."""
    return np.array([orientation in (6, 7), orientation in (7, 8)])


def _rotated_outline(entry: object, orientation: int, moved: Callable[[np.ndarray], np.ndarray]) -> bytes:
    from sightline.ops.masks import mask_to_rle, rle_to_mask

    if isinstance(entry, dict):
        mask = np.ascontiguousarray(STANDING[orientation](rle_to_mask(entry).numpy()))
        return json.dumps(mask_to_rle(torch.from_numpy(mask)), separators=(",", ":")).encode()
    rings = [moved(np.asarray(ring[: len(ring) // 2 * 2], np.float64).reshape(-1, 2)) for ring in _rings(entry)]
    return json.dumps([ring.reshape(-1).round(6).tolist() for ring in rings], separators=(",", ":")).encode()

"""The repairs of `fix`: columns in, columns without errors and broken boxes, outlines and keypoints out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np

from sightline.data.blob import Blob
from sightline.data.check.labels import bad_boxes, duplicate_boxes
from sightline.data.check.outlines import bad_keypoints, bad_outlines
from sightline.data.columns import Columns
from sightline.data.segmentation import usable_part


def repair_outlines(columns: Columns, counts: Counter[str]) -> Columns:
    """Columns without unusable polygons and masks; the rest of each outline is kept."""
    sizes = np.column_stack([columns.heights, columns.widths]).astype(np.int64)
    bad = {row: rule for rule, rows in bad_outlines(columns, sizes).items() for row in rows}
    if not bad:
        return columns
    entries = list(columns.segmentations)
    images = columns.image_of
    for row, rule in bad.items():
        height, width = sizes[images[row]].tolist()
        part = usable_part(json.loads(entries[row]), (height, width))
        entries[row] = b"" if part is None else json.dumps(part, separators=(",", ":")).encode()
        counts[rule if part is None else "outline-part"] += 1
    return columns.replace(segmentations=Blob.of(entries))


def repair_keypoints(columns: Columns, counts: Counter[str]) -> Columns:
    """Columns in which keypoints outside the image are absent and the others have a valid visibility."""
    if columns.keypoints is None:
        return columns
    keypoints = columns.keypoints.copy()
    sizes = np.column_stack([columns.heights, columns.widths]).astype(np.int64)
    for rule, found in bad_keypoints(columns, sizes).items():
        counts[rule] += int(found.any(1).sum())
        if rule == "keypoint-visibility":
            keypoints[found, 2] = np.where(keypoints[found, 2] > 0, 2, 0)
        else:
            keypoints[found] = 0
    return columns.replace(keypoints=keypoints)


def _clipped_outlines(columns: Columns, frame: np.ndarray, chosen: np.ndarray) -> Blob:
    """The segmentations, with polygons of the `chosen` objects clipped: some formats derive boxes from them."""
    if not (chosen & (columns.segmentations.lengths > 0)).any():
        return columns.segmentations
    entries = list(columns.segmentations)
    for row in np.flatnonzero(chosen & (columns.segmentations.lengths > 0)).tolist():
        polygons = json.loads(entries[row])
        if isinstance(polygons, list):
            width, height = frame[row].tolist()
            inside = [ring for polygon in polygons if len(ring := clip_polygon(polygon, width, height)) >= 6]
            entries[row] = json.dumps(inside, separators=(",", ":")).encode() if inside else b""
    return Blob.of(entries)


def clip_polygon(polygon: Sequence[float], width: float, height: float) -> list[float]:
    """The part of a flat polygon inside 0 … width and 0 … height; an empty list if there is none.

    Source: Sutherland and Hodgman, Reentrant Polygon Clipping, 1974.
    """
    points = [(float(x), float(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
    for axis, edge, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        kept: list[tuple[float, float]] = []
        for k, end in enumerate(points):
            start = points[k - 1]
            depths = [sign * (point[axis] - edge) for point in (start, end)]
            if (depths[0] < 0) != (depths[1] < 0):  # the side crosses the edge
                share = depths[0] / (depths[0] - depths[1])
                across = start[1 - axis] + share * (end[1 - axis] - start[1 - axis])
                kept.append((edge, across) if axis == 0 else (across, edge))
            if depths[1] >= 0:
                kept.append(end)
        points = kept
    return [round(value, 6) for point in points for value in point]


def repair_boxes(columns: Columns, classes: int, how: str, counts: Counter[str]) -> Columns:
    """Columns with valid boxes; each action is added to `counts`."""
    sizes = np.column_stack([columns.heights, columns.widths]).astype(np.int64)
    bad = bad_boxes(columns, sizes, classes)
    boxes = columns.boxes.copy()
    remove = np.zeros(columns.objects, dtype=bool)
    removed_for = ["unknown-class", "box-not-finite", "box-zero-area"]
    if how == "drop":
        removed_for += ["box-inverted", "box-outside"]
    else:
        inverted = bad["box-inverted"]
        boxes[inverted] = np.sort(boxes[inverted].reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        counts["box-reordered"] += int(inverted.sum())
    for rule in removed_for:
        counts[rule] += int((bad[rule] & ~remove).sum())
        remove |= bad[rule]
    frame = sizes[columns.image_of][:, ::-1]
    with np.errstate(invalid="ignore"):
        clipped = np.minimum(boxes.clip(0), np.tile(frame, 2))
        shift = np.abs(clipped - boxes).max(1, initial=0)
    gone = ~remove & (clipped[:, 2:] <= clipped[:, :2]).any(1)  # entirely outside the image
    counts["box-zero-area"] += int(gone.sum())
    remove |= gone
    if how == "clip":
        counts["box-clipped"] += int((~remove & (shift > 0.5)).sum())
    changed = ~remove & (clipped != columns.boxes).any(1)
    own = (columns.boxes[:, 2:] - columns.boxes[:, :2]).prod(1)
    by_box = changed & ((columns.segmentations.lengths == 0) | np.isclose(columns.areas, np.abs(own)))
    areas = np.where(by_box, (clipped[:, 2:] - clipped[:, :2]).prod(1), columns.areas)
    repaired = columns.replace(boxes=np.where(remove[:, None], boxes, clipped), areas=areas)
    if how == "clip":
        repaired = repaired.replace(segmentations=_clipped_outlines(columns, frame, ~remove & (shift > 0)))
    twice = duplicate_boxes(repaired) & ~remove
    counts["box-duplicate"] += int(twice.sum())
    return repaired.take_objects(~(remove | twice))

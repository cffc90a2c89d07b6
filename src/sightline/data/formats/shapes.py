"""Shapes drawn with annotation tools: converting them to boxes and outlines, and objects back to shapes.

All readers of drawn shapes follow these rules:

- a polygon is an outline; the box is the bounding box of its points;
- a circle or an ellipse becomes a polygon that deviates by at most 0.05 pixels; a rotated box becomes its four corners;
- an axis-aligned rectangle is only a box: it has no outline (as in COCO files written by CVAT);
- lines and points enclose no area: the box is their bounding box, and there is no outline.

If the tool's shape is neither a box nor a polygon, it is kept in an extra column "shape", so that writing restores the
original circle or line.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats.voc_write import not_held
from sightline.data.segmentation import FAR, outline_of
from sightline.errors import InputError
from sightline.structures import Size

Shape = dict[str, Any]
"""A drawn shape as JSON values: "kind" is "ellipse" (cx, cy, rx, ry, angle), "box" (box, angle), "line" or "points"
(points: x1, y1, x2, y2, …). Coordinates in pixels; angles in degrees, clockwise in the image."""

_SAGITTA = 0.05
MARKS = {"crowd": "crowd", "iscrowd": "crowd", "difficult": "difficult"}
FLAGS = ("occluded", "truncated")
TEXTS = ("pose",)
RESERVED = frozenset([*MARKS, *FLAGS, *TEXTS, "caption"])
"""Names of attributes that have their own column."""


# Geometry


def ellipse_polygon(cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> list[float]:
    """A flat polygon with its points on the ellipse, at most 0.05 pixels from it, including the four extreme points."""
    radius = max(abs(rx), abs(ry))
    quarters = math.ceil(math.pi / 4 * math.sqrt(radius / (2 * _SAGITTA))) if math.isfinite(radius) else 0
    turn = np.arange(4 * max(3, quarters)) * (math.pi / 2 / max(3, quarters))
    points = _turned(np.stack([rx * np.cos(turn), ry * np.sin(turn)], 1), angle) + np.array([cx, cy])
    return points.ravel().round(4).tolist()


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    if not angle:
        return points
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return points @ np.array([[cos, sin], [-sin, cos]])


def bounds(polygons: Iterable[Sequence[float]]) -> tuple[float, float, float, float]:
    """The bounding box of all points of flat polygons."""
    points = np.concatenate([np.asarray(polygon, np.float64) for polygon in polygons]).reshape(-1, 2)
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return x1, y1, x2, y2


def geometry(shape: Shape) -> tuple[tuple[float, float, float, float], list[float] | None]:
    """The bounding box of a shape, and its outline as a flat polygon (None if it encloses no area)."""
    if shape["kind"] == "ellipse":
        polygon = ellipse_polygon(shape["cx"], shape["cy"], shape["rx"], shape["ry"], shape.get("angle", 0.0))
        return bounds([polygon]), polygon
    if shape["kind"] == "box":
        x1, y1, x2, y2 = shape["box"]
        centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        polygon = (_turned(corners - centre, shape["angle"]) + centre).ravel().round(4).tolist()
        return bounds([polygon]), polygon
    return bounds([shape["points"]]), None


def as_numbers(values: Any, where: str, even: bool = False) -> list[float]:
    """Convert values of a file to numbers; raises InputError if they are not numbers."""
    try:
        numbers = [float(value) for value in values]
        if not all(abs(number) < FAR for number in numbers):  # False for NaN, too
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        shown = repr(values)
        raise InputError(
            f"{where} has the coordinates {shown if len(shown) < 60 else shown[:57] + '…'}, but they must be numbers; "
            "correct or remove it"
        ) from None
    if even and (len(numbers) % 2 or not numbers):
        raise InputError(f"{where} has {len(numbers)} coordinates, but points need x and y each; correct or remove it")
    return numbers


def joined(polygons: Sequence[Sequence[float]], size: Size) -> list[float]:
    """One flat polygon that covers the pixels of several: parts are connected by slits of zero width.

    If parts overlap, or a slit would be visible, the polygon follows the pixel edges instead.

    Args:
        polygons: flat polygons, at least one.
        size: (height, width) of the image.
    """
    from sightline.ops.masks import mask_to_polygons, polygons_to_mask

    if len(polygons) == 1:
        return list(polygons[0])
    mask = polygons_to_mask(polygons, size)
    ring = _spliced(polygons)
    if bool((polygons_to_mask([ring], size) != mask).any()):
        ring = _spliced(mask_to_polygons(mask) or polygons)
    return ring


def _spliced(polygons: Sequence[Sequence[float]]) -> list[float]:
    ring, *rest = [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in polygons]
    for part in rest:
        apart = ((ring[:, None] - part) ** 2).sum(2)
        i, j = np.unravel_index(int(apart.argmin()), apart.shape)
        ring = np.concatenate([ring[: i + 1], part[j:], part[: j + 1], ring[i:]])
    return ring.ravel().tolist()


# Writing


def attributes_of(columns: Columns, a: int) -> dict[str, Any]:
    """The data of object `a` beyond class and outline, as attributes for `Gather.object`."""
    found: dict[str, Any] = {}
    if columns.crowd[a]:
        found["crowd"] = "1"
    if columns.difficult[a]:
        found["difficult"] = "1"
    for name in (*FLAGS, *TEXTS):
        column = columns.extra.get(name)
        value = None if column is None else column.text(a) if isinstance(column, Blob) else bool(column[a])
        if value:
            found[name] = "1" if value is True else value
    if columns.captions is not None and columns.captions[a]:
        found["caption"] = columns.captions.text(a)
    other = columns.extra.get("other")
    if isinstance(other, Blob) and other[a]:
        found = json.loads(other[a]) | found
    return found


def shape_of(columns: Columns, a: int) -> Shape | None:
    """The shape that object `a` was drawn as, if it still matches the box."""
    column = columns.extra.get("shape")
    if not isinstance(column, Blob) or not column[a]:
        return None
    shape: Shape = json.loads(column[a])
    box, polygon = geometry(shape)
    same = np.allclose(box, columns.boxes[a], atol=1e-3) and (polygon is not None) == bool(columns.segmentations[a])
    return shape if same else None


def ring_of(columns: Columns, a: int, size: Size, where: str) -> list[float] | None:
    """The outline of object `a` as one flat polygon; None if it has none or contains no pixel."""
    from sightline.ops.masks import mask_to_polygons, rle_to_mask

    outline = outline_of(columns, a, where)
    if isinstance(outline, dict):
        outline = mask_to_polygons(rle_to_mask(outline))
    return joined(outline, size) if outline else None


def lost_by(dataset: Dataset, columns: Columns, held: Iterable[str] = ()) -> Counter[str]:
    """What is lost if a dataset is written as shapes with attributes."""
    lost = not_held(dataset, columns, frozenset([*FLAGS, *TEXTS, "shape", "other", *held]))
    for name in ("segmentations", "captions"):
        lost.pop(name, None)
    short, moved = 0, 0
    images = columns.image_of
    starts = columns.offsets[images]
    for a in np.flatnonzero(columns.segmentations.lengths > 0).tolist():
        outline = outline_of(columns, a, f"{columns.names.text(int(images[a]))}: object {a - int(starts[a])}")
        if outline is None:
            short += 1
        elif isinstance(outline, list) and shape_of(columns, a) is None:
            moved += bool(np.abs(np.subtract(bounds(outline), columns.boxes[a])).max() > 1)
    lost["outlines of fewer than three points"] = short
    lost["boxes apart from their outlines"] = moved
    return +lost


def plain(values: Sequence[float], digits: int = 6) -> list[float | int]:
    """Coordinates for JSON: integers if possible."""
    rounded = [round(float(value), digits) for value in values]
    return [int(value) if value.is_integer() else value for value in rounded]

"""An object's segmentation as stored in files: validation, usable parts, area, mask.

A segmentation is a list of flat polygons x1, y1, x2, y2, … in pixels, or an RLE (see `sightline.ops.masks`). Checking,
repairing and creating targets use the same functions, so `check` reports exactly what a target would refuse.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from sightline.data.columns import Columns
from sightline.errors import InputError
from sightline.ops.masks import polygons_to_mask, polygons_to_rle, rle_area, rle_spans, rle_to_mask
from sightline.structures import Size

LEAST = 6
"""Minimum number of coordinates of a polygon: three points."""
FAR = 1e7
"""Upper limit of coordinates, in pixels."""


class Fault(NamedTuple):
    """The problem of a segmentation: the rule of `check`, and words that follow the object's name."""

    rule: str
    value: str


def fault_of(segmentation: Any, size: Size) -> Fault | None:
    """The problem that makes a segmentation unusable, or None.

    Args:
        segmentation: the parsed entry of the file.
        size: (height, width) of the image; 0 if unknown, which skips the comparison of sizes.
    """
    if isinstance(segmentation, dict):
        return _fault_of_rle(segmentation, size)
    if not isinstance(segmentation, list) or not all(isinstance(ring, list) for ring in segmentation):
        return Fault("outline-malformed", "has an outline that is neither a list of polygons nor an RLE")
    strange = next((value for ring in segmentation for value in ring if not _is_finite(value)), 0)
    if not _is_finite(strange):
        what = f"has a polygon with the coordinate {_short(strange)}, which is not a finite number"
        return Fault("outline-malformed", what)
    words = next((words for ring in segmentation if (words := _fault_of_ring(ring))), "")
    if not words:
        return None
    several = f" (one of {len(segmentation)})" if len(segmentation) > 1 else ""
    return Fault("outline-broken", f"has a polygon{several} {words}")


def _fault_of_rle(rle: dict[str, Any], size: Size) -> Fault | None:
    stated, known = rle.get("size"), rle.get("counts")
    if not isinstance(stated, list) or len(stated) != 2 or not all(type(s) in (int, float) for s in stated):
        return Fault("outline-malformed", "has an RLE without size and counts")
    if not isinstance(known, list | str):
        return Fault("outline-malformed", "has an RLE without size and counts")
    if all(size) and tuple(stated) != tuple(size):
        what = f"has a mask of {stated[1]:g} × {stated[0]:g} pixels, but the image is {size[1]} × {size[0]}"
        return Fault("mask-size-differs", what)
    try:
        rle_area(rle)
    except InputError as error:
        why = str(error).removesuffix("; encode the mask again")
        return Fault("outline-malformed", f"has a mask that cannot be read ({why})")
    return None


def _fault_of_ring(ring: list[Any]) -> str:
    """The problem of one polygon, in words; "" if there is none."""
    for value in ring:
        if not _is_finite(value) or not abs(value) < FAR:
            return f"with the coordinate {_short(value)}, which is outside any image"
    if len(ring) % 2:
        return f"of {len(ring)} coordinates, but points need x and y each"
    if len(ring) < LEAST:
        return f"of {len(ring) // 2} point{'s' * (len(ring) != 2)}, but an outline needs three or more"
    return ""


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < math.inf  # False for NaN, too


def _short(value: Any) -> str:
    return repr(value)[:40]


def usable_part(segmentation: Any, size: Size) -> list[list[float]] | dict[str, Any] | None:
    """The usable part of a segmentation: the RLE, or the valid polygons; None if there is none."""
    if isinstance(segmentation, list):
        return [ring for ring in segmentation if isinstance(ring, list) and not _fault_of_ring(ring)] or None
    return segmentation if isinstance(segmentation, dict) and fault_of(segmentation, size) is None else None


def area_of(segmentation: Any, size: Size) -> float | None:
    """Pixels in the mask of the usable part, rasterised as by the COCO tools; None if nothing is usable.

    This is COCO's area of an object. The area of the polygon differs: it is near 0 if an outline crosses itself.

    Args:
        segmentation: the parsed entry of the file.
        size: (height, width) of the image; if it is unknown, the mask is as large as the polygons.
    """
    part = usable_part(segmentation, size)
    if part is None:
        return None
    if isinstance(part, dict):
        return float(rle_area(part))
    if not all(size):
        points = np.concatenate([np.asarray(ring, np.float64) for ring in part]).reshape(-1, 2)
        width, height = np.ceil(points.max(0).clip(1, 2**20)).astype(int).tolist()
        size = (height, width)
    return float(rle_area(polygons_to_rle(part, size)))


def mask_of(segmentation: Any, size: Size) -> Tensor:
    """The mask [H, W] bool of a segmentation in an image of `size`.

    Raises:
        InputError: the segmentation is unusable; the message begins with a verb, so that a name can precede it.
    """
    fault = fault_of(segmentation, size)
    if fault is not None:
        raise InputError(f"{fault.value}; correct or remove it (sightline check --fix does)")
    return rle_to_mask(segmentation) if isinstance(segmentation, dict) else polygons_to_mask(segmentation, size)


def outline_of(columns: Columns, a: int, where: str) -> list[list[float]] | dict[str, Any] | None:
    """The polygons (with at least three points) or the RLE of object `a`; None if it has no outline.

    Raises:
        InputError: it is unusable; the message begins with `where`, which names image and object.
    """
    entry = columns.segmentations[a]
    if not entry:
        return None
    value = json.loads(entry)
    if isinstance(value, list):
        value = [polygon for polygon in value if not (isinstance(polygon, list) and len(polygon) < LEAST)]
    fault = fault_of(value, (0, 0))
    if fault is not None:
        raise InputError(f"{where} {fault.value}; correct or remove it (sightline check --fix does)")
    return value or None


def spans_of(columns: Columns, a: int, size: tuple[int, int], where: str) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of object `a` as `rle_spans`: runs in column-major order; without an outline, the box is filled."""
    outline = outline_of(columns, a, where)
    if outline is None:
        x1, y1, x2, y2 = columns.boxes[a].tolist()
        outline = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    rle = outline if isinstance(outline, dict) else polygons_to_rle(outline, size)
    spans = rle_spans(rle)
    if tuple(rle["size"]) != size:
        raise InputError(
            f"{where}: a mask has size {[*rle['size']]}, but the image has {[*size]}; correct or remove it"
        )
    return spans

"""LabelMe shapes as objects: parts with one group_id are one object."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.data.formats import shapes
from sightline.data.formats.gather import Gather
from sightline.data.malformed import skip_label
from sightline.errors import InputError
from sightline.structures import Size

_KNOWN = frozenset(["label", "points", "group_id", "description", "shape_type", "flags", "mask"])
_QUADRILATERALS = ("rotation", "rotated_rectangle", "oriented_rectangle", "quadrilateral")
"""Names that programs related to LabelMe use for shapes with four corners, in order around the shape."""
_AREAS = frozenset(["polygon", "circle", "mask"])


def add_objects(gather: Gather, file: Path, stated: list[Any], size: Size) -> None:
    """Add the objects of a file to the current image; a shape that cannot be read is skipped."""
    groups: dict[tuple[str, Any], list[int]] = {}
    for k, shape in enumerate(stated):
        try:
            groups.setdefault(_group(file, k, shape), []).append(k)
        except InputError as error:
            skip_label(error, file)
    for (label, _), members in groups.items():
        try:
            _add(gather, f"{file}: shape {members[0]}", label, [stated[k] for k in members], size)
        except InputError as error:
            skip_label(error, file)


def _group(file: Path, k: int, shape: Any) -> tuple[str, Any]:
    """The label of a shape, and the key it shares with other parts of its object."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
        raise InputError(f"{file}: shape {k} has no label; name its class, or remove it")
    group = shape.get("group_id")
    if not isinstance(group, int | str | None):
        raise InputError(f"{file}: shape {k} has the group_id {str(group)[:60]}, but it must be a number; correct it")
    grouped = group is not None and str(shape.get("shape_type") or "polygon") in _AREAS
    return shape["label"].strip(), group if grouped else f"shape {k}"


def _add(gather: Gather, where: str, label: str, parts: list[dict[str, Any]], size: Size) -> None:
    """Add an object of one shape, or of several that enclose an area."""
    attributes = _attributes(parts[0])
    read_shapes = [_shape(part, where, size) for part in parts]
    if len(parts) == 1:
        gather.object(where, label, attributes=attributes, **read_shapes[0])
        return
    polygons: list[Any] = []
    masks: list[dict[str, Any]] = []
    for one in read_shapes:
        if "rle" in one:
            masks.append(one["rle"])
        else:
            polygons += one["polygons"] if "polygons" in one else [shapes.geometry(one["shape"])[1]]
    if not masks:
        gather.object(where, label, polygons=polygons, attributes=attributes)
        return
    from sightline.ops.masks import mask_to_rle, polygons_to_mask, rle_to_mask

    mask = polygons_to_mask(polygons, size)
    for rle in masks:
        mask |= rle_to_mask(rle)
    gather.object(where, label, rle=mask_to_rle(mask), attributes=attributes)


def _attributes(shape: dict[str, Any]) -> dict[str, Any]:
    flags = shape.get("flags") if isinstance(shape.get("flags"), dict) else {}
    assert isinstance(flags, dict)
    attributes = {key: value for key, value in shape.items() if key not in _KNOWN and key not in shapes.RESERVED}
    marks = {name: shape[name] for name in (*shapes.MARKS, *shapes.FLAGS) if shape.get(name)}  # X-AnyLabeling's
    attributes |= marks | {name: value for name, value in flags.items() if name in shapes.RESERVED}
    rest = {name: value for name, value in flags.items() if name not in shapes.RESERVED}
    if rest:
        attributes["flags"] = rest
    if shape.get("pose"):
        attributes["pose"] = shape["pose"]
    return attributes | ({"caption": shape["description"]} if shape.get("description") else {})


def _shape(shape: dict[str, Any], where: str, size: Size) -> dict[str, Any]:
    """The arguments of `Gather.object` for one shape."""
    kind = str(shape.get("shape_type") or "polygon")
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points) or not points:
        raise InputError(
            f"{where} has the points {str(points)[:60]}, but they must be pairs x, y; correct or remove it"
        )
    flat = shapes.as_numbers([value for point in points for value in point], where)
    if kind in ("rectangle", *_QUADRILATERALS) and len(points) == 5 and points[0] == points[-1]:
        points, flat = points[:-1], flat[:-2]  # the first corner is repeated at the end
    if kind in ("circle", "mask") and len(points) != 2:
        raise InputError(f"{where} is a {kind} with {len(points)} points, but needs two; draw it again or remove it")
    if kind == "rectangle" and len(points) not in (2, 4):
        raise InputError(
            f"{where} is a rectangle with {len(points)} points, but needs two opposite corners or all four; draw it "
            "again or remove it"
        )
    if kind in _QUADRILATERALS and len(points) != 4:
        raise InputError(f"{where} is a {kind} with {len(points)} points, but needs four; draw it again or remove it")
    if kind == "polygon":
        return {"polygons": [shapes.plain(flat, 10)]}
    if kind in _QUADRILATERALS or (kind == "rectangle" and len(points) == 4 and not _is_upright(points)):
        return {"polygons": [shapes.plain(flat, 10)]}
    if kind == "rectangle":  # two opposite corners, or all four
        return {"box": (min(flat[::2]), min(flat[1::2]), max(flat[::2]), max(flat[1::2]))}
    if kind == "circle":  # the centre, and a point on the circle
        radius = float(np.hypot(flat[2] - flat[0], flat[3] - flat[1]))
        return {"shape": {"kind": "ellipse", "cx": flat[0], "cy": flat[1], "rx": radius, "ry": radius}}
    if kind in ("line", "linestrip"):
        return {"shape": {"kind": "line", "points": flat}}
    if kind in ("point", "points"):
        return {"shape": {"kind": "points", "points": flat}}
    if kind == "mask":
        return {"rle": _mask(shape.get("mask"), flat, where, size)}
    raise InputError(f"{where} is a {kind!r}, which is not known; draw it as a polygon, or remove it")


def _is_upright(corners: Sequence[Sequence[float]]) -> bool:
    """Whether four corners form an axis-aligned rectangle, within 0.001 pixels and in any order."""
    xs, ys = ([round(float(corner[axis]), 3) for corner in corners] for axis in (0, 1))
    rectangle = {(x, y) for x in (min(xs), max(xs)) for y in (min(ys), max(ys))}
    return set(zip(xs, ys, strict=True)) == rectangle


def _mask(data: Any, corners: list[float], where: str, size: Size) -> dict[str, Any]:
    """The RLE of a mask's PNG, which covers the pixels from one corner to the other, inclusive."""
    from PIL import Image

    from sightline.ops.masks import mask_to_rle

    if not isinstance(data, str):
        raise InputError(f"{where} is a mask without an image; draw it again, or remove it")
    try:
        inside = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) != 0
    except (TypeError, ValueError, OSError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise InputError(f"{where} is a mask whose image cannot be read ({error}); draw it again") from None
    x, y = int(min(corners[::2])), int(min(corners[1::2]))
    whole = torch.zeros(size, dtype=torch.bool)
    height, width = inside.shape[:2]
    if inside.ndim != 2 or x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
        raise InputError(
            f"{where} is a mask of {width} × {height} pixels at {x}, {y}, but the image is {size[1]} × {size[0]}; "
            "draw it again or remove it"
        )
    whole[y : y + height, x : x + width] = torch.from_numpy(inside)
    return mask_to_rle(whole)

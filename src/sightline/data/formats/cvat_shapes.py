"""Shapes of CVAT XML: elements <box>, <polygon>, <mask> and others as objects of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import torch

from sightline.data.formats import shapes
from sightline.data.formats.gather import Gather
from sightline.data.malformed import skip_label
from sightline.errors import InputError
from sightline.structures import Size

SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")
"""The elements that are shapes."""


@dataclass
class Shape:
    """A shape of an image, with its label and the number of its track (-1 for none)."""

    element: Element
    label: str
    track: int = -1


def add_objects(gather: Gather, file: Path, image: str, objects: Sequence[Shape], size: Size) -> None:
    """Add the shapes of an image to the dataset; polygons of one label and group are parts of one object."""
    where = f"{file}: {image}"
    groups: dict[tuple[str, str], list[int]] = {}
    for k, one in enumerate(objects):
        if not one.label:
            no_label = f"{where}: shape {k} ({one.element.tag}) has no label; name its class, or remove it"
            skip_label(InputError(no_label), file)
            continue
        group = one.element.get("group_id") or "0"
        grouped = group != "0" and one.element.tag == "polygon"
        groups.setdefault((one.label, f"{one.track}: {group}" if grouped else f"shape {k}"), []).append(k)
    for (label, _), members in groups.items():
        first = objects[members[0]]
        here = f"{where}: shape {members[0]} ({first.element.tag})"
        try:
            geometry: dict[str, Any] = (
                {"polygons": [_points(objects[k].element, here) for k in members]}
                if len(members) > 1
                else _geometry(first.element, here, size)
            )
            gather.object(here, label, attributes=_attributes(first.element), track=first.track, **geometry)
        except InputError as error:
            skip_label(error, file)


def _attributes(element: Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in element.iterfind("attribute"):
        found[attribute.get("name") or ""] = (attribute.text or "").strip()
    if whole_number(element.get("z_order")):
        found["z_order"] = element.get("z_order")
    return found | ({"occluded": "1"} if element.get("occluded") == "1" else {})


def _geometry(element: Element, where: str, size: Size) -> dict[str, Any]:
    """The arguments of `Gather.object` for one shape."""

    def get(*names: str) -> list[float]:
        return shapes.as_numbers([element.get(name) for name in names], where)

    angle = shapes.as_numbers([element.get("rotation") or 0], where)[0]
    if element.tag == "box":
        box = get("xtl", "ytl", "xbr", "ybr")
        return {"shape": {"kind": "box", "box": box, "angle": angle}} if angle else {"box": box}
    if element.tag == "ellipse":
        values = dict(zip(("cx", "cy", "rx", "ry"), get("cx", "cy", "rx", "ry"), strict=True))
        return {"shape": {"kind": "ellipse", **values, **({"angle": angle} if angle else {})}}
    if element.tag == "polygon":
        return {"polygons": [_points(element, where)]}
    if element.tag == "mask":
        return {"rle": _mask(element, where, size)}
    if element.tag == "cuboid":
        names = [
            f"{axis}{corner}" for corner in ("tl1", "bl1", "tr1", "br1", "tl2", "bl2", "tr2", "br2") for axis in "xy"
        ]
        return {"box": shapes.bounds([get(*names)])}
    if element.tag == "skeleton":
        points = [v for p in element.iterfind("points") if p.get("outside") != "1" for v in _points(p, where)]
        if not points:
            raise InputError(f"{where} has no points; draw it again or remove it")
        return {"box": shapes.bounds([points])}
    return {"shape": {"kind": "line" if element.tag == "polyline" else "points", "points": _points(element, where)}}


def _points(element: Element, where: str) -> list[float]:
    """ "x,y;x,y" as a flat list."""
    pairs = [pair for pair in (element.get("points") or "").split(";") if pair.strip()]
    return shapes.as_numbers([value for pair in pairs for value in pair.split(",")], where, even=True)


def _mask(element: Element, where: str, size: Size) -> dict[str, Any]:
    """The RLE of a mask, stored as row-major runs inside its bounding box, background first."""
    from sightline.ops.masks import mask_to_rle

    left, top, width, height = (whole_number(element.get(name)) for name in ("left", "top", "width", "height"))
    runs = np.array(shapes.as_numbers([v for v in (element.get("rle") or "").split(",") if v.strip()], where), np.int64)
    if (runs < 0).any() or runs.sum() != width * height:
        raise InputError(
            f"{where}: the runs of its rle add up to {int(runs.sum())}, but {width} × {height} are {width * height} "
            "pixels; export it again or remove it"
        )
    if top + height > size[0] or left + width > size[1]:
        raise InputError(
            f"{where} is a mask of {width} × {height} pixels at {left}, {top}, but the image is {size[1]} × {size[0]}; "
            "draw it again or remove it"
        )
    whole = torch.zeros(size, dtype=torch.bool)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    whole[top : top + height, left : left + width] = torch.from_numpy(inside)
    return mask_to_rle(whole)


def whole_number(text: str | None) -> int:
    """A non-negative integer; 0 if the text is not one."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0
    return int(value) if 0 <= value < 2**30 else 0

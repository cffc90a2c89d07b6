"""Datumaro JSON: annotations/SUBSET.json for the images in images/SUBSET/ (or images/, or where images= says).

Such folders are recognised, and the path of one such file. The subset "default" is the split "all". Classes are the
labels in order. Annotations are bbox, polygon, mask (RLE), ellipse, polyline and points;
`sightline.data.formats.shapes` describes how they are read. Polygons, masks and boxes with the same label and group
(not 0) are one object: its outline is that of the polygons or the mask. Captions and image labels are kept in the
image's extra data, attributes in the extra column "other".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.gather import Gather
from sightline.data.formats.listed import Listed, assemble, files_to_read, head_of, recognised
from sightline.errors import InputError
from sightline.runtime.reading import read_json
from sightline.runtime.values import require_whole
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "Datumaro: annotations/*.json with items"
_SHAPES = ("bbox", "polygon", "mask", "ellipse", "polyline", "points")


def recognise(root: Path) -> str | None:
    """A description of the Datumaro file found in a folder (or `root` itself, if it is one); None if there is none."""
    return recognised(root, ".json", _looks_right)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read Datumaro JSON. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    expected = "Datumaro file (a .json with items); give its path"
    found = files_to_read(root, splits, ".json", _looks_right, expected)
    if root.is_file() and root.parent.name.lower() == "annotations":
        home = root.parent.parent
    else:
        home = files.home_of(root)
    listed: list[Listed] = []
    names: dict[str, None] = {}
    for split, file in found:
        own = split if splits or root.is_file() else files.split_name(file.stem)
        if not splits and len(found) == 1 and own not in files.ORDER:
            own = "all"
        listed += _read_file(file, own, names)
    return assemble(home, "datumaro", listed, _add, Gather(classes, list(names)), images=images)


def _looks_right(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    head = head_of(file)
    try:
        with open(file, "rb") as opened:  # a long list of labels may precede the items
            opened.seek(max(0, file.stat().st_size - 2**16))
            tail = opened.read()
    except OSError:
        return False
    known = b'"categories"' in head and b'"items"' in head + tail and b'"images"' not in head
    return known and head.lstrip().startswith(b"{")


def _read_file(file: Path, split: str, names: dict[str, None]) -> list[Listed]:
    content: dict[str, Any] = read_json(file, dict)
    try:
        labels = [str(one["name"]) for one in content["categories"].get("label", {}).get("labels", [])]
        names |= dict.fromkeys(labels)
        listed = []
        for item in content["items"]:
            image = item.get("image") or item.get("media") or {}
            size = image.get("size") or (0, 0)
            extra: dict[str, Any] = {}
            entries: dict[Any, list[dict[str, Any]]] = {}
            for k, one in enumerate(item.get("annotations") or []):
                kind = one.get("type")
                if kind == "caption":
                    extra.setdefault("captions", []).append(str(one.get("caption", "")))
                elif kind == "label":
                    id = require_whole(f"{file}: a label_id", one["label_id"], 0, len(labels) - 1)
                    extra.setdefault("labels", []).append(labels[id])
                else:
                    id = one.get("label_id")
                    label = labels[id] if type(id) is int and 0 <= id < len(labels) else None
                    key = (one["group"], label) if one.get("group") else ("alone", k)
                    entries.setdefault(key, []).append({**one, "number": k, "label": label})
            name = str(image.get("path") or item["id"])
            height, width = (
                require_whole(f"{file}: the {what} of {name}", side, 0, 2**30, "export it again")
                for what, side in zip(("height", "width"), size, strict=True)
            )
            objects = [part for several in entries.values() for part in _one_object(several)]
            listed.append(Listed(name, file, split, (height, width), objects, extra, (str(item["id"]),)))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{file} is not a Datumaro file: {type(error).__name__} {error}; export it again") from None
    return listed


def _one_object(several: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Annotations of one group as objects: outlines together, without their boxes; else each annotation alone."""
    polygons = [one for one in several if one.get("type") == "polygon"]
    masks = [[one] for one in several if one.get("type") == "mask"]
    if not polygons and not masks:
        return [[one] for one in several]
    others = [[one] for one in several if one.get("type") not in ("polygon", "mask", "bbox")]
    return [*([polygons] if polygons else []), *masks, *others]


def _add(gather: Gather, one: Listed, entry: list[dict[str, Any]], size: Size) -> None:
    first = entry[0]
    where = f"{one.file}: {one.name}: annotation {first['number']}"
    label, kind = first["label"], first.get("type")
    if label is None:
        raise InputError(f"{where} has a missing or unlisted label_id; correct or remove it")
    attributes = first.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    if kind not in _SHAPES:
        raise InputError(f"{where} has the type {kind!r}, but must be one of {', '.join(_SHAPES)}; export it again")
    if kind == "bbox":
        box = first.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise InputError(f"{where} has the bbox {str(box)[:60]}, but a box is [x, y, width, height]; correct it")
        x, y, width, height = shapes.as_numbers(box, where)
        gather.object(where, label, box=(x, y, x + width, y + height), attributes=attributes)
    elif kind == "mask":
        gather.object(where, label, rle=_rle(first.get("rle"), where), attributes=attributes)
    else:
        points = [shapes.plain(shapes.as_numbers(part.get("points") or [], where, even=True)) for part in entry]
        if kind == "polygon":
            gather.object(where, label, polygons=points, attributes=attributes)
        elif kind == "ellipse":
            x1, y1, x2, y2 = points[0][:4] if len(points[0]) == 4 else shapes.bounds(points)
            shape = {"kind": "ellipse", "cx": (x1 + x2) / 2, "cy": (y1 + y2) / 2}
            shape |= {"rx": (x2 - x1) / 2, "ry": (y2 - y1) / 2}
            gather.object(where, label, shape=shape, attributes=attributes)
        else:
            shape = {"kind": "line" if kind == "polyline" else "points", "points": points[0]}
            gather.object(where, label, shape=shape, attributes=attributes)


def _rle(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("counts"), str | list):
        raise InputError(f"{where} has no RLE with size and counts; export it again or remove it")
    size = value.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(s, int) for s in np.ravel(size).tolist()):
        raise InputError(f"{where} has an RLE of size {str(size)[:40]}, but it is [height, width]; export it again")
    return {"size": [int(side) for side in size], "counts": value["counts"]}

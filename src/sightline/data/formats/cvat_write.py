"""Writing CVAT XML 1.1: annotations.xml and images/ (with one folder per split)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.files import number
from sightline.data.segmentation import outline_of


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as CVAT for images; splits are subsets.

    An object with several parts becomes several polygons with one group_id, and an RLE becomes a mask. Tracks of a
    video become shapes of its frames.

    Args:
        dataset: a dataset of kind "instances".
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    columns = dataset.columns
    names = files.image_names(dataset)
    keys = [(dataset.split_of(i), name) for i, name in enumerate(names)]
    files.require_distinct(names, keys, "a place in CVAT's folder")
    whole = dataset.splits == ("all",)
    body, more_than_tags, counters = [], 0, dict.fromkeys(dataset.splits, 0)
    for i, (split, name) in enumerate(keys):
        files.write_image(dataset, i, out / "images" / ("" if whole else split) / name, symlink)
        height, width = dataset.image_size(i)
        subset = "" if whole else f" subset={quoteattr(split)}"
        body.append(
            f'  <image id="{counters[split]}" name={quoteattr(name)}{subset} width="{width}" height="{height}">'
        )
        counters[split] += 1
        extra = dataset.image_extra(i)
        tags = extra.pop("tags", [])
        more_than_tags += bool(extra)
        body += [f'    <tag label={quoteattr(str(tag))} source="manual"></tag>' for tag in tags]
        groups = 0
        for a in columns.objects_of(i):
            drawn = _shapes(columns, a, f"{name}: object {a - int(columns.offsets[i])}")
            groups += len(drawn) > 1
            label = quoteattr(dataset.classes[int(columns.labels[a])])
            body += _elements(drawn, label, shapes.attributes_of(columns, a), groups if len(drawn) > 1 else 0)
        body.append("  </image>")
    text = "\n".join([*_head(dataset, whole), *body, "</annotations>", ""])
    (out / "annotations.xml").write_text(text, encoding="utf-8")
    lost = shapes.lost_by(dataset, columns)
    lost["facts about images"] = more_than_tags
    return +lost


def _head(dataset: Dataset, whole: bool) -> list[str]:
    labels = [f"        <label>\n          <name>{escape(n)}</name>\n        </label>" for n in dataset.classes]
    subsets = [] if whole else [f"      <subsets>{escape(chr(10).join(dataset.splits))}</subsets>"]
    kind = "task" if whole else "project"
    return [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
        f"  <meta>\n    <{kind}>",
        *subsets,
        "      <labels>",
        *labels,
        f"      </labels>\n    </{kind}>\n  </meta>",
    ]


def _elements(drawn: list[tuple[str, str]], label: str, attributes: dict[str, Any], group: int) -> list[str]:
    """The XML of one object's shapes, given as (tag, geometry)."""
    occluded = 1 if attributes.pop("occluded", None) else 0
    z_order = attributes.pop("z_order", 0)
    inner = [
        f"      <attribute name={quoteattr(name)}>{escape(_text(value))}</attribute>"
        for name, value in attributes.items()
    ]
    grouped = f' group_id="{group}"' if group else ""
    lines = []
    for tag, geometry in drawn:
        z = quoteattr(str(z_order))
        lines += [f'    <{tag} label={label} source="manual" occluded="{occluded}" {geometry} z_order={z}{grouped}>']
        lines += [*inner, f"    </{tag}>"]
    return lines


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shapes(columns: Columns, a: int, where: str) -> list[tuple[str, str]]:
    """(tag, XML attributes) for object `a`: one in total, or one per part."""
    shape = shapes.shape_of(columns, a)
    if shape is not None and shape["kind"] == "ellipse":
        sides = " ".join(f'{name}="{number(shape[name])}"' for name in ("cx", "cy", "rx", "ry"))
        return [("ellipse", sides + (f' rotation="{number(shape["angle"])}"' if shape.get("angle") else ""))]
    if shape is not None and shape["kind"] == "box":
        return [("box", f'{_corners(shape["box"])} rotation="{number(shape["angle"])}"')]
    if shape is not None:
        return [("polyline" if shape["kind"] == "line" else "points", _points(shape["points"]))]
    outline = outline_of(columns, a, where)
    if isinstance(outline, dict):
        mask = _mask(outline)
        if mask is not None:
            return [("mask", mask)]
    elif outline is not None:
        return [("polygon", _points(polygon)) for polygon in outline]
    return [("box", _corners(columns.boxes[a].tolist()))]


def _corners(box: Iterable[float]) -> str:
    return " ".join(f'{name}="{number(v)}"' for name, v in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True))


def _points(flat: list[float]) -> str:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return 'points="' + ";".join(f"{number(x)},{number(y)}" for x, y in pairs) + '"'


def _mask(rle: dict[str, Any]) -> str | None:
    """A mask as row-major runs inside its bounding box; None if it is empty."""
    from sightline.ops.masks import rle_to_box, rle_to_mask

    x1, y1, x2, y2 = map(int, rle_to_box(rle).tolist())
    if x1 == x2:
        return None
    inside = rle_to_mask(rle)[y1:y2, x1:x2].numpy().ravel()
    changes = np.flatnonzero(np.diff(inside, prepend=False))  # run boundaries; the first run is background, maybe empty
    runs = np.diff(np.concatenate(([0], changes, [inside.size])))
    frame = f'left="{x1}" top="{y1}" width="{x2 - x1}" height="{y2 - y1}"'
    return f'rle="{", ".join(map(str, runs.tolist()))}" {frame}'

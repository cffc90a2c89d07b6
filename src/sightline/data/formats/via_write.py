"""Writing VIA 2.x: one project file per split, beside its images."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes

_CLASS = "class"


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as VIA: SPLIT/via_project.json beside the images (without splits in the folder itself).

    The class is the attribute "class", whose options are all classes in order. Crowd, difficult and similar flags are
    attributes as well. An object with several parts becomes one polygon whose parts are connected by slits of zero
    width, and an RLE becomes the outline of its pixels; masks do not change.

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
    files.require_distinct(names, keys, "a place in VIA's folder")
    whole = dataset.splits == ("all",)
    lost = shapes.lost_by(dataset, columns)
    lost.pop("facts about images", None)  # they are stored as file attributes
    for split in dataset.splits:
        folder = out if whole else out / split
        entries: dict[str, Any] = {}
        for i in (i for i, key in enumerate(keys) if key[0] == split):
            write_at = folder / names[i]
            files.write_image(dataset, i, write_at, symlink)
            size = write_at.stat().st_size
            regions = []
            for a in columns.objects_of(i):
                where = f"{names[i]}: object {a - int(columns.offsets[i])}"
                attributes = shapes.attributes_of(columns, a)
                attributes = {_CLASS: dataset.classes[int(columns.labels[a])], **_without_class(attributes)}
                regions.append(
                    {"shape_attributes": _shape(dataset, columns, a, i, where), "region_attributes": attributes}
                )
            entries[f"{names[i]}{size}"] = {
                "filename": names[i],
                "size": size,
                "regions": regions,
                "file_attributes": dataset.image_extra(i),
            }
        project = {
            "_via_settings": {"project": {"name": out.name.strip(".").split(".")[0] or "project"}},
            "_via_img_metadata": entries,
            "_via_attributes": {"region": _attributes(dataset, entries), "file": {}},
            "_via_data_format_version": "2.0.10",
            "_via_image_id_list": list(entries),
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "via_project.json").write_text(json.dumps(project, ensure_ascii=False), encoding="utf-8")
    return lost


def _without_class(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes without one that has the name of the class attribute."""
    return {f"{name}_" if name == _CLASS else name: value for name, value in attributes.items()}


def _attributes(dataset: Dataset, entries: dict[str, Any]) -> dict[str, Any]:
    regions = (region["region_attributes"] for entry in entries.values() for region in entry["regions"])
    others = dict.fromkeys(name for attributes in regions for name in attributes if name != _CLASS)
    choice = {
        "type": "dropdown",
        "description": "",
        "options": dict.fromkeys(dataset.classes, ""),
        "default_options": {},
    }
    free = {"type": "text", "description": "", "default_value": ""}
    return {_CLASS: choice, **dict.fromkeys(others, free)}


def _shape(dataset: Dataset, columns: Columns, a: int, i: int, where: str) -> dict[str, Any]:
    """VIA's shape attributes of object `a` in image `i`."""
    shape = shapes.shape_of(columns, a)
    if shape is not None and shape["kind"] == "ellipse":
        cx, cy, rx, ry = shapes.plain([shape[name] for name in ("cx", "cy", "rx", "ry")])
        if rx == ry:
            return {"name": "circle", "cx": cx, "cy": cy, "r": rx}
        theta = {"theta": math.radians(shape["angle"])} if shape.get("angle") else {}
        return {"name": "ellipse", "cx": cx, "cy": cy, "rx": rx, "ry": ry, **theta}
    if shape is not None and shape["kind"] == "points" and len(shape["points"]) == 2:
        cx, cy = shapes.plain(shape["points"])
        return {"name": "point", "cx": cx, "cy": cy}
    if shape is not None and shape["kind"] in ("line", "points"):
        points = shapes.plain(shape["points"])
        return {"name": "polyline", "all_points_x": points[::2], "all_points_y": points[1::2]}
    ring = shapes.ring_of(columns, a, dataset.image_size(i), where)
    if ring is not None:
        points = shapes.plain(ring)
        return {"name": "polygon", "all_points_x": points[::2], "all_points_y": points[1::2]}
    x1, y1, x2, y2 = columns.boxes[a].tolist()
    x, y, width, height = shapes.plain([x1, y1, x2 - x1, y2 - y1])
    return {"name": "rect", "x": x, "y": y, "width": width, "height": height}

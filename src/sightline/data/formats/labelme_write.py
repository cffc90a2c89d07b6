"""Writing LabelMe JSON (5.x): one file beside each image, and labels.txt."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.segmentation import outline_of

_FLAGS = ("crowd", "difficult", "occluded", "truncated")


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as LabelMe: SPLIT/NAME.json beside SPLIT/NAME.jpg; labels.txt lists the classes in order.

    The JSON names its image and does not contain it. An object with several parts becomes several polygons with one
    group_id, and an RLE becomes a shape of type "mask" (shown by LabelMe 5.2 and later).

    Args:
        dataset: a dataset of kind "instances".
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    columns = dataset.columns
    names = files.image_names(dataset)
    keys = [(dataset.split_of(i), files.without_suffix(name)) for i, name in enumerate(names)]
    files.require_distinct(names, keys, "a label file in LabelMe, which goes by the name without its ending")
    whole = dataset.splits == ("all",)
    # Without splits, an image folder named like a split must not become one.
    home = out / "images" if whole and any(map(files.sets_apart, names)) else out
    for i, (split, stem) in enumerate(keys):
        folder = home if whole else out / split
        files.write_image(dataset, i, folder / names[i], symlink)
        height, width = dataset.image_size(i)
        extra = dataset.image_extra(i)
        content: dict[str, Any] = {"version": "5.2.1", "flags": extra.pop("flags", {}), "shapes": []}
        groups = 0
        for a in columns.objects_of(i):
            drawn = _shapes(columns, a, (height, width), f"{names[i]}: object {a - int(columns.offsets[i])}")
            groups += len(drawn) > 1
            for one in drawn:
                head = {"label": dataset.classes[int(columns.labels[a])], "points": one.pop("points")}
                content["shapes"].append({**head, "group_id": groups if len(drawn) > 1 else None, **one})
        content |= {"imagePath": names[i].split("/")[-1], "imageData": None, "imageHeight": height, "imageWidth": width}
        text = json.dumps(
            content | {key: value for key, value in extra.items() if key not in content}, ensure_ascii=False
        )
        (folder / f"{stem}.json").write_text(text, encoding="utf-8")
    lines = ["__ignore__", "_background_", *dataset.classes]
    (out / "labels.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    lost = shapes.lost_by(dataset, columns)
    lost.pop("facts about images", None)  # they are stored in the file
    return lost


def _shapes(columns: Columns, a: int, size: tuple[int, int], where: str) -> list[dict[str, Any]]:
    """LabelMe's shapes for object `a`: one in total, or one per part."""
    more = _more(columns, a)
    shape = shapes.shape_of(columns, a)
    if shape is not None and shape["kind"] == "ellipse" and shape["rx"] == shape["ry"]:
        centre = [shape["cx"], shape["cy"]]
        edge = [shape["cx"] + shape["rx"], shape["cy"]]
        return [{"points": [centre, edge], "shape_type": "circle", **more}]
    if shape is not None and shape["kind"] in ("line", "points"):
        points = _pairs(shape["points"])
        kinds = ("line", "linestrip") if shape["kind"] == "line" else ("point", "points")
        single = len(points) == (2 if shape["kind"] == "line" else 1)
        return [{"points": points, "shape_type": kinds[0] if single else kinds[1], **more}]
    outline = outline_of(columns, a, where)
    if isinstance(outline, dict):
        drawn = _mask(outline)
        outline = None
        if drawn is not None:
            return [{**drawn, "shape_type": "mask", **more}]
    if outline is not None:
        return [{"points": _pairs(polygon), "shape_type": "polygon", **more} for polygon in outline]
    x1, y1, x2, y2 = columns.boxes[a].tolist()
    return [{"points": [[x1, y1], [x2, y2]], "shape_type": "rectangle", **more}]


def _more(columns: Columns, a: int) -> dict[str, Any]:
    attributes = shapes.attributes_of(columns, a)
    other_flags = attributes.pop("flags", {})
    flags = {name: True for name in _FLAGS if attributes.pop(name, None)}
    flags |= other_flags if isinstance(other_flags, dict) else {}
    taken = {"description": attributes.pop("caption", ""), "flags": flags}
    return {**taken, **{name: value for name, value in attributes.items() if name not in _TAKEN}}


_TAKEN = frozenset(["label", "points", "group_id", "shape_type", "mask", "description", "flags"])


def _pairs(flat: Any) -> list[list[float]]:
    return np.asarray(flat, np.float64).reshape(-1, 2).tolist()


def _mask(rle: dict[str, Any]) -> dict[str, Any] | None:
    """Corners and image of a mask; None if it is empty."""
    from PIL import Image

    from sightline.ops.masks import rle_to_box, rle_to_mask

    x1, y1, x2, y2 = map(int, rle_to_box(rle).tolist())
    if x1 == x2:
        return None
    inside = rle_to_mask(rle)[y1:y2, x1:x2].numpy()
    data = io.BytesIO()
    Image.fromarray(inside).save(data, "PNG")
    return {"points": [[x1, y1], [x2 - 1, y2 - 1]], "mask": base64.b64encode(data.getvalue()).decode("ascii")}

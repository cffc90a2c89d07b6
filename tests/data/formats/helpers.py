"""Small datasets written by hand, as the tools write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from sightline.data.dataset import Dataset
from sightline.data.formats import WRITTEN, supported_kinds

OF_OBJECTS = [name for name in WRITTEN if supported_kinds(name)[0].has_objects and name != "kitti"]
"""The formats that objects are written in."""
Row = tuple[str, float, float, float, float]


def picture(path: Path, size: tuple[int, int] = (48, 64)) -> None:
    """An image of noise of (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]], names: dict[int, str]) -> dict[str, Any]:
    return {
        "info": {"description": "made for a test"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k, "name": name, "supercategory": "thing"} for k, name in names.items()],
    }


def coco_image(id: int, name: str, size: tuple[int, int] = (48, 64)) -> dict[str, Any]:
    return {"id": id, "file_name": name, "height": size[0], "width": size[1]}


def coco_object(id: int, image: int, category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    area = bbox[2] * bbox[3] if len(bbox) == 4 else 0
    return {"id": id, "image_id": image, "category_id": category, "bbox": bbox, "area": area, "iscrowd": 0} | more


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def voc(path: Path, name: str, rows: list[Row], size: tuple[int, int] | None = (48, 64), extra: str = "") -> None:
    """A file as LabelImg writes it; `extra` goes into every object."""
    stated = "" if size is None else f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    objects = "".join(
        f"<object><name>{escape(label)}</name><difficult>0</difficult>{extra}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2 in rows
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation><filename>{name}</filename>{stated}{objects}</annotation>", encoding="utf-8")


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def rows(dataset: Dataset, i: int) -> list[Row]:
    """Image i's objects as (name, x1, y1, x2, y2), in order, from the columns."""
    columns = dataset.columns
    span = range(int(columns.offsets[i]), int(columns.offsets[i + 1]))
    return [(dataset.classes[columns.labels[a]], *columns.boxes[a].tolist()) for a in span]


def everything(dataset: Dataset) -> dict[tuple[str, str], list[Row]]:
    """All objects by split and image name."""
    return {(dataset.split_of(i), dataset.image_name(i)): rows(dataset, i) for i in range(len(dataset))}

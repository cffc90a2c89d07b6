"""Good folders of formats that are JSON, and their files with one value changed into what it cannot be."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import sightline
from sightline.data.check import check
from sightline.errors import InputError
from tests.hostile.world import coco, picture

STRANGE: tuple[Any, ...] = (None, True, "x", "", [], {}, -1, 1.5, float("inf"), float("nan"), 10**30, 10**9, [1])
STRANGE += ({"a": 1}, "9" * 50, "nan", "a\nb", "..\\..\\x", "/etc/passwd", [[[]]])
_BOX = {"x": 10, "y": 10, "width": 20, "height": 20}
_SIZE = {"original_width": 64, "original_height": 48}
_RING = [[1, 1], [20, 1], [20, 20]]


@dataclass(frozen=True)
class Sample:
    """A good data set of one file with labels.

    Attributes:
        file: with the labels, relative to the folder.
        content: of the file.
        images: relative to the folder.
        format: to open it as, where it is not recognised.
        line: the file holds a JSON value a line, of which this is one.
    """

    file: str
    content: Any
    images: tuple[str, ...] = ("a.png",)
    format: str | None = None
    line: bool = False

    def write(self, folder: Path, content: Any) -> None:
        """Write the file with another content."""
        for name in self.images:
            if not (folder / name).is_file():
                picture(folder / name)
        place = folder / self.file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(content) + ("\n" if self.line else ""))

    def use(self, folder: Path) -> None:
        """Open it, check it, and ask for its targets."""
        data = sightline.open_dataset(folder, format=self.format)
        check(data, full=False, progress=False)
        for i in range(min(len(data), 2)):
            with contextlib.suppress(InputError):
                data.target(i)


def samples(folder: Path) -> dict[str, Sample]:
    """By name a data set of each format; what lies beside its file is written into a folder of that name."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[..., 0] = 1
    for name in ("panoptic", "panoptic-instances"):
        (folder / name / "panoptic_train").mkdir(parents=True)
        Image.fromarray(pixels).save(folder / name / "panoptic_train" / "a.png")
    (folder / "supervisely").mkdir()
    classes = [{"title": "cat", "shape": "any", "color": "#ff0000"}]
    (folder / "supervisely" / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    regions = [
        {"type": "rectanglelabels", **_SIZE, "value": {**_BOX, "rotation": 5, "rectanglelabels": ["cat"]}},
        {"type": "polygonlabels", **_SIZE, "value": {"points": _RING, "polygonlabels": ["cat"]}},
        {"type": "ellipselabels", **_SIZE, "value": {**_BOX, "radiusX": 9, "radiusY": 5, "ellipselabels": ["a"]}},
        {"type": "choices", "from_name": "c", "value": {"choices": ["good"]}},
    ]
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": [{"was_cancelled": False, "result": regions}]}
    objects: list[dict[str, Any]] = [
        {"geometryType": "rectangle", "tags": [], "points": {"exterior": [[1, 1], [9, 9]], "interior": []}},
        {"geometryType": "polygon", "points": {"exterior": _RING, "interior": [_RING]}},
        {"geometryType": "graph", "nodes": {"n": {"loc": [1, 2]}, "m": {"loc": [9, 9]}}},
    ]
    project: dict[str, Any] = {"size": {"height": 48, "width": 64}, "tags": []}
    project["objects"] = [{"classTitle": "cat", **one} for one in objects]
    annotations = [
        {"id": 0, "type": "bbox", "group": 0, "label_id": 0, "attributes": {}, "bbox": [1, 2, 10, 12]},
        {"id": 1, "type": "polygon", "group": 1, "label_id": 0, "points": [1, 1, 9, 1, 9, 9]},
        {"id": 2, "type": "mask", "group": 2, "label_id": 0, "rle": {"counts": [0, 10, 3062], "size": [48, 64]}},
        {"id": 3, "type": "label", "label_id": 0},
    ]
    short: dict[str, Any] = {"image": "a.png", "id": 1, "annotator": 1, "annotation_id": 1}
    short["label"] = [{**_BOX, **_SIZE, "rotation": 0, "rectanglelabels": ["cat"]}]
    labels = {"label": {"labels": [{"name": "cat", "parent": "", "attributes": []}]}}
    item = {"id": "a", "annotations": annotations, "image": {"size": [48, 64], "path": "a.png"}}
    whole: Any = coco(folder / "coco")
    of_images = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    segments = [{"id": 1, "category_id": 1, "iscrowd": 0, "area": 3072, "bbox": [0, 0, 64, 48]}]
    panoptic = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [{"id": 1, "name": "cat", "isthing": 1}],
    }
    shapes = [{"label": "cat", "points": _RING, "shape_type": "polygon", "group_id": None}]
    region = {"shape_attributes": {"name": "rect", **_BOX}, "region_attributes": {"class": "cat"}}
    row = {"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["cat"]}, "text": "hi"}
    return {
        "coco": Sample("annotations/instances_train.json", whole, ("train/a.png",)),
        "coco of images": Sample("x.json", of_images),
        "createml": Sample("a.json", [{"image": "a.png", "annotations": [{"label": "cat", "coordinates": _BOX}]}]),
        "datumaro": Sample(
            "annotations/train.json", {"info": {}, "categories": labels, "items": [item]}, ("images/train/a.png",)
        ),
        "huggingface": Sample("metadata.jsonl", row, line=True),
        "label-studio": Sample("a.json", [task]),
        "label-studio min": Sample("a.json", [short]),
        "labelme": Sample("a.json", {"imagePath": "a.png", "imageHeight": 48, "imageWidth": 64, "shapes": shapes}),
        "panoptic": Sample("annotations/panoptic_train.json", panoptic, ("train/a.jpg",), "panoptic"),
        "panoptic-instances": Sample(
            "annotations/panoptic_train.json", panoptic, ("train/a.jpg",), "panoptic-instances"
        ),
        "supervisely": Sample("ds/ann/a.png.json", project, ("ds/img/a.png",)),
        "via": Sample("via.json", {"a": {"filename": "a.png", "regions": [region], "file_attributes": {}}}),
    }


def changes(content: Any) -> list[tuple[str, Any]]:
    """The content with one value changed or taken away, and what was done, in words; of lists the first two entries."""
    found = []
    for path in _paths(content):
        for value in (..., *STRANGE):
            if path or value is not ...:
                what = ".".join(map(str, path))
                found.append((f"{what} is {'missing' if value is ... else value!r}", _put(content, path, value)))
    return found


def _paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    inner = list(value) if isinstance(value, dict) else range(min(len(value), 2)) if isinstance(value, list) else ()
    for key in inner:
        yield from _paths(value[key], (*above, key))


def _put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = json.loads(json.dumps(content))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy

"""Supervisely: projects, bitmaps, polygons with holes, mistakes."""

from __future__ import annotations

import base64
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.data.formats import open_dataset
from sightline.errors import InputError

from .drawn import masks
from .helpers import everything, picture, rows, write_json

RECTANGLE = {
    "classTitle": "dog",
    "geometryType": "rectangle",
    "points": {"exterior": [[20, 30], [4, 6]], "interior": []},
}


def packed(mask: np.ndarray, mode: str = "1") -> str:
    content = io.BytesIO()
    if mode == "RGBA":
        Image.fromarray(np.repeat(mask[..., None].astype(np.uint8) * 255, 4, 2)).save(content, "PNG")
    else:
        Image.fromarray(mask).save(content, "PNG")
    return base64.b64encode(zlib.compress(content.getvalue())).decode()


def project(root: Path, *objects: dict[str, Any], dataset: str = "ds0", name: str = "a.jpg") -> Path:
    picture(root / dataset / "img" / name)
    write_json(root / "meta.json", {"classes": [{"title": t, "shape": "any"} for t in ("zebra", "dog")], "tags": []})
    content = {"description": "", "tags": [], "size": {"height": 48, "width": 64}, "objects": list(objects)}
    write_json(root / dataset / "ann" / f"{name}.json", content)
    return root


def test_a_project_of_datasets(tmp_path: Path):
    project(tmp_path, RECTANGLE | {"tags": [{"name": "wet"}]})
    data = open_dataset(project(tmp_path, dataset="ds1"))
    assert data.format == "supervisely"
    assert everything(data) == {("all", "ds0/img/a.jpg"): [("dog", 4, 6, 20, 30)], ("all", "ds1/img/a.jpg"): []}
    assert tuple(data.classes) == ("zebra", "dog")
    assert data.columns.extra["other"].text(0) == '{"tags":["wet"]}'
    assert rows(open_dataset(tmp_path / "ds0"), 0) == [("dog", 4, 6, 20, 30)]


def test_datasets_that_are_splits(tmp_path: Path):
    project(tmp_path, dataset="train")
    data = open_dataset(project(tmp_path, RECTANGLE, dataset="validation"))
    assert everything(data) == {("train", "a.jpg"): [], ("val", "a.jpg"): [("dog", 4, 6, 20, 30)]}


@pytest.mark.parametrize("mode", ["1", "RGBA"])
def test_bitmaps_and_holes(tmp_path: Path, mode: str):
    small = np.array([[1, 0, 1], [0, 1, 1]], bool)
    bitmap = {
        "classTitle": "dog",
        "geometryType": "bitmap",
        "bitmap": {"data": packed(small, mode), "origin": [10, 20]},
    }
    ring = {"exterior": [[2, 2], [12, 2], [12, 12], [2, 12]], "interior": [[[4, 4], [8, 4], [8, 8], [4, 8]]]}
    polygon = {"classTitle": "zebra", "geometryType": "polygon", "points": ring}
    data = open_dataset(project(tmp_path, bitmap, polygon))
    expected = np.zeros((2, 48, 64), bool)
    expected[0, 20:22, 10:13] = small
    expected[1, 2:12, 2:12] = True
    expected[1, 4:8, 4:8] = False
    assert np.array_equal(masks(data)["all", "a.jpg"], expected)
    assert rows(data, 0) == [("dog", 10, 20, 13, 22), ("zebra", 2, 2, 12, 12)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classTitle": "fox"}, "object 0 has class 'fox', which is not among the classes"),
        ({"geometryType": "cuboid"}, "is a 'cuboid', but objects must be rectangle"),
        ({"points": {"exterior": [[1, "q"]]}}, "object 0 has the coordinates"),
        ({"geometryType": "graph", "nodes": {"a": {"loc": 5}}}, "an object does not follow the format"),
        ({"geometryType": "bitmap", "bitmap": {"data": "!!", "origin": [0, 0]}}, "is a bitmap that cannot be read"),
        ({"geometryType": "bitmap", "bitmap": {"data": packed(np.ones((9, 9), bool)), "origin": [60, 0]}},
         "bitmap of 9 × 9 pixels at 60, 0, which extends beyond the image of 64 × 48"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, change: dict[str, Any], sentence: str):
    with pytest.raises(InputError, match=sentence):
        open_dataset(project(tmp_path, RECTANGLE | change))

"""Datumaro JSON: shapes, groups, subsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as oracle

from sightline.data.formats import open_dataset
from sightline.data.formats.datumaro import recognise
from sightline.errors import InputError

from .drawn import masks
from .helpers import everything, picture, rows, write_json


def made(root: Path, *annotations: dict[str, Any], subset: str = "train", name: str = "a.jpg") -> Path:
    picture(root / "images" / subset / name)
    labels = [{"name": name, "parent": "", "attributes": []} for name in ("zebra", "dog")]
    item = {"id": name[:-4], "annotations": list(annotations), "image": {"path": name, "size": [48, 64]}}
    content = {"info": {}, "categories": {"label": {"labels": labels}}, "items": [item]}
    write_json(root / "annotations" / f"{subset}.json", content)
    return root


def one(kind: str, label: int = 1, group: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": 0, "type": kind, "attributes": {}, "group": group, "label_id": label, "z_order": 0, **more}


def test_subsets_and_boxes(tmp_path: Path):
    made(tmp_path, one("bbox", bbox=[4, 6, 10, 20.5]), one("caption", caption="a dog"))
    data = open_dataset(made(tmp_path, one("bbox", 0, bbox=[1, 2, 3, 4]), subset="validation", name="b.jpg"))
    assert data.format == "datumaro"
    assert everything(data) == {
        ("train", "a.jpg"): [("dog", 4, 6, 14, 26.5)],
        ("val", "b.jpg"): [("zebra", 1, 2, 4, 6)],
    }
    assert tuple(data.classes) == ("zebra", "dog")
    assert data.captions(0) == ["a dog"]


def test_shapes_and_groups(tmp_path: Path):
    mask = np.zeros((48, 64), np.uint8, order="F")
    mask[3:9, 5:20] = 1
    rle = oracle.encode(mask)
    annotations = [
        one("mask", rle={"size": [48, 64], "counts": rle["counts"].decode()}),
        one("polygon", 0, 3, points=[0, 0, 4, 0, 4, 4]),
        one("polygon", 0, 3, points=[10, 10, 14, 10, 14, 14]),
        one("bbox", 0, 3, bbox=[0, 0, 14, 14]),
        one("ellipse", points=[10, 10, 30, 20]),
        one("points", points=[1, 2, 3, 4]),
    ]
    data = open_dataset(made(tmp_path, *annotations, subset="default"))
    assert rows(data, 0) == [
        ("dog", 5, 3, 20, 9),
        ("zebra", 0, 0, 14, 14),
        ("dog", 10, 10, 30, 20),
        ("dog", 1, 2, 3, 4),
    ]
    assert data.splits == ("all",)
    assert np.array_equal(masks(data)["all", "a.jpg"][0], mask != 0)
    assert data.columns.segmentations.text(1) == "[[0,0,4,0,4,4],[10,10,14,10,14,14]]"


@pytest.mark.parametrize(
    ("annotation", "sentence"),
    [
        (one("bbox", 5, bbox=[1, 2, 3, 4]), "annotation 0 has a missing or unlisted label_id"),
        (one("bbox", bbox=[1, 2, 3]), r"has the bbox \[1, 2, 3\]"),
        (one("cuboid_3d", position=[1]), "has the type 'cuboid_3d', but must be one of bbox"),
        (one("mask", rle={"size": [4]}), "has no RLE with size and counts"),
    ],
)
def test_mistakes(tmp_path: Path, annotation: dict[str, Any], sentence: str):
    with pytest.raises(InputError, match=sentence):
        open_dataset(made(tmp_path, annotation))


def test_files_that_are_not_datumaro_s(tmp_path: Path):
    """COCO has "categories" and "images"; a list is no Datumaro file, whatever it holds."""
    items, list_file = tmp_path / "items.json", tmp_path / "list.json"
    items.write_text('{"categories": {"label": {"labels": []}}, "items": []}')
    list_file.write_text('[{"categories": {}, "items": []}]')
    (tmp_path / "coco.json").write_text('{"categories": [], "images": [], "items": []}')
    (tmp_path / "items.txt").write_text(items.read_text())
    (tmp_path / "other.json").write_text('{"items": []}')
    found = {file.name: recognise(file) for file in sorted(tmp_path.iterdir())}
    assert {name for name, words in found.items() if words} == {"items.json"}


def test_items_behind_a_long_list_of_labels(tmp_path: Path):
    picture(tmp_path / "images" / "train" / "a.jpg")
    labels = [{"name": f"a class with a long name, number {k}", "parent": "", "attributes": []} for k in range(4000)]
    item = {"id": "a", "annotations": [one("bbox", 3999, bbox=[1, 2, 3, 4])], "image": {"path": "a.jpg"}}
    content = {"categories": {"label": {"labels": labels}}, "items": [item]}
    write_json(tmp_path / "annotations" / "train.json", content)
    data = open_dataset(tmp_path)
    assert rows(data, 0) == [(labels[3999]["name"], 1, 2, 4, 6)]


def test_what_is_said_of_the_image_and_lines(tmp_path: Path):
    """A label of the image, a polyline (no area), an ellipse whose area is π · 10 · 5, and an item named by its id."""
    picture(tmp_path / "images" / "b.jpg")
    annotations = [
        one("label", 0),
        one("polyline", points=[1, 2, 9, 8]),
        one("ellipse", points=[10, 10, 30, 20]),
        one("bbox", 0, bbox=[1, 1, 2, 2], attributes={"colour": "red"}),
    ]
    labels = [{"name": name} for name in ("zebra", "dog")]
    content = {"categories": {"label": {"labels": labels}}, "items": [{"id": "b", "annotations": annotations}]}
    write_json(tmp_path / "annotations" / "default.json", content)
    data = open_dataset(tmp_path)
    assert data.image_extra(0) == {"labels": ["zebra"]}
    assert rows(data, 0) == [("dog", 1, 2, 9, 8), ("dog", 10, 10, 30, 20), ("zebra", 1, 1, 3, 3)]
    assert data.columns.areas[1] == pytest.approx(np.pi * 50, rel=0.02)
    assert data.columns.extra["other"].text(2) == '{"colour":"red"}'

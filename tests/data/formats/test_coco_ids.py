"""COCO: ids that are texts, categories that are not classes, names with spaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError

from .helpers import coco, coco_image, coco_object, everything, picture, rows, write_json


def with_texts() -> dict[str, Any]:
    content = coco(
        [coco_image("0001_d", "a.png"), coco_image("007", "b.png"), coco_image("7", "c.png"), coco_image(3, "d.png")],
        [
            coco_object("first", "007", "dog", [1, 2, 3, 4]),
            coco_object("8", "0001_d", "cat", [5, 6, 7, 8], colour="red"),
            coco_object(9, 7, "cat", [10, 6, 7, 8]),
            coco_object(10, "3", "dog", [11, 6, 7, 8]),
            coco_object(11, "nowhere", "dog", [1, 6, 7, 8]),
        ],
        {},
    )
    return content | {"categories": [{"id": "dog", "name": "Dog"}, {"id": "cat", "name": "A cat"}]}


def test_ids_may_be_texts(tmp_path: Path):
    for name in "abcd":
        picture(tmp_path / "in" / f"{name}.png")
    data = open_dataset(write_json(tmp_path / "in" / "x.json", with_texts()).parent)
    assert tuple(data.classes) == ("Dog", "A cat")
    wanted = {
        ("all", "a.png"): [("A cat", 5, 6, 12, 14)],
        ("all", "b.png"): [("Dog", 1, 2, 4, 6)],
        ("all", "c.png"): [("A cat", 10, 6, 17, 14)],
        ("all", "d.png"): [("Dog", 11, 6, 18, 14)],
    }
    assert everything(data) == wanted
    assert data.orphans == ("x.json: annotation 11 of image nowhere",)
    assert len(set(data.columns.image_ids.tolist())) == 4
    assert data.columns.image_ids[2:].tolist() == [7, 3]
    convert(data, tmp_path / "out", "coco")
    assert everything(open_dataset(tmp_path / "out")) == wanted
    oracle = COCO(str(tmp_path / "out" / "annotations" / "instances_default.json"))
    assert list(oracle.imgs) == ["0001_d", "007", 7, 3]
    assert list(oracle.cats) == ["dog", "cat"]
    assert set(oracle.anns) == {"first", "8", 9, 10}
    assert oracle.imgToAnns["0001_d"][0]["colour"] == "red"
    assert oracle.imgToAnns["007"][0]["id"] == "first"
    convert(data, tmp_path / "voc", "voc")
    assert everything(open_dataset(tmp_path / "voc")) == wanted


def test_an_id_twice(tmp_path: Path):
    content = coco([coco_image("x", "a.png"), coco_image("x", "b.png")], [], {1: "cat"})
    with pytest.raises(InputError, match=r"x\.json contains two images with id x, but ids must be unique"):
        open_dataset(write_json(tmp_path / "x.json", content))
    content = coco([coco_image(7, "a.png"), coco_image("7", "b.png")], [], {1: "cat"})
    with pytest.raises(InputError, match=r"x\.json contains two images with id 7, but ids must be unique"):
        open_dataset(write_json(tmp_path / "x.json", content))


@pytest.mark.parametrize("ids", [(1, 1), ("1", 1), ("a", "a")])
def test_one_category_id_with_two_names_is_refused(ids: tuple[Any, Any], tmp_path: Path):
    content = coco([coco_image(1, "a.png")], [], {})
    content["categories"] = [{"id": ids[0], "name": "dog"}, {"id": ids[1], "name": "cat"}, {"id": 5, "name": "owl"}]
    path = write_json(tmp_path / "x.json", content)
    with pytest.raises(
        InputError, match=r"x\.json has two categories with id '?[1a]'?, 'dog' and 'cat', so the class of their"
    ):
        open_dataset(path)
    content["categories"][1]["name"] = " dog"  # the same one again says nothing new
    assert tuple(open_dataset(write_json(path, content)).classes) == ("dog", "owl")


@pytest.mark.parametrize("name", ["", "  ", None, ["cat"], {}, True])
def test_a_name_is_text(name: Any, tmp_path: Path):
    content = coco([coco_image(1, "a.png")], [], {}) | {"categories": [{"id": 4, "name": name}]}
    with pytest.raises(InputError, match=r"x\.json: category 4 has the name .*, but names are strings"):
        open_dataset(write_json(tmp_path / "x.json", content))


def test_spaces_around_names_do_not_count(tmp_path: Path):
    content = coco([coco_image(1, "a.png")], [coco_object(1, 1, 2, [1, 2, 3, 4])], {1: "cat ", 2: "\tsea lion\n"})
    data = open_dataset(write_json(tmp_path / "x.json", content))
    assert tuple(data.classes) == ("cat", "sea lion")
    assert rows(data, 0) == [("sea lion", 1, 2, 4, 6)]


def roboflow(first: dict[str, Any], annotated: int = 1) -> dict[str, Any]:
    content = coco([coco_image(0, "a.png")], [coco_object(1, 0, annotated, [1, 2, 3, 4])], {})
    others = [{"id": k, "name": name, "supercategory": "fruits"} for k, name in ((1, "apple"), (2, "pear"))]
    return content | {"categories": [{"id": 0, "name": "fruits", "supercategory": "none"} | first, *others]}


@pytest.mark.parametrize(
    ("first", "annotated", "classes"),
    [
        ({}, 1, ("apple", "pear")),
        ({}, 0, ("fruits", "apple", "pear")),  # it has objects
        ({"name": "bowl"}, 1, ("bowl", "apple", "pear")),  # the others are of another kind
        ({"supercategory": "fruits"}, 1, ("fruits", "apple", "pear")),  # one among its like
    ],
)
def test_roboflows_supercategory_is_no_class(
    first: dict[str, Any], annotated: int, classes: tuple[str, ...], tmp_path: Path
):
    for split in ("train", "valid"):
        picture(tmp_path / split / "a.png")
    write_json(tmp_path / "train" / "_annotations.coco.json", roboflow(first, annotated))
    write_json(tmp_path / "valid" / "_annotations.coco.json", roboflow(first))
    data = open_dataset(tmp_path)
    assert tuple(data.classes) == classes
    assert rows(data["train"], 0) == [(classes[annotated if len(classes) == 3 else 0], 1, 2, 4, 6)]
    assert rows(data["val"], 0) == [("apple", 1, 2, 4, 6)]
    assert tuple(open_dataset(tmp_path, classes=["apple", "fruits", "pear"]).classes) == ("apple", "fruits", "pear")
    convert(data, tmp_path / "out", "coco")
    written = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    assert [category["name"] for category in written["categories"]] == list(classes)


def test_a_supercategory_with_objects_in_one_split_is_a_class(tmp_path: Path):
    for split, annotated in (("train", 1), ("valid", 0)):
        picture(tmp_path / split / "a.png")
        write_json(tmp_path / split / "_annotations.coco.json", roboflow({}, annotated))
    assert tuple(open_dataset(tmp_path).classes) == ("fruits", "apple", "pear")


def test_a_class_called_none_is_no_supercategory_of_others_without_one(tmp_path: Path):
    content = coco([coco_image(1, "a.png")], [], {})
    content["categories"] = [{"id": 0, "name": "0"}, {"id": 1, "name": "None"}]
    assert tuple(open_dataset(write_json(tmp_path / "x.json", content)).classes) == ("0", "None")


def test_the_only_category_is_a_class(tmp_path: Path):
    content = coco([coco_image(1, "a.png")], [], {3: "thing"})  # helpers name every supercategory "thing"
    assert tuple(open_dataset(write_json(tmp_path / "x.json", content)).classes) == ("thing",)

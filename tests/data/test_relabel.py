"""Classes renamed, merged and left out, of objects, class maps and whole images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.check import check
from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError
from sightline.structures import IGNORE, Instances

from .formats.helpers import coco, coco_image, coco_object, everything, picture, rows, write_json

NAMES = ("apple", "banana", "junk", "fruit")


def images(count: int) -> list[torch.Tensor]:
    return [torch.full((3, 20, 30), 40 * k, dtype=torch.uint8) for k in range(count)]


def objects() -> Dataset:
    """Labels 0 1 2 3 on the first image, 2 on the second, 1 1 on the third."""
    labels = [[0, 1, 2, 3], [2], [1, 1]]
    targets = [
        Instances((20, 30), boxes=[[k, 1, k + 5, 9] for k in range(len(one))], labels=one, areas=[7.0 + k for k in one])
        for one in labels
    ]
    return Dataset.from_instances(images(3), targets, NAMES, splits=["train", "train", "val"])


def found(data: Dataset) -> list[list[str]]:
    return [data.target(i).names() for i in range(len(data))]


class TestObjects:
    def test_merged_renamed_and_left_out(self):
        data = objects().with_class_mapping({"apple": "fruit", "banana": "fruit", "junk": None})
        assert tuple(data.classes) == ("fruit",)
        assert found(data) == [["fruit"] * 3, [], ["fruit"] * 2]
        assert data.target(0).areas.tolist() == [7, 8, 10]  # those of the objects that stay
        assert data.splits == ("train", "val")
        assert data.whole
        data = objects().with_class_mapping({"junk": " thing "})
        assert tuple(data.classes) == ("apple", "banana", "thing", "fruit")
        assert found(data) == [["apple", "banana", "thing", "fruit"], ["thing"], ["banana"] * 2]

    def test_names_may_change_places(self):
        data = objects().with_class_mapping({"apple": "banana", "banana": "apple"})
        assert tuple(data.classes) == ("banana", "apple", "junk", "fruit")
        assert found(data)[0] == ["banana", "apple", "junk", "fruit"]
        assert data.target(0).labels.tolist() == [0, 1, 2, 3]

    def test_views_and_repetition(self):
        data = objects()["val"].with_class_mapping({"apple": None}).with_class_mapping({"banana": "x", "junk": "x"})
        assert tuple(data.classes) == ("x", "fruit")
        assert found(data) == [["x", "x"]]
        assert not data.whole

    def test_an_id_that_is_no_class_stays_one(self):
        data = objects()
        columns = data.columns.replace(labels=np.array([0, 1, 2, 3, 9, -1, 1], np.int32))
        moved = data.with_columns(columns).with_class_mapping({"junk": None, "apple": "fruit"})
        assert [p.rule for p in check(moved, progress=False).problems if p.level == "error"] == ["unknown-class"] * 2
        assert moved.target(0).names() == ["fruit", "banana", "fruit"]

    @pytest.mark.parametrize(
        ("mapping", "message"),
        [
            ({"aple": "x"}, "unknown class 'aple'; did you mean 'apple'"),
            ({"apple": ""}, "class 'apple' cannot become ''; give a name, or None"),
            ({"apple": 3}, "class 'apple' cannot become 3"),
            (dict.fromkeys(NAMES), "removes all 4 classes; keep at least one"),
            ({0: "x"}, "the class mapping has the key 0, but keys are class names"),
            (["apple"], "a class mapping is a dict from old to new names, not list"),
        ],
    )
    def test_mistakes(self, mapping: object, message: str):
        with pytest.raises(InputError, match=message):
            objects().with_class_mapping(mapping)  # type: ignore[arg-type]

    def test_what_coco_keeps_of_a_category(self, tmp_path: Path):
        picture(tmp_path / "in" / "a.jpg")
        content = coco([coco_image(1, "a.jpg")], [coco_object(1, 1, 8, [1, 2, 3, 4])], {3: "cat", 8: "dog", 9: "cow"})
        for category, colour in zip(content["categories"], ("red", "green", "blue"), strict=True):
            category["colour"] = colour
        data = open_dataset(write_json(tmp_path / "in" / "x.json", content).parent)
        moved = data.with_class_mapping({"dog": "pet", "cat": "pet", "cow": "beast"})
        convert(moved, tmp_path / "out", "coco")
        assert everything(open_dataset(tmp_path / "out")) == {("all", "a.jpg"): [("pet", 1, 2, 4, 6)]}
        written = json.loads((tmp_path / "out" / "annotations" / "instances_default.json").read_text())["categories"]
        assert [(c["name"], c.get("colour")) for c in written] == [("pet", None), ("beast", "blue")]
        moved = data.with_classes(["dog", "cow", "cat"])
        convert(moved, tmp_path / "again", "coco")
        assert rows(open_dataset(tmp_path / "again"), 0) == [("dog", 1, 2, 4, 6)]
        written = json.loads((tmp_path / "again" / "annotations" / "instances_default.json").read_text())["categories"]
        assert [(c["name"], c["colour"]) for c in written] == [("dog", "green"), ("cow", "blue"), ("cat", "red")]


MAP = torch.tensor([[0, 1, 2], [3, 255, 1]])
"""Ids of NAMES, and a pixel that does not count."""


def maps_on_disk(folder: Path) -> Dataset:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(folder / "images" / "a.png")
    Image.fromarray(MAP.numpy().astype(np.uint8)).save(folder / "masks" / "a.png")
    (folder / "classes.txt").write_text("\n".join(NAMES))
    return open_dataset(folder, format="semantic")


@pytest.fixture(params=["memory", "disk"])
def class_maps(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    if request.param == "memory":
        return Dataset.from_class_maps([torch.zeros(3, 2, 3, dtype=torch.uint8)], [MAP], NAMES)
    return maps_on_disk(tmp_path / "in")


class TestClassMaps:
    def test_merged_and_left_out(self, class_maps: Dataset, tmp_path: Path):
        data = class_maps.with_class_mapping({"apple": "fruit", "banana": "fruit", "junk": None})
        assert tuple(data.classes) == ("fruit",)
        assert data.target(0).labels.tolist() == [[0, 0, IGNORE], [0, IGNORE, 0]]
        assert class_maps.target(0).labels.tolist() == [[0, 1, 2], [3, IGNORE, 1]]  # the first stays as it is
        convert(data, tmp_path / "out", "semantic")
        again = open_dataset(tmp_path / "out")
        assert tuple(again.classes) == ("fruit",)
        assert torch.equal(again.target(0).labels, data.target(0).labels)

    def test_twice_and_in_another_order(self, class_maps: Dataset):
        data = class_maps.with_class_mapping({"apple": None}).with_class_mapping({"banana": "x", "fruit": "x"})
        assert tuple(data.classes) == ("x", "junk")
        assert data.target(0).labels.tolist() == [[IGNORE, 0, 1], [0, IGNORE, 0]]
        data = class_maps.with_classes(["fruit", "junk", "sky", "banana", "apple"])
        assert data.target(0).labels.tolist() == [[4, 3, 1], [0, IGNORE, 3]]
        assert data.filter(classes=["banana", "fruit"]).target(0).labels.tolist() == [
            [IGNORE, 0, IGNORE],
            [1, IGNORE, 0],
        ]

    def test_a_value_that_is_no_class_is_still_refused(self, class_maps: Dataset):
        bad = Dataset.from_class_maps([torch.zeros(3, 2, 3, dtype=torch.uint8)], [MAP + 3], NAMES)
        with pytest.raises(InputError, match="000000"):
            bad.with_class_mapping({"apple": None}).target(0)


def test_classes_of_whole_images():
    data = Dataset.from_labels(images(4), [0, 1, 2, 1], ["cat", "dog", "junk"], splits=["train", "val", "val", "val"])
    moved = data.with_class_mapping({"cat": "pet", "dog": "pet", "junk": None})
    assert [int(moved.target(i).label) for i in range(len(moved))] == [0, 0, 0]
    assert [moved.name(i) for i in range(3)] == ["000000.png", "000001.png", "000003.png"]
    assert moved.splits == ("train", "val")
    assert moved.whole
    assert int(moved[2][0][0, 0, 0]) == 120
    (only,) = [moved["val"].filter(classes="pet")]
    assert len(only) == 2
    assert not only.whole

"""Filtering a dataset, against loops over its targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sightline.data.check import check
from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError
from sightline.structures import Instances

CLASSES = ("apple", "pear", "plum")
NAMES = ("street/a.png", "street/b.jpg", "park/a.png", "park/c.png", "d.png")
SPLITS = ("train", "train", "val", "val", "test")
LABELS: tuple[list[int], ...] = ([0, 1, 1], [2], [], [0, 2], [1])
AREAS: tuple[list[float], ...] = ([10, 200, 3000], [200], [], [5, 1024], [10])


@pytest.fixture
def data() -> Dataset:
    targets = [
        Instances((60, 80), boxes=[[1, 1, 5 + k, 9] for k in range(len(one))], labels=one, areas=areas)
        for one, areas in zip(LABELS, AREAS, strict=True)
    ]
    images = [torch.full((3, 60, 80), 10 * k, dtype=torch.uint8) for k in range(5)]
    return Dataset.from_instances(images, targets, CLASSES, names=NAMES, splits=SPLITS)


def shown(data: Dataset) -> dict[str, list[tuple[str, float]]]:
    targets = ((data.name(i), data.target(i)) for i in range(len(data)))
    return {name: list(zip(t.names(), t.areas.tolist(), strict=True)) for name, t in targets}


def wanted(images: list[int], classes: tuple[str, ...] = CLASSES, least: float = 0) -> dict[str, list]:
    return {
        NAMES[i]: [
            (CLASSES[k], a) for k, a in zip(LABELS[i], AREAS[i], strict=True) if CLASSES[k] in classes and a >= least
        ]
        for i in images
    }


def test_nothing_given_changes_nothing(data: Dataset):
    assert shown(data.filter()) == wanted([0, 1, 2, 3, 4])


@pytest.mark.parametrize("classes", [["plum", "apple"], ["pear"], "pear"])
def test_classes(data: Dataset, classes: str | list[str]):
    names = [classes] if isinstance(classes, str) else classes
    chosen = data.filter(classes=classes)
    assert list(chosen.classes) == names
    assert shown(chosen) == wanted([0, 1, 2, 3, 4], tuple(names))
    assert chosen.whole


def test_splits(data: Dataset):
    chosen = data.filter(split=["test", "train"])
    assert shown(chosen) == wanted([0, 1, 4])
    assert chosen.splits == chosen.source.split_names == ("train", "test")
    assert [chosen.split_of(i) for i in range(3)] == ["train", "train", "test"]
    assert chosen.whole
    assert "split-empty" not in {p.rule for p in check(data.filter(split="train"), progress=False).problems}
    assert not data["val"].filter(split="val").whole


@pytest.mark.parametrize(
    ("names", "images"),
    [
        ("a.png", [0, 2]),
        ("street/*", [0, 1]),
        ("*.png", [0, 2, 3, 4]),
        (["d*", "*b.jpg"], [1, 4]),
        ("[ac].png", [0, 2, 3]),
    ],
)
def test_names(data: Dataset, names: str | list[str], images: list[int]):
    chosen = data.filter(names=names)
    assert shown(chosen) == wanted(images)
    assert [int(chosen.image(i)[0, 0, 0]) for i in range(len(chosen))] == [10 * i for i in images]


def test_areas_and_objects(data: Dataset):
    assert shown(data.filter(min_area=200)) == wanted([0, 1, 2, 3, 4], least=200)
    assert shown(data.filter(with_objects=True)) == wanted([0, 1, 3, 4])
    assert shown(data.filter(with_objects=False)) == wanted([2])
    assert shown(data.filter(min_area=200, with_objects=True)) == wanted([0, 1, 3], least=200)
    assert shown(data.filter(classes="pear", with_objects=False)) == wanted([1, 2, 3], ("pear",))


def test_everything_at_once(data: Dataset):
    chosen = data.filter(classes=["plum"], split=["train", "val"], names="*", min_area=300, with_objects=True)
    assert shown(chosen) == {"park/c.png": [("plum", 1024.0)]}
    assert shown(data[[3, 1]].filter(classes=["plum"])) == {
        "park/c.png": [("plum", 1024.0)],
        "street/b.jpg": [("plum", 200.0)],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["aple"]}, "unknown class 'aple'; did you mean 'apple'"),
        ({"classes": []}, r"classes is \[\], but must be a string or a list of at least one string"),
        ({"classes": [1]}, r"classes is \[1\], but must be"),
        ({"split": []}, r"split is \[\], but must be"),
        ({"names": 3}, "names is 3, but must be"),
        ({"split": "dev"}, "there is no split 'dev'; there are: train, val, test"),
        ({"names": "*.jpeg"}, r"none of the 5 images, such as 'street/a\.png', matches '\*\.jpeg'"),
        ({"min_area": -1}, "min_area is -1, but must be a number of pixels"),
        ({"min_area": float("nan")}, "min_area is nan"),
        ({"min_area": "big"}, "min_area is 'big'"),
    ],
)
def test_mistakes(data: Dataset, arguments: dict, message: str):
    with pytest.raises(InputError, match=message):
        data.filter(**arguments)


def test_class_maps_have_no_objects():
    maps = Dataset.from_class_maps(
        [torch.zeros(3, 4, 4, dtype=torch.uint8)], [torch.zeros(4, 4, dtype=torch.int64)], CLASSES
    )
    for arguments in ({"min_area": 3}, {"with_objects": True}):
        with pytest.raises(InputError, match="selects by objects, but this dataset has class maps"):
            maps.filter(**arguments)
    assert len(maps.filter(names="*", split="all")) == 1


def test_what_is_chosen_can_be_written(data: Dataset, tmp_path: Path):
    convert(data, tmp_path / "coco", "coco")
    opened = open_dataset(tmp_path / "coco")
    chosen = opened.filter(classes=["plum", "apple"], split=["train", "val"])
    assert chosen.label_path(0) == tmp_path / "coco" / "annotations" / "instances_train.json"
    assert chosen.image_name(0) == "street/a.png"
    convert(chosen, tmp_path / "voc", "voc")
    again = open_dataset(tmp_path / "voc", classes=["plum", "apple"])
    written = {again.image_name(i): again.target(i).names() for i in range(len(again))}
    assert written == {
        "street/a.png": ["apple"],
        "street/b.png": ["plum"],  # in memory, it had no file to copy
        "park/a.png": [],
        "park/c.png": ["apple", "plum"],
    }


def test_the_examples_of_the_documentation_run():
    file = Path(__file__).parents[2] / "docs" / "choosing_data.md"
    blocks = re.findall(r"```python\n(.*?)```", file.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    exec("\n".join(blocks), {})

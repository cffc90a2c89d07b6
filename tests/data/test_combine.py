"""Datasets joined: everything of both is there, under names of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data.check import check
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError
from sightline.structures import IGNORE, Instances

from .formats.helpers import everything


def memory(
    classes: tuple[str, ...], labels: list[list[int]], splits: list[str] | None = None, start: int = 0, **more: Any
) -> Dataset:
    images = [torch.full((3, 20, 30), start + k, dtype=torch.uint8) for k in range(len(labels))]
    targets = [
        Instances((20, 30), boxes=[[start, k, start + 5, 9] for k in range(len(one))], labels=one, **more)
        for one in labels
    ]
    return Dataset.from_instances(images, targets, classes, splits=splits)


def facts(data: Dataset) -> list[tuple[str, int, list[str], list[list[float]]]]:
    """Split, first pixel, class names and boxes of each image."""
    targets = [data.target(i) for i in range(len(data))]
    return [(data.split_of(i), int(data.image(i)[0, 0, 0]), t.names(), t.boxes.tolist()) for i, t in enumerate(targets)]


def test_classes_are_united_by_name():
    one = memory(("cat", "dog"), [[0, 1], [1]], ["train", "val"])
    two = memory(("dog", "owl", "cat"), [[0, 1, 2], [], [1]], ["val", "train", "test"], start=7)
    both = one + two
    assert tuple(both.classes) == ("cat", "dog", "owl")
    assert facts(both) == facts(one) + facts(two)
    assert both.splits == ("train", "val", "test")
    assert len(both["val"]) == 2
    assert len({(both.split_of(i), both.name(i)) for i in range(5)}) == 5
    assert both.whole
    three = sum([one, two, memory(("bee",), [[0]], ["test"])])
    assert isinstance(three, Dataset)
    assert facts(three) == [*facts(both), ("test", 0, ["bee"], [[0, 0, 5, 9]])]
    assert facts(one) == facts(memory(("cat", "dog"), [[0, 1], [1]], ["train", "val"]))  # stays as it was


def test_views_are_joined_as_they_are():
    one = memory(("cat", "dog"), [[0, 1], [1], [0]], ["train", "val", "train"])
    both = one["train"] + one["val"]
    assert facts(both) == [facts(one)[k] for k in (0, 2, 1)]
    assert not both.whole
    assert facts((one[[2]] + one[[0]])[::-1]) == [facts(one)[0], facts(one)[2]]


@pytest.mark.parametrize(("to", "other"), [("coco", "yolo"), ("voc", "coco"), ("coco", "coco"), ("labelme", "cvat")])
def test_formats_and_folders(to: str, other: str, tmp_path: Path):
    one = memory(("cat", "dog"), [[0, 1], [1]], ["train", "val"])
    two = memory(("owl", "cat"), [[0, 1], [0]], ["train", "val"], start=7)
    convert(one, tmp_path / "a" / "one", to)
    convert(two, tmp_path / "b", other)
    first, second = open_dataset(tmp_path / "a" / "one"), open_dataset(tmp_path / "b")
    both = first + second
    assert both.root == tmp_path
    assert both.format == (to if to == other else "mixed")
    assert facts(both) == facts(first) + facts(second)
    names = [both.name(i) for i in range(4)]
    assert names == [f"a/one/{first.name(i)}" for i in range(2)] + [f"b/{second.name(i)}" for i in range(2)]
    for i in range(4):
        part, k = (first, i) if i < 2 else (second, i - 2)
        assert both.path(i) == part.path(k)
        assert both.label_path(i) == part.label_path(k)
        assert both.image_size(i) == (20, 30)
    assert check(both, progress=False).ok
    convert(both, tmp_path / "out", "coco")
    again = open_dataset(tmp_path / "out", classes=["owl", "cat", "dog"])
    assert sorted((s, n) for s, _, n, _ in facts(again)) == sorted((s, n) for s, _, n, _ in facts(both))


def test_files_and_memory(tmp_path: Path):
    one = memory(("cat", "dog"), [[0, 1], [1]])
    convert(one, tmp_path / "one", "coco")
    opened, other = open_dataset(tmp_path / "one"), memory(("dog",), [[0]], start=9)
    assert facts(opened + other) == facts(opened) + facts(other)
    assert facts(other + opened) == facts(other) + facts(opened)
    assert (other + opened).root is None
    convert(other + opened, tmp_path / "out", "coco")
    assert len(open_dataset(tmp_path / "out")) == 3


def test_fields_of_one_part_alone():
    one = memory(("cat",), [[0, 0]], keypoints=torch.ones(2, 3, 3), scores=torch.tensor([0.5, 0.25]))
    masks = torch.zeros(1, 20, 30, dtype=torch.bool)
    masks[0, 2:5, 3:7] = True
    two = memory(("cat",), [[0]], masks=masks, captions=["red"])
    both = (one + two).with_fields("masks", "keypoints", "captions", "scores")
    assert both.target(0).keypoints.tolist() == torch.ones(2, 3, 3).tolist()
    assert both.target(1).keypoints.tolist() == torch.zeros(1, 3, 3).tolist()
    assert [both.target(i).masks.sum().item() for i in range(2)] == [0, 12]
    assert [both.target(i).captions for i in range(2)] == [["", ""], ["red"]]
    assert both.target(0).scores.tolist() == [0.5, 0.25]


def test_numbers_of_two_types_keep_their_values():
    one = memory(("cat",), [[0]], grade=torch.tensor([3]))
    two = memory(("cat",), [[0]], grade=torch.tensor([0.75]))
    both = (one + two).with_fields("grade")
    assert [float(both.target(i).grade) for i in range(2)] == [3, 0.75]
    assert Columns.concatenate([one.columns, two.columns]).extra["grade"].tolist() == [3, 0.75]  # type: ignore[union-attr]


def test_class_maps():
    pictures = [torch.zeros(3, 2, 2, dtype=torch.uint8)]
    one = Dataset.from_class_maps(pictures, [torch.tensor([[0, 1], [255, 1]])], ["sky", "road"])
    two = Dataset.from_class_maps(pictures, [torch.tensor([[0, 1], [9, 0]])], ["road", "car"], ignore=9)
    both = one + two
    assert tuple(both.classes) == ("sky", "road", "car")
    assert both.target(0).labels.tolist() == [[0, 1], [IGNORE, 1]]
    assert both.target(1).labels.tolist() == [[1, 2], [IGNORE, 1]]
    assert both[[1]].split(1, 0, 0).target(0).labels.tolist() == [[1, 2], [IGNORE, 1]]
    merged = both.with_class_mapping({"sky": None, "car": "road"})
    assert merged.target(0).labels.tolist() == [[IGNORE, 0], [IGNORE, 0]]
    assert merged.target(1).labels.tolist() == [[0, 0], [IGNORE, 0]]


def test_classes_of_whole_images():
    pictures = [torch.zeros(3, 2, 2, dtype=torch.uint8)] * 2
    both = Dataset.from_labels(pictures, [0, 1], ["a", "b"]) + Dataset.from_labels(pictures, [1, 0], ["b", "c"])
    assert [both.classes[both.target(i).label] for i in range(4)] == ["a", "b", "c", "b"]
    assert len({both.name(i) for i in range(4)}) == 4


def test_an_image_of_both_is_refused(tmp_path: Path):
    convert(memory(("cat",), [[0], [0]], ["train", "val"]), tmp_path / "one", "coco")
    data = open_dataset(tmp_path / "one")
    with pytest.raises(
        InputError, match=r"both datasets contain the image .*train/000000\.png in the split 'train'; leave"
    ):
        data + data
    assert len(data["train"] + data["val"]) == 2


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        (
            memory(("cat",), [[0]]),
            memory(("cat",), [[0]], ["train"]),
            r"one dataset has splits \(train\) and the other has none",
        ),
        (
            memory(("cat",), [[0]]),
            memory(("Cat",), [[0]]),
            "the classes 'cat' and 'Cat' differ only in capitalization",
        ),
        (
            memory(("cat",), [[0]]),
            Dataset.from_labels([torch.zeros(3, 2, 2, dtype=torch.uint8)], [0], ["cat"]),
            "different kinds of labels .objects and image classes. cannot be concatenated",
        ),
        (memory(("cat",), [[0]]), memory(("cat",), [[0]]).with_channels(1), "read with 3 and 1 channels"),
        (
            memory(("cat",), [[0]], note=["x"]),
            memory(("cat",), [[0]], note=torch.tensor([1])),
            "the field 'note' of the objects has text and values",
        ),
        (
            memory(("cat",), [[0]], keypoints=torch.ones(1, 3, 3)).with_fields("keypoints"),
            memory(("cat",), [[0]], keypoints=torch.ones(1, 5, 3)),
            "different keypoints",
        ),
    ],
)
def test_what_does_not_fit_is_refused(one: Dataset, two: Dataset, message: str):
    with pytest.raises(InputError, match=message):
        one + two


def test_keypoints_that_differ_are_left_out_unless_asked_for():
    one = memory(("cat",), [[0]], keypoints=torch.ones(1, 3, 3))
    both = one + memory(("cat",), [[0]], keypoints=torch.ones(1, 5, 3))
    with pytest.raises(InputError, match="no field 'keypoints'"):
        both.with_fields("keypoints")
    with pytest.raises(TypeError):
        one + 3  # type: ignore[operator]


def test_keypoints_of_one_part_keep_their_mirror_images():
    target = Instances((20, 30), boxes=[[1, 2, 9, 9]], labels=[0], keypoints=torch.ones(1, 2, 3))
    posed = Dataset.from_instances(
        [torch.zeros(3, 20, 30, dtype=torch.uint8)], [target], ["cat"], keypoint_names=["left_eye", "right_eye"]
    )
    for both in (posed + memory(("cat",), [[0]], start=3), memory(("cat",), [[0]], start=3) + posed):
        assert both.keypoint_names == ("left_eye", "right_eye")
        assert both.keypoint_swap == (1, 0)


def test_keypoints_in_files_of_their_own_and_captions(tmp_path: Path):
    one = memory(("cat",), [[0, 0]], keypoints=torch.arange(18.0).reshape(2, 3, 3))
    for name in ("a", "b"):
        convert(one, tmp_path / name, "coco")
    both = open_dataset(tmp_path / "a") + open_dataset(tmp_path / "b")
    points = both.with_fields("keypoints").target(1).keypoints
    assert np.array_equal(points, torch.arange(18.0).reshape(2, 3, 3))
    assert len(everything(both)) == 2

"""Boxed and labelled images as one set, and YOLO9000 learning from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sightline as sl
from sightline.data.joint import JointData
from sightline.errors import InputError
from sightline.structures import ClassScores, Instances
from sightline.training.loader import require_fitting


def boxed(count: int = 3) -> sl.Dataset:
    return sl.scenes(count, 48, seed=2)


def labelled(count: int = 30) -> sl.Dataset:
    images = [torch.full((3, 40, 48), 8 * i, dtype=torch.uint8) for i in range(count)]
    return sl.Dataset.from_labels(images, [i % 3 for i in range(count)], ["torus", "cone", "dog"])


def test_the_smaller_set_is_repeated_until_the_other_is_at_most_four_times_as_large() -> None:
    data = JointData(boxed(), labelled())
    assert data.repeats == 3  # 30 labelled against 9 boxed: 3.3 times; with 6 it were 5 times
    assert len(data) == 3 * 3 + 30
    assert JointData(boxed(), labelled(12)).repeats == 1
    assert JointData(boxed(), labelled(), most=1).repeats == 10
    first, again = data[1][1], data[4][1]
    assert torch.equal(first.boxes, again.boxes)


def test_labels_are_those_of_the_joint_classes() -> None:
    data = JointData(boxed(), labelled())
    assert list(data.classes) == ["sphere", "box", "cylinder", "cone", "ring", "torus", "dog"]
    for i, (image, target) in enumerate(data):
        assert target.classes == data.classes
        if i < 9:
            assert isinstance(target, Instances)
            alone = boxed()[i % 3]
            assert target.names() == alone[1].names()
            assert torch.equal(image, alone[0])
        else:
            assert isinstance(target, ClassScores)
            assert data.classes[target.label] == ["torus", "cone", "dog"][(i - 9) % 3]
            assert int(image[0, 0, 0]) == 8 * (i - 9)
    assert data[-1][1].label == data[38][1].label
    with pytest.raises(IndexError):
        data[39]


def test_other_classes_by_name() -> None:
    data = boxed()
    moved = data.with_classes(["ring", "dog", "cylinder", "sphere", "cone", "box"])
    assert [t.names() for _, t in moved] == [t.names() for _, t in data]
    assert [t.names() for _, t in moved[1:2]] == [data[1][1].names()]
    with pytest.raises(InputError, match="unknown class 'cone'"):
        data.with_classes(["ring", "cylinder", "sphere", "box"])
    maps = sl.scenes(1, 48, kind="class_map")
    with pytest.raises(InputError, match="unknown class"):
        maps.with_classes(["ring"])
    turned = maps.with_classes(list(maps.classes)[::-1])
    assert (turned.target(0).labels == len(maps.classes) - 1 - maps.target(0).labels).all()


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(InputError, match="the labels are objects, but images with a label each are expected"):
        JointData(boxed(), boxed())
    with pytest.raises(InputError, match="images with a label each is empty"):
        JointData(boxed(), labelled()[:0])
    with pytest.raises(InputError, match="most is 0"):
        JointData(boxed(), labelled(), most=0)
    data = JointData(boxed(), labelled())
    with pytest.raises(InputError, match="use YOLO9000, or only the images with boxes"):
        require_fitting(sl.create_model("sightline_n", data.classes), data, None)


def test_yolo9000_learns_from_both_and_is_measured_on_boxes(tmp_path: Path) -> None:
    data = JointData(boxed(4), labelled(6))
    names = ["thing", *data.classes]
    tree = [["thing", -1], *([name, 0] for name in data.classes)]
    assert names[0] == tree[0][0]
    model = sl.create_model("yolo_9000_mobilenet_v2", data.classes, image_size=96, tree=tree)
    validation = boxed(2).with_classes(data.classes)
    numbers = {"epochs": 2, "batch_size": 4, "augmentation": "light", "device": "cpu"}
    run = sl.train(model, data, validation, runs=tmp_path, name="joint", progress=False, report=False, **numbers)
    assert len(run.metrics) == 2
    assert {"train/loss_box", "train/loss_classification", "val/AP"} <= run.metrics[0].keys()
    assert sl.load(run.folder).classes == data.classes

"""A training says if images contain more objects than the detector returns."""

from __future__ import annotations

import pytest
import torch

import sightline as sl
from sightline.structures import Instances
from sightline.verbs.object_limit import beyond_limit
from sightline.verbs.prepare import prepare


def crowded(*numbers: int, crowd: bool = False) -> sl.Dataset:
    """One image of 8 × 8 pixels for each number of objects."""
    images = [torch.zeros(3, 8, 8, dtype=torch.uint8) for _ in numbers]
    targets = [
        Instances(
            (8, 8), boxes=[[1.0, 1, 5, 5]] * n, labels=[0] * n, crowd=torch.full((n,), crowd), classes=sl.Classes(["a"])
        )
        for n in numbers
    ]
    return sl.Dataset.from_instances(images, targets, ["a"])


@pytest.mark.parametrize(
    ("name", "most", "group"), [("faster_rcnn_mobilenet_v2_fpn", 100, "boxes"), ("sightline_lite0", 300, "settings")]
)
def test_limit_of_a_detector(name: str, most: int, group: str):
    model = sl.create_model(name, ["a"], weights="none")
    (sentence,) = beyond_limit(model, crowded(2, most + 1, most, most + 30))
    assert sentence.startswith(f"2 images have more than {most} objects (up to {most + 30})")
    assert f"--arg {group}.max_detections={most + 100}" in sentence
    assert beyond_limit(model, crowded(2, most)) == []
    assert beyond_limit(model, crowded(most + 1, crowd=True)) == []
    higher = sl.create_model(name, ["a"], weights="none", **{group: {"max_detections": most + 100}})
    assert beyond_limit(higher, crowded(most + 30)) == []


def test_models_without_a_limit_that_matters():
    assert beyond_limit(sl.create_model("localiser", ["a"], weights="none"), crowded(2)) == []
    assert beyond_limit(sl.create_model("unet", ["a", "b"], weights="none"), crowded(500)) == []


def test_preparing_a_training_says_so():
    model = sl.create_model("sightline_lite0", ["a"], weights="none")
    prepared = prepare(model, crowded(301, 2), crowded(1), device="cpu", choose=False)
    assert beyond_limit(model, crowded(301, 2))[0] in prepared.messages

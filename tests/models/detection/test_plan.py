"""The plan of Sightline's own detector, with made-up speeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sightline.errors import InputError
from sightline.models.detection.plan import plan
from sightline.models.plan import Budget, Facts

FACTS = Facts(images=100, validation=10, image_size=(480, 640), objects=np.full((50, 2), 0.1))


def by_pixels(arguments: Mapping[str, Any]) -> float:
    """A tenth of a second for an image of 320 pixels."""
    return 0.1 * (arguments["image_size"] / 320) ** 2


def values(facts: Facts, budget: Budget) -> dict[str, Any]:
    return {choice.name: choice.value for choice in plan(facts, budget)}


@pytest.mark.parametrize("size", [64, 320, 640])
def test_a_size_of_the_user_is_measured_as_it_is(size: int):
    """The catalog measures at the size that the user named, whatever a plan asks for."""
    given = {"image_size": size}

    def speed(arguments: Mapping[str, Any]) -> float:
        return by_pixels({**arguments, **given})

    found = plan(FACTS, Budget(minutes=3, pretrained=True, given=given, speed=speed))
    steps = next(choice.reason for choice in found if choice.name == "ema")
    images = 3 * 60 * 0.8 / (0.1 * (size / 320) ** 2)
    batch = next(choice.value for choice in found if choice.name == "batch_size")
    assert float(steps.split()[-2]) == pytest.approx(images / 100 * (100 // batch), abs=1)


def test_few_epochs_are_not_too_few_minutes():
    """An hour holds many steps; one epoch of 4 images is one, which is what the user asked for."""
    few = Facts(images=4, validation=0, image_size=(480, 640))
    assert values(few, Budget(minutes=60, epochs=1, pretrained=True, speed=by_pixels))["batch_size"] == 4
    with pytest.raises(InputError, match=r"minutes is 0.01, which holds about 2 training steps"):
        plan(few, Budget(minutes=0.01, epochs=1, pretrained=True, speed=by_pixels))


def test_only_a_published_backbone_is_frozen():
    asked = []

    def speed(arguments: Mapping[str, Any]) -> float:
        asked.append(set(arguments))
        return by_pixels(arguments)

    own = values(FACTS, Budget(minutes=3, pretrained=True, takes_backbone=False, speed=speed))
    assert not {"norm", "trainable_layers"} & (set(own) | set().union(*asked))
    assert values(FACTS, Budget(minutes=3, pretrained=True, speed=by_pixels))["norm"] == "frozen"


@pytest.mark.parametrize(
    ("validation", "given", "kept"),
    [
        (1, {}, "last"),
        (19, {}, "last"),
        (20, {}, None),
        (0, {}, None),
        (6, {"patience": 5}, None),
        (6, {"schedule": "constant"}, None),
        (6, {"schedule": "cosine", "patience": None}, "last"),
    ],
)
def test_few_validation_images_do_not_choose_the_epoch(validation: int, given: dict[str, Any], kept: str | None):
    facts = replace(FACTS, validation=validation)
    assert values(facts, Budget(pretrained=True, given=given)).get("keep") == kept

"""Each choice in the plan of Sightline's own detector by the numbers it follows from, with made-up speeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sightline.errors import InputError
from sightline.models.catalog import find
from sightline.models.detection.plan import (
    LATE_MOSAICS,
    augmentation,
    averaging,
    backbone,
    batch_size,
    plan,
    resolution,
)
from sightline.models.plan import Budget, Choice, Facts
from sightline.training.recipe import Recipe

SQUARES = np.full((50, 2), 0.1)
DATA = Facts(images=100, validation=20, image_size=(480, 640), classes=("cat", "dog"), objects=SQUARES)
LITE = Budget(pretrained=True)


def speed_of(at_320: float) -> Any:
    """The time of a step in proportion to the pixels."""

    def speed(arguments: Mapping[str, Any]) -> float:
        return at_320 * (arguments["image_size"] / 320) ** 2

    return speed


def minutes(value: float, at_320: float = 0.05, **more: Any) -> Budget:
    return Budget(minutes=value, pretrained=True, speed=speed_of(at_320), **more)


def values(choices: list[Choice]) -> dict[str, Any]:
    found = {choice.name: choice.value for choice in choices}
    assert len(found) == len(choices)
    assert all(choice.reason for choice in choices)
    return found


@pytest.mark.parametrize(
    ("side", "size"),
    [
        (0.5, 320),  # large objects: the usual size
        (0.075, 320),  # 24 pixels in it
        (0.074, 352),
        (0.05, 480),  # 24 / 0.05
        (0.02, 640),  # 1200 pixels would be needed
    ],
)
def test_small_objects_get_24_pixels(side: float, size: int):
    choice = resolution(replace(DATA, objects=np.full((9, 2), side)), LITE)
    assert (choice.name, choice.value) == ("image_size", size)
    shown = f"small objects measure {side * size:.0f} pixels at this size, and {side * 640:.0f} in the images"
    assert choice.reason == f"{shown}, whose longer side is 640"


def test_objects_count_by_their_area_and_the_smallest_tenth():
    flat = np.tile([[0.2, 0.0125]], (20, 1))  # 0.05 · 0.05
    assert resolution(replace(DATA, objects=flat), LITE).value == 480
    few_small = np.concatenate([np.full((95, 2), 0.3), np.full((5, 2), 0.01)])
    assert resolution(replace(DATA, objects=few_small), LITE).value == 320


def test_images_are_enlarged_to_twice_their_size_at_most():
    small = replace(DATA, image_size=(100, 130), objects=np.full((9, 2), 0.02))
    assert resolution(small, LITE).value == 256  # 260 rounded down to a multiple of 32
    assert resolution(replace(small, image_size=(64, 64)), LITE).value == 224  # never smaller


@pytest.mark.parametrize("objects", [None, np.zeros((0, 2))])
def test_data_without_boxes_gets_the_usual_size(objects: Any):
    choice = resolution(replace(DATA, objects=objects), LITE)
    assert choice.value == 320
    assert "no boxes" in choice.reason


@pytest.mark.parametrize(
    ("at_320", "pretrained", "size"),
    [
        (0.05, True, 480),  # 3 minutes hold 144 s of steps: 12.8 epochs of 100 images at 480
        (0.10, True, 416),  # 8 epochs are 0.18 s an image: 320 · √1.8 = 429
        (0.18, True, 320),
        (0.50, True, 224),  # five epochs, but nothing is smaller
        (0.02, False, 480),  # 32 epochs
        (0.05, False, 288),  # 30 epochs are 0.048 s an image: 320 · √0.96 = 313
    ],
)
def test_images_are_made_smaller_until_enough_epochs_fit(at_320: float, pretrained: bool, size: int):
    budget = replace(minutes(3, at_320), pretrained=pretrained)
    choice = resolution(replace(DATA, objects=np.full((9, 2), 0.05)), budget)
    assert choice.value == size
    assert (f"at 480 pixels the minutes would hold fewer than {8 if pretrained else 30} epochs" in choice.reason) == (
        size < 480
    )


def test_epochs_of_the_user_do_not_make_images_larger_than_needed_or_the_training_longer():
    budget = minutes(30, epochs=2)
    found = values(plan(DATA, budget))
    assert (found["batch_size"], found["augmentation"], "epochs" in found) == (4, "light", False)


def test_a_budget_too_small_names_one_that_would_do():
    with pytest.raises(InputError) as caught:
        plan(DATA, minutes(0.05, 0.5))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("minutes is 0.05, which holds about 2 training steps of this model on this machine")
    enough = float(message.rsplit("at least ", 1)[1].removesuffix(" minutes"))
    assert enough == pytest.approx(1.25 * 0.05 * 10 / (0.05 * 48 / 0.245 / 4), rel=0.05)  # with a margin
    plan(DATA, minutes(enough, 0.5))


def test_batches_are_small_if_there_are_few_steps_or_images():
    assert batch_size(DATA, 8 * 280 - 1).value == 4
    assert batch_size(DATA, 8 * 280).value == 8
    assert batch_size(DATA, None).value == 8
    assert batch_size(replace(DATA, images=31), None).value == 4
    assert batch_size(replace(DATA, images=32), None).value == 8


def test_the_average_reaches_back_over_a_tenth_of_the_steps():
    assert averaging(1000).value == 0.99
    assert averaging(5000).value == 0.998
    assert averaging(10).value == 0.9
    assert averaging(10**7).value == 0.9998
    assert "the last 100 of 1000 steps" in averaging(1000).reason


def test_the_average_follows_the_batches_of_the_user():
    own = Budget(epochs=100, pretrained=True, given={"batch_size": 2})
    assert values(plan(DATA, own))["ema"] == averaging(100 * 50).value
    assert values(plan(DATA, replace(own, given={})))["ema"] == averaging(100 * 12).value


def test_augmentation_by_epochs():
    assert [augmentation(n).value for n in (1, 7.9, 8, 300)] == ["light", "light", "mosaic", "mosaic"]
    late = [augmentation(n, LATE_MOSAICS).value for n in (1, 14.9, 15, 39.9, 40, 300)]
    assert late == [*["light"] * 2, *["default"] * 2, *["mosaic"] * 2]


@pytest.mark.parametrize(
    ("model", "expected"),
    [("sightline_lite0", "mosaic"), ("sightline_lite0_pose", "light"), ("sightline_lite0_mask", "light")],
)
def test_masks_and_keypoints_get_mosaics_later(model: str, expected: str):
    planner = find(model).plan
    assert planner is not None
    assert values(planner(DATA, replace(LITE, epochs=9)))["augmentation"] == expected


def test_the_backbone_by_the_images_seen():
    assert values(backbone(7999)) == {"norm": "frozen", "trainable_layers": 3}
    assert values(backbone(8000)) == {"norm": "frozen"}
    assert values(backbone(None)) == {"norm": "frozen"}
    assert {"norm", "trainable_layers"}.isdisjoint(values(plan(DATA, Budget(epochs=3))))


def test_images_are_mirrored_unless_the_names_forbid_it():
    assert "mirror" not in values(plan(DATA, LITE))
    assert values(plan(replace(DATA, mirrors=False), LITE))["mirror"] is False


def test_a_training_without_a_budget():
    assert values(plan(DATA, LITE))["epochs"] == 250  # 3000 steps of 8 images of 100: 12 an epoch
    assert values(plan(DATA, Budget()))["epochs"] == 300  # 1000 from random weights, but no more than 300
    assert values(plan(replace(DATA, images=10**5), LITE))["epochs"] == 12


def test_validation_takes_a_tenth_of_the_time():
    # an epoch of 100 images, validation of 20 for two thirds of a step each: 0.13 of the epoch, every second one
    assert values(plan(DATA, minutes(3)))["validate_every"] == 2
    assert "validate_every" not in values(plan(replace(DATA, validation=15), minutes(3)))
    assert "validate_every" not in values(plan(replace(DATA, validation=0), minutes(3)))


def test_a_size_of_the_user_is_measured_and_planned_with():
    asked = []

    def speed(arguments: Mapping[str, Any]) -> float:
        asked.append(dict(arguments))
        return 0.2  # whatever is asked for, it is the user's size that is measured

    budget = Budget(minutes=3, pretrained=True, given={"image_size": 640}, speed=speed)
    found = values(plan(DATA, budget))
    assert "image_size" not in found
    assert asked
    assert all(arguments == {"image_size": 640, "norm": "frozen", "trainable_layers": 3} for arguments in asked)
    reasons = {choice.name: choice.reason for choice in plan(DATA, budget)}
    assert reasons["batch_size"] == "batches of 8 would be 90 steps, fewer than 280"  # 144 s / 0.2 s / 8


def in_both(half: float) -> Any:
    """A step of 0.05 s in float32, and `half` times that in bf16."""

    def speed(arguments: Mapping[str, Any]) -> float:
        return speed_of(0.05 * half if arguments.get("precision") == "bf16" else 0.05)(arguments)

    return speed


@pytest.mark.parametrize(("half", "precision", "shown"), [(0.7, "bf16", "0.70"), (0.86, "no", "0.86")])
def test_bf16_is_chosen_where_a_step_is_clearly_faster(half: float, precision: str, shown: str):
    budget = Budget(minutes=3, pretrained=True, speed=in_both(half), bf16=True)
    choices = plan(DATA, budget)
    assert choices[0].name == "precision"
    assert choices[0].value == precision
    assert choices[0].reason == f"a step in bf16 takes {shown} of the time of one in float32 on this processor"
    factor = half if precision == "bf16" else 1  # all that follows is chosen by the steps of that precision
    assert choices[1:] == plan(DATA, minutes(3, 0.05 * factor))


def test_where_bf16_is_not_measured():
    half = Budget(minutes=3, pretrained=True, speed=in_both(0.5), bf16=True)
    for budget in (
        replace(half, bf16=False),
        replace(half, pretrained=False),
        replace(half, minutes=None, speed=None),
        replace(half, given={"precision": "no"}),
    ):
        assert "precision" not in values(plan(DATA, budget))
    assert plan(DATA, half, bf16=False) == plan(DATA, minutes(3))
    by_hand = replace(half, given={"precision": "bf16"})
    assert plan(DATA, by_hand) == plan(DATA, half)[1:]


def test_bf16_is_chosen_only_for_models_with_compared_trainings():
    half = Budget(minutes=3, pretrained=True, speed=in_both(0.5), bf16=True)
    for name, chosen in (("sightline_lite0", True), ("sightline_lite0_pose", True), ("sightline_lite0_mask", False)):
        planner = find(name).plan
        assert planner is not None
        assert ("precision" in values(planner(DATA, half))) is chosen


@pytest.mark.parametrize("name", ["sightline_n", "sightline_lite0", "sightline_lite0_mask", "sightline_lite0_pose"])
def test_choices_are_arguments_or_settings(name: str):
    entry = find(name)
    assert getattr(entry.plan, "func", entry.plan) is plan
    backbones = name != "sightline_n"
    found = values(plan(replace(DATA, mirrors=False), replace(minutes(3), pretrained=backbones)))
    assert set(found) <= set(entry.arguments) | set(Recipe.__dataclass_fields__)
    entry.builder(["cat"], **{**entry.fixed, **entry.defaults, "image_size": found["image_size"]})
    Recipe.from_dict({name: value for name, value in found.items() if name not in entry.arguments} | {"minutes": 3})

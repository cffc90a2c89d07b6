"""Plans of segmenters and classifiers: each choice by the numbers it follows from, with made-up speeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sightline.errors import InputError
from sightline.models.catalog import find
from sightline.models.classification import plan as classes
from sightline.models.plan import Budget, Choice, Facts
from sightline.models.segmentation import plan as maps
from sightline.training.recipe import Recipe

AERIAL = Facts(images=56, validation=20, image_size=(480, 640))
FLOWERS = Facts(images=1000, validation=300, image_size=(160, 240))


def segmenter_speed(per_megapixel: float, size: tuple[int, int] = (480, 640)) -> Any:
    """The time of a step in proportion to the pixels, of images that are at most as large as the crops."""

    def speed(arguments: Mapping[str, Any]) -> float:
        assert arguments["norm"] == "frozen"
        scale = arguments.get("image_size", min(size)) / min(size)
        assert min(size) * scale <= maps.CROP
        return per_megapixel * size[0] * size[1] * scale**2 / 1e6

    return speed


def classifier_speed(at_224: float) -> Any:
    return lambda arguments: at_224 * (arguments["image_size"] / 224) ** 2


def slowed(speed: Any, factor: float, half: float = 1) -> Any:
    """A step `factor` times as long, and `half` times that in bf16."""
    return lambda arguments: speed(arguments) * factor * (half if arguments.get("precision") == "bf16" else 1)


def values(choices: list[Choice]) -> dict[str, Any]:
    found = {choice.name: choice.value for choice in choices}
    assert len(found) == len(choices)
    assert all(choice.reason for choice in choices)
    return found


def test_the_catalog_names_the_plans():
    assert find("unet_lite0").plan is maps.plan
    assert [find(f"efficientnet_lite{i}").plan for i in range(3)] == [classes.plan] * 3
    assert find("unet_mobilenet_v2").plan is None
    assert find("mobilenet_v2").plan is None


@pytest.mark.parametrize("name", ["unet_lite0", "efficientnet_lite0"])
def test_choices_are_arguments_or_settings(name: str):
    plan, facts = (maps.plan, AERIAL) if name == "unet_lite0" else (classes.plan, FLOWERS)
    speed = segmenter_speed(4) if name == "unet_lite0" else classifier_speed(0.2)
    found = values(plan(facts, Budget(minutes=1, pretrained=True, speed=speed)))
    assert {"image_size", "batch_size", "trainable_layers", "validate_every"} <= set(found)
    known = set(find(name).arguments) | set(Recipe.__dataclass_fields__)
    assert set(found) <= known


@pytest.mark.parametrize(("half", "precision"), [(0.73, "bf16"), (0.9, "no")])
def test_bf16_is_chosen_where_a_step_is_clearly_faster(half: float, precision: str):
    """All that follows is chosen by the steps of that precision."""
    for planner, facts, exact in (
        (maps.plan, AERIAL, segmenter_speed(2)),
        (classes.plan, FLOWERS, classifier_speed(0.2)),
    ):
        budget = Budget(minutes=3, pretrained=True, speed=slowed(exact, 1, half), bf16=True)
        found = planner(facts, budget)
        chosen = [choice for choice in found if choice.name == "precision"]
        assert [choice.value for choice in chosen] == [precision]
        factor = half if precision == "bf16" else 1
        alone = replace(budget, bf16=False, speed=slowed(exact, factor))
        rest = [choice for choice in found if choice.name != "precision"]
        assert rest == planner(facts, alone)
        by_hand = replace(budget, given={"precision": precision})
        assert planner(facts, by_hand) == rest
        for without in (replace(budget, bf16=False), replace(budget, pretrained=False)):
            assert "precision" not in values(planner(facts, without))


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize(
    ("validation", "given", "kept"), [(19, {}, "last"), (20, {}, None), (19, {"patience": 5}, None)]
)
def test_few_validation_images_do_not_choose_the_epoch(
    validation: int, given: dict[str, Any], kept: str | None, pretrained: bool
):
    budget = Budget(pretrained=pretrained, given=given)
    for planner, facts in ((maps.plan, AERIAL), (classes.plan, FLOWERS)):
        assert values(planner(replace(facts, validation=validation), budget)).get("keep") == kept


def test_random_weights_keep_the_defaults():
    assert maps.plan(AERIAL, Budget(minutes=1, speed=segmenter_speed(1))) == []
    assert classes.plan(FLOWERS, Budget(minutes=1, speed=classifier_speed(1))) == []


def test_images_keep_their_size_if_the_time_holds_six_passes():
    """56 images of 0.3072 megapixels six times are 103 megapixels: 103 s at a second each, of 144 s."""
    assert "image_size" not in values(maps.plan(AERIAL, Budget(minutes=3, pretrained=True, speed=segmenter_speed(1))))
    slow = values(maps.plan(AERIAL, Budget(minutes=3, pretrained=True, speed=segmenter_speed(2))))
    # 72 megapixels are 234 whole images instead of 336: 480 · √(234 / 336) = 401, rounded to a multiple of 32
    assert slow["image_size"] == 416


def test_small_images_are_not_made_smaller():
    tiny = Facts(images=10_000, validation=0, image_size=(256, 256))
    speed = segmenter_speed(1, (256, 256))
    assert "image_size" not in values(maps.plan(tiny, Budget(minutes=3, pretrained=True, speed=speed)))
    large = Facts(images=10_000, validation=0, image_size=(3000, 4000))
    speed = segmenter_speed(1, (3000, 4000))
    found = values(maps.plan(large, Budget(minutes=3, pretrained=True, speed=speed)))
    assert found["image_size"] == maps.SMALLEST
    assert "validate_every" not in found  # nothing to validate on


def test_steps_and_frozen_parts_follow_the_crops_seen():
    assert values(maps.how_to_learn(3000)) == {"batch_size": 4, "trainable_layers": 3}
    assert values(maps.how_to_learn(5000)) == {"batch_size": 8, "trainable_layers": 3}
    assert values(maps.how_to_learn(6000)) == {"batch_size": 8}
    assert values(maps.plan(AERIAL, Budget(epochs=200, pretrained=True))) == {"batch_size": 8}


def test_without_a_budget_a_training_sees_enough():
    found = values(maps.plan(AERIAL, Budget(pretrained=True)))
    assert found == {"epochs": 215, "batch_size": 8}  # 12,000 crops of 56 images
    found = values(classes.plan(FLOWERS, Budget(pretrained=True)))
    assert found == {"epochs": 12, "norm": "frozen", "trainable_layers": 2}  # 12,000 images of 1000
    many, few = (Facts(images=n, validation=0, image_size=(64, 64)) for n in (10**6, 5))
    assert values(maps.plan(many, Budget(pretrained=True)))["epochs"] == 12
    assert values(maps.plan(few, Budget(pretrained=True)))["epochs"] == 300


@pytest.mark.parametrize("plan", [maps.plan, classes.plan])
def test_names_that_forbid_mirroring(plan: Any):
    sided = Facts(images=100, validation=0, image_size=(64, 64), mirrors=False)
    assert values(plan(sided, Budget(epochs=3, pretrained=True)))["mirror"] is False
    assert "mirror" not in values(plan(replace(sided, mirrors=True), Budget(epochs=3, pretrained=True)))


def test_epochs_limit_what_is_seen():
    speed = segmenter_speed(0.01)
    long = values(maps.plan(AERIAL, Budget(minutes=30, pretrained=True, speed=speed)))
    short = values(maps.plan(AERIAL, Budget(minutes=30, epochs=5, pretrained=True, speed=speed)))
    assert (long["batch_size"], short["batch_size"]) == (8, 4)


def test_a_size_of_the_user_is_planned_with():
    """Crops are then squares of that side, and whole images have a quarter of the pixels."""

    def speed(arguments: Mapping[str, Any]) -> float:
        return 240 * 320 * 1e-6  # measured on images of the user's size

    budget = Budget(minutes=3, pretrained=True, given={"image_size": 240}, speed=speed)
    found = values(maps.plan(AERIAL, budget))
    assert "image_size" not in found
    assert maps.crop_pixels((480, 640), 240) == 240 * 240
    assert maps.crop_pixels((200, 640), None) == 200 * 320
    assert maps.seen_pixels((480, 640), 240) == 240 * 320
    # an epoch of 56 · 57600 pixels takes 3.2 s; validation of 20 · 76800 pixels, two thirds of a step, takes 1 s
    assert found["validate_every"] == 4


@pytest.mark.parametrize(("at_224", "size"), [(0.02, 224), (0.03, 192), (0.04, 160), (0.06, 128), (1.0, 128)])
def test_a_classifier_sees_the_largest_size_that_fits(at_224: float, size: int):
    """1000 photographs are wanted six times; 3 minutes hold 144 s of steps: 24 ms for each image."""
    found = values(classes.plan(FLOWERS, Budget(minutes=3, pretrained=True, speed=classifier_speed(at_224))))
    assert found.get("image_size", 224) == size


def test_how_many_images_a_classifier_wants():
    assert [classes.wanted(n) for n in (10, 1000, 10**6)] == [2000, 6000, 8000]


def test_a_classifier_s_frozen_parts_and_steps():
    assert values(classes.how_to_learn(3000, 100)) == {"batch_size": 16, "norm": "frozen", "trainable_layers": 2}
    assert values(classes.how_to_learn(7000, 100)) == {"norm": "frozen", "trainable_layers": 2}
    assert values(classes.how_to_learn(8000, 100)) == {}
    budget = Budget(minutes=3, epochs=2, pretrained=True, speed=classifier_speed(0.01))
    assert values(classes.plan(FLOWERS, budget))["batch_size"] == 16  # of 2000 images


def test_a_budget_too_small_is_refused():
    with pytest.raises(InputError, match=r"minutes is 0.01, which holds about .* give at least"):
        maps.plan(AERIAL, Budget(minutes=0.01, pretrained=True, speed=segmenter_speed(2)))
    with pytest.raises(InputError, match=r"minutes is 0.01, which holds about .* give at least"):
        classes.plan(FLOWERS, Budget(minutes=0.01, pretrained=True, speed=classifier_speed(0.1)))

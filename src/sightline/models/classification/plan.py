"""Choose the settings for training an image classifier with EfficientNet-Lite from the dataset and the time budget.

Pure functions of plain numbers; the rules follow from the trials in benchmarks/results/short_trainings.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sightline.models.budget_rules import (
    images_within,
    keeping,
    mirroring,
    precision,
    require_steps,
    validation_interval,
    whole_training,
)
from sightline.models.plan import Budget, Choice, Facts
from sightline.words import counted

SIZES = (224, 192, 160, 128)
"""Image sizes to choose from, in pixels: that of the published weights, and cheaper ones."""
PASSES, FEWEST, MOST = 6, 2000, 8000
"""Number of images to process: six passes over the dataset, but at least 2000 and at most 8000 images."""
LONG = 4
"""The whole network is trained if this many times as many images fit into the budget."""
STEPS = 200
"""Minimum number of optimizer steps; the batch size is halved to 16 if there would be fewer."""


def plan(facts: Facts, budget: Budget) -> list[Choice]:
    """Plan a training run. From random weights, most settings keep the defaults of the model.

    Raises:
        InputError: fewer than ten steps fit into the time budget.
    """
    choices = [*mirroring(facts), *keeping(facts, budget)]
    if not budget.pretrained:
        return choices
    if budget.minutes is None or budget.speed is None:
        whole = [] if budget.epochs is not None else [whole_training(facts, 2 * wanted(facts.images))]
        epochs = budget.epochs if budget.epochs is not None else whole[0].value
        return [*choices, *whole, *how_to_learn(epochs * facts.images, facts.images)]
    minutes, size = budget.minutes, budget.given.get("image_size")
    halved, budget = precision(budget, measured(size or SIZES[0]))
    choices += halved
    speed = budget.speed
    assert speed is not None

    def held(size: int) -> float:
        return images_within(minutes, speed(measured(size)))

    if size is None:
        size = image_size(facts.images, held)
        if size != SIZES[0]:
            choices.append(Choice("image_size", size, f"{minutes:g} minutes hold {held(size):.0f} images of this size"))
    seen = held(size)
    require_steps(minutes, seen / 16, "this model")
    if budget.epochs is not None:
        seen = min(seen, budget.epochs * facts.images)
    choices += how_to_learn(seen, facts.images)
    per_image = minutes * 60 / max(held(size), 1e-9)
    every = validation_interval(facts.images * per_image, facts.validation * per_image)  # loss and metrics: two passes
    if facts.validation and every > 1:
        reason = f"validating on {counted(facts.validation, 'image')} then takes at most a tenth of the time"
        choices.append(Choice("validate_every", every, reason))
    return choices


def measured(size: int) -> dict[str, Any]:
    """The arguments of the model whose step is measured at an image size in pixels."""
    return {"image_size": size, "norm": "frozen", "trainable_layers": 2}


def wanted(images: int) -> int:
    """Number of images to process when training from pretrained weights; an image counts once in each epoch."""
    return max(FEWEST, min(MOST, PASSES * images))


def image_size(images: int, held: Callable[[int], float]) -> int:
    """The largest of `SIZES` at which `wanted` images fit into the budget, or else the smallest.

    Args:
        images: number of training images.
        held: number of images of a size that fit into the budget.
    """
    return next((size for size in SIZES if held(size) >= wanted(images)), SIZES[-1])


def how_to_learn(seen: float, images: int) -> list[Choice]:
    """Batch size, normalisation and trainable parts for a training run that processes `seen` images."""
    choices = []
    if seen / 32 < STEPS:
        choices.append(
            Choice("batch_size", 16, f"batches of 32 would be {counted(round(seen / 32), 'step')}, fewer than {STEPS}")
        )
    if seen < LONG * wanted(images):
        reason = (
            f"{seen:.0f} images are seen, fewer than {LONG * wanted(images)}; early features serve every task, and "
            "steps are faster"
        )
        choices += [
            Choice("norm", "frozen", "statistics of the pretrained weights need no adaptation in a short training"),
            Choice("trainable_layers", 2, reason),
        ]
    return choices

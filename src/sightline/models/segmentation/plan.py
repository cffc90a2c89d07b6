"""Choose the settings for training a U-Net with EfficientNet-Lite from the dataset and the time budget.

Pure functions of plain numbers; the rules follow from the trials in benchmarks/results/short_trainings.md.
"""

from __future__ import annotations

import math
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
from sightline.structures import Size
from sightline.words import counted

CROP = 320
"""Side of the crops of the augmentation "crops", in pixels, for a model that keeps the size of images."""
PASSES = 6
"""Minimum number of passes over all pixels; images are downsampled until these fit into the budget."""
SMALLEST = 256
"""Minimum length of the shorter side after downsampling, because thin objects disappear below it."""
LONG = 6000
"""Number of crops from which the whole encoder is trained; with fewer, frozen early parts give better results."""
STEPS = 500
"""Minimum number of optimizer steps; the batch size is halved to 4 if there would be fewer."""


def plan(facts: Facts, budget: Budget) -> list[Choice]:
    """Plan a training run. From random weights, most settings keep the defaults of the model.

    Raises:
        InputError: fewer than ten steps fit into the time budget.
    """
    choices = [*mirroring(facts), *keeping(facts, budget)]
    if not budget.pretrained:
        return choices
    minutes = budget.minutes
    if minutes is None or budget.speed is None:
        whole = [] if budget.epochs is not None else [whole_training(facts, 2 * LONG)]
        epochs = budget.epochs if budget.epochs is not None else whole[0].value
        return [*choices, *whole, *how_to_learn(epochs * facts.images)]
    pixels = facts.image_size[0] * facts.image_size[1]
    side = budget.given.get("image_size")
    measured: dict[str, Any] = {"trainable_layers": 3, "norm": "frozen"}
    at = side
    if side is None and min(facts.image_size) > CROP:
        measured["image_size"] = at = CROP  # a step on whole images could take minutes and exhaust the memory
    halved, budget = precision(budget, measured)
    choices += halved
    assert budget.speed is not None
    per_pixel = budget.speed(measured) / seen_pixels(facts.image_size, at)
    if "image_size" not in budget.given:
        side = shorter_side(facts.image_size, facts.images, images_within(minutes, per_pixel * pixels))
        if side is not None:
            choices.append(
                Choice(
                    "image_size",
                    side,
                    f"{minutes:g} minutes hold fewer than {PASSES} passes over {counted(facts.images, 'image')} "
                    f"of {facts.image_size[1]}×{facts.image_size[0]} pixels at full size",
                )
            )
    window = crop_pixels(facts.image_size, side)
    crops = images_within(minutes, per_pixel * window)
    require_steps(minutes, crops / 4, "this model")
    if budget.epochs is not None:
        crops = min(crops, budget.epochs * facts.images)
    choices += how_to_learn(crops)
    full = seen_pixels(facts.image_size, side)
    # the loss and the metrics each need a forward pass, a third of a step
    every = validation_interval(facts.images * per_pixel * window, facts.validation * per_pixel * full * 2 / 3)
    if facts.validation and every > 1:
        choices.append(
            Choice(
                "validate_every",
                every,
                f"validating on {counted(facts.validation, 'image')} then takes at most a tenth of the time",
            )
        )
    return choices


def shorter_side(image_size: Size, images: int, held: float) -> int | None:
    """The shorter side, in pixels, to which images are resized; None keeps their size.

    Images are downsampled until `PASSES` passes over all of them fit into the budget, which is a scale of
    √(held / (PASSES · images)).

    Args:
        image_size: median (height, width) of the images.
        images: number of training images.
        held: number of images at full size that fit into the budget.
    """
    shorter = min(image_size)
    scale = math.sqrt(held / (PASSES * images))
    side = max(SMALLEST, round(shorter * scale / 32) * 32)
    return side if scale < 1 and side < shorter else None


def how_to_learn(crops: float) -> list[Choice]:
    """Batch size and trainable parts of the encoder for a training run that processes `crops` crops."""
    choices = []
    small = crops / 8 < STEPS
    choices.append(
        Choice("batch_size", 4, f"batches of 8 would be {counted(round(crops / 8), 'step')}, fewer than {STEPS}")
        if small
        else Choice("batch_size", 8, f"{crops / 8:.0f} steps are enough")
    )
    if crops < LONG:
        reason = f"{crops:.0f} crops are seen, fewer than {LONG}; early features serve every task, and steps are faster"
        choices.append(Choice("trainable_layers", 3, reason))
    return choices


def crop_pixels(image_size: Size, side: int | None) -> int:
    """Number of pixels of a training crop, for images resized to the shorter side `side` or, for None, kept."""
    if side is not None:
        return side * side
    return min(CROP, image_size[0]) * min(CROP, image_size[1])


def seen_pixels(image_size: Size, side: int | None) -> float:
    """Number of pixels at which the model sees a whole image."""
    scale = 1.0 if side is None else side / min(image_size)
    return image_size[0] * image_size[1] * scale**2

"""Choose the settings for training Sightline's own detector from the dataset and the time budget.

The rules were derived from a few trials (`docs/sightline_detector.md`) and agree with what training runs of three
minutes reach (`benchmarks/results/three_minutes.md`); the thresholds were not tuned.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sightline.models.budget_rules import (
    images_within,
    keeping,
    mirroring,
    precision,
    require_steps,
    validation_interval,
)
from sightline.models.plan import Budget, Choice, Facts
from sightline.words import are, counted

SMALLEST_OBJECT = 24
"""Size in pixels that small objects (the 10th percentile) should have in the network's input: three cells."""
SMALLEST, LARGEST, STEP = 224, 640, 32
"""Range of the chosen `image_size`, which is a multiple of the stride of the coarsest map."""
ENLARGED = 2.0
"""Maximum factor by which images are enlarged; larger ones only cost time."""
USUAL = 320
"""The `image_size` for data without small objects."""
FEWEST_EPOCHS = {True: 8, False: 30}
"""Number of epochs below which a smaller `image_size` is better, by whether weights are pretrained."""
FEW_STEPS = 280
"""Number of steps below which the batch size is halved, for twice as many steps."""
MOSAIC_EPOCHS = 8
"""Number of epochs from which mosaics help boxes (`benchmarks/results/three_minutes.md`); fewer were not tried."""
DEFAULT_EPOCHS = 15
"""Number of epochs from which, where there are no mosaics yet, the default augmentation is chosen."""
LATE_MOSAICS = 40
"""Number of epochs from which plans choose mosaics for masks and keypoints; nine epochs of mosaics cost keypoints 0.07
AP (`benchmarks/results/sightline_heads.md`), and masks were not tried."""
LONG = 8000
"""Number of images from which the whole backbone is trained; an image counts once in each epoch."""
FROZEN: dict[str, Any] = {"norm": "frozen", "trainable_layers": 3}
"""Arguments of a pretrained backbone for short training."""
WHOLE_TRAINING = 3000
"""Number of steps without a budget, from pretrained weights; from random weights four times as many."""


def plan(facts: Facts, budget: Budget, *, bf16: bool = True, mosaic_epochs: int = MOSAIC_EPOCHS) -> list[Choice]:
    """Choose the precision, the resolution, the batch, the length and the augmentation of a training run.

    Args:
        facts: the training images.
        budget: what the user has fixed.
        bf16: whether bf16 may be chosen; False for models whose training in bf16 was not compared.
        mosaic_epochs: number of epochs from which mosaics are chosen.

    Raises:
        InputError: fewer than ten steps fit into the time budget.
    """
    choices, budget = precision(budget, measured(budget), allowed=bf16)
    size = budget.given.get("image_size")
    if size is None:
        choices.append(resolution(facts, budget))
        size = choices[-1].value
    images = seen_images(facts, budget, size)
    if budget.minutes is not None and budget.speed is not None:
        held = images_within(budget.minutes, seconds_per_image(budget, size))  # fewer epochs are the user's wish
        require_steps(budget.minutes, held / 4, "this model")
    if budget.pretrained and budget.takes_backbone:
        choices += backbone(images)
    batch = batch_size(facts, images)
    choices.append(batch)
    steps_per_epoch = max(1, facts.images // int(budget.given.get("batch_size") or batch.value))
    if images is None:
        choices.append(whole_training(facts, budget, steps_per_epoch))
        epochs = float(choices[-1].value)
    else:
        epochs = images / facts.images
    choices.append(averaging(epochs * steps_per_epoch))
    choices.append(augmentation(epochs, mosaic_epochs))
    choices += keeping(facts, budget)
    choices += mirroring(facts)
    if budget.minutes is not None and budget.speed is not None and facts.validation:
        step = seconds_per_image(budget, size)  # the loss and the metrics each need a forward pass, a third of a step
        every = validation_interval(facts.images * step, facts.validation * step * 2 / 3)
        if every > 1:
            images_shown = counted(facts.validation, "image")
            reason = f"validating on {images_shown} then takes at most a tenth of the time"
            choices.append(Choice("validate_every", every, reason))
    return choices


def resolution(facts: Facts, budget: Budget) -> Choice:
    """The `image_size` that small objects need, made smaller until enough epochs fit into the budget."""
    longer = max(facts.image_size)
    largest = int(min(LARGEST, max(SMALLEST, ENLARGED * longer)) // STEP * STEP)
    if facts.objects is None or not len(facts.objects):
        wanted, reason = min(USUAL, largest), "the labels have no boxes to choose it by"
    else:
        small = float(np.quantile(np.sqrt(facts.objects.prod(1)), 0.1))
        needed = math.ceil(SMALLEST_OBJECT / max(small, 1e-6) / STEP) * STEP
        wanted = min(max(needed, USUAL), largest)
        reason = (
            f"small objects measure {small * wanted:.0f} pixels at this size, and {small * longer:.0f} in the images, "
            f"whose longer side is {longer}"
        )
    if budget.minutes is None or budget.speed is None:
        return Choice("image_size", wanted, reason)
    fewest = FEWEST_EPOCHS[budget.pretrained]
    for size in range(wanted, SMALLEST - 1, -STEP):
        epochs = (seen_images(facts, budget, size) or 0) / facts.images
        if epochs >= fewest or size == SMALLEST:
            break
    if size < wanted:
        reason = (
            f"at {wanted} pixels the minutes would hold fewer than {fewest} epochs; at {size} they hold {epochs:.0f}"
        )
    return Choice("image_size", size, reason)


def seen_images(facts: Facts, budget: Budget, size: int) -> float | None:
    """The number of images that fit into the budget, counted once in each epoch; None without a budget."""
    by_epochs = None if budget.epochs is None else float(budget.epochs * facts.images)
    if budget.minutes is None or budget.speed is None:
        return by_epochs
    by_time = images_within(budget.minutes, seconds_per_image(budget, size))
    return by_time if by_epochs is None else min(by_time, by_epochs)


def seconds_per_image(budget: Budget, size: int) -> float:
    """Time per image, measured at one size (the user's or `USUAL`): it is nearly proportional to the pixels."""
    assert budget.speed is not None
    arguments = measured(budget)
    return budget.speed(arguments) * (size / arguments["image_size"]) ** 2


def measured(budget: Budget) -> dict[str, Any]:
    """The arguments of the model whose step is measured."""
    frozen = FROZEN if budget.pretrained and budget.takes_backbone else {}
    return {"image_size": budget.given.get("image_size") or USUAL, **frozen}


def backbone(images: float | None) -> list[Choice]:
    """How much of a pretrained backbone is trained."""
    norm = Choice(
        "norm", "frozen", "batches are small, and the statistics of the pretrained weights are better than theirs"
    )
    if images is not None and images < LONG:
        few = f"{images:.0f} images are seen, fewer than {LONG}; the early layers serve any data as they are"
        return [norm, Choice("trainable_layers", FROZEN["trainable_layers"], few)]
    return [norm]


def batch_size(facts: Facts, images: float | None) -> Choice:
    """A small batch size if there would be few steps, because each step updates the weights once."""
    if images is not None and images / 8 < FEW_STEPS:
        larger = counted(round(images / 8), "step")
        return Choice("batch_size", 4, f"batches of 8 would be {larger}, fewer than {FEW_STEPS}")
    if facts.images < 32:
        return Choice("batch_size", 4, f"there are {counted(facts.images, 'training image')}")
    return Choice("batch_size", 8, f"there are {counted(facts.images, 'training image')} and time for enough steps")


def whole_training(facts: Facts, budget: Budget, steps_per_epoch: int) -> Choice:
    """The number of epochs of a training run without a budget."""
    steps = WHOLE_TRAINING * (1 if budget.pretrained else 4)
    epochs = min(300, max(12, math.ceil(steps / steps_per_epoch)))
    start = "pretrained weights" if budget.pretrained else "random weights"
    return Choice(
        "epochs", epochs, f"{epochs * steps_per_epoch} steps, from which a training run from {start} still benefits"
    )


def averaging(steps: float) -> Choice:
    """The decay with which the average of the weights covers the last tenth of training."""
    decay = round(min(0.9998, max(0.9, 1 - 10 / max(steps, 1))), 4)
    last, known = 1 / (1 - decay), counted(round(steps), "step")
    share = f"all {known}" if last >= steps else f"the last {last:.0f} of {known}"
    return Choice("ema", decay, f"it averages the weights of {share}")


def augmentation(epochs: float, mosaic_epochs: int = MOSAIC_EPOCHS) -> Choice:
    """Stronger augmentation for longer training, mosaics from `mosaic_epochs` on."""
    number = round(epochs)
    if epochs >= mosaic_epochs:
        return Choice("augmentation", "mosaic", f"{number} epochs are enough to learn from mosaics")
    if epochs >= DEFAULT_EPOCHS:
        return Choice("augmentation", "default", f"{number} epochs are too few for mosaics")
    return Choice("augmentation", "light", f"{counted(number, 'epoch')} {are(number)} too few for stronger changes")

"""Rules for planning a training run within a time budget: pure functions of measured times, for all tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sightline.errors import InputError
from sightline.models.plan import Budget, Choice, Facts, Speed
from sightline.words import are, counted

TRAINING_SHARE = 0.8
"""Fraction of a time budget that training steps take; reading images, augmentation and validation take the rest."""
BF16_TIME = 0.85
"""Time of a step in bf16, as a fraction of one in float32, up to which bf16 is chosen."""
FEW_VALIDATION = 20
"""Validation images below which the last epoch is kept: their metrics differ more by chance than epochs do."""
_VALIDATION_SHARE = 0.1
_FEWEST_STEPS = 10


def images_within(minutes: float, seconds_per_image: float) -> float:
    """Number of training images that can be processed within a time budget; an image counts once in each epoch.

    Args:
        minutes: the time of the whole run.
        seconds_per_image: time of a training step divided by its images.
    """
    return minutes * 60 * TRAINING_SHARE / max(seconds_per_image, 1e-9)


def validation_interval(epoch_seconds: float, validation_seconds: float) -> int:
    """Number of epochs between validations such that validation takes at most a tenth of the training time.

    Args:
        epoch_seconds: time of an epoch's training steps.
        validation_seconds: time of one validation.
    """
    return max(1, math.ceil(validation_seconds / max(_VALIDATION_SHARE * epoch_seconds, 1e-9)))


def precision(budget: Budget, arguments: Mapping[str, Any], allowed: bool = True) -> tuple[list[Choice], Budget]:
    """bf16 if the processor has it, the weights are pretrained and a step is measured to be clearly faster.

    Args:
        budget: what the user has fixed, and how a step is measured.
        arguments: the arguments of the model with which it is measured.
        allowed: whether bf16 may be chosen; False for models whose training in bf16 was not compared.

    Returns:
        The choice, or none, and the budget, whose steps are measured in the precision that was chosen or given.
    """
    chosen = budget.given.get("precision")
    choices = []
    if allowed and chosen is None and budget.speed is not None and budget.bf16 and budget.pretrained:
        ratio = budget.speed({**arguments, "precision": "bf16"}) / budget.speed(arguments)
        chosen = "bf16" if ratio <= BF16_TIME else "no"
        reason = f"a step in bf16 takes {ratio:.2f} of the time of one in float32 on this processor"
        choices = [Choice("precision", chosen, reason)]
    if chosen != "bf16" or budget.speed is None:
        return choices, budget
    return choices, replace(budget, speed=_in_bf16(budget.speed))


def _in_bf16(speed: Speed) -> Speed:
    return lambda arguments: speed({**arguments, "precision": "bf16"})


def whole_training(facts: Facts, seen: float) -> Choice:
    """The number of epochs of a training run without any budget, from 12 to 300.

    Args:
        facts: the training images.
        seen: number of images after which training no longer improves much; an image counts once in each epoch.
    """
    epochs = min(300, max(12, math.ceil(seen / facts.images)))
    images = counted(facts.images, "image")
    return Choice("epochs", epochs, f"a training run of {images} then sees {epochs * facts.images}")


def mirroring(facts: Facts) -> list[Choice]:
    """Switch mirroring off if the class names show that it would change the labels."""
    if facts.mirrors:
        return []
    return [Choice("mirror", False, "class names tell left from right, or are single letters or digits")]


def keeping(facts: Facts, budget: Budget) -> list[Choice]:
    """Keep the last epoch if there are too few validation images to find a better one by."""
    ends_at_zero = budget.given.get("schedule", "cosine") == "cosine" and budget.given.get("patience") is None
    if not (0 < facts.validation < FEW_VALIDATION and ends_at_zero):
        return []
    shown = counted(facts.validation, "validation image")
    reason = f"{shown} {are(facts.validation)} too few to compare epochs by; the learning rate ends at zero"
    return [Choice("keep", "last", reason)]


def require_steps(minutes: float, steps: float, what: str) -> None:
    """Check that a time budget is enough for the model to learn anything.

    Args:
        minutes: the time of the whole run.
        steps: number of optimizer steps that fit into it with the cheapest settings.
        what: name of the model, for the message.

    Raises:
        InputError: fewer than ten steps fit. The message names a sufficient budget.
    """
    if steps >= _FEWEST_STEPS:
        return
    # measured times vary: a quarter more ensures that the suggested budget does not fail again
    enough = 1.25 * minutes * _FEWEST_STEPS / max(steps, 1e-9)
    digit = 10.0 ** (math.floor(math.log10(enough)) - 1) if enough < 10 else 1.0  # rounded up to two digits
    shown = f"{math.ceil(round(enough / digit, 9)) * digit:.6g}"
    raise InputError(
        f"minutes is {minutes:g}, which holds about {counted(round(steps), 'training step')} of {what} on this "
        f"machine, too few to learn anything; give at least {shown} minutes"
    )

"""Choose the settings for training a small scene graph model from the dataset."""

from __future__ import annotations

from sightline.models.budget_rules import whole_training
from sightline.models.plan import Budget, Choice, Facts
from sightline.words import counted

ENLARGED = 1.4
"""Images are enlarged by about this factor, because small objects cover few cells of the finest map (stride 8)."""
SMALLEST, LARGEST, STEP = 96, 480, 32
"""Range of the chosen `min_size`, and the number that it is a multiple of."""
SEEN = 8000
"""Number of images to process without a budget; an image counts once in each epoch."""
STEPS = 500
"""Minimum number of optimizer steps; the batch size is halved to 4 if there would be fewer."""


def plan(facts: Facts, budget: Budget) -> list[Choice]:
    """Choose the resolution, the length of a training run without a budget, and the batch size."""
    shorter = min(facts.image_size)
    side = min(LARGEST, max(SMALLEST, round(ENLARGED * shorter / STEP) * STEP))
    choices = [Choice("min_size", side, f"the shorter side of the images is {shorter} pixels")]
    epochs = budget.epochs
    if epochs is None and budget.minutes is None:
        choices.append(whole_training(facts, SEEN))
        epochs = choices[-1].value
    if epochs is not None and epochs * facts.images / 8 < STEPS:
        larger = counted(round(epochs * facts.images / 8), "step")
        choices.append(Choice("batch_size", 4, f"batches of 8 would be {larger}, fewer than {STEPS}"))
    return choices

"""How the training of a small scene graph model chooses its settings by the data."""

from __future__ import annotations

from sightline.models.budget_rules import whole_training
from sightline.models.plan import Budget, Choice, Facts
from sightline.words import counted

ENLARGED = 1.4
"""Images are enlarged by about this factor: the finest map has a cell per 8 pixels, and small objects few of them."""
SMALLEST, LARGEST, STEP = 96, 480, 32
"""Range of the chosen `min_size`, of which it is a multiple."""
SEEN = 8000
"""Images, each counted as often as it is seen, that a training without any budget makes use of."""
STEPS = 500
"""Optimizer steps that a training should have; batches are halved to 4 if there would be fewer."""


def plan(facts: Facts, budget: Budget) -> list[Choice]:
    """Choose the resolution, the length of a training without a budget, and the batch size."""
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

"""Check, from the duration of the first steps, whether a time budget is long enough, and advise if not."""

from __future__ import annotations

import math
from collections.abc import Callable

from sightline.models.model import Model
from sightline.training.recipe import Recipe
from sightline.training.schedule import Clock
from sightline.words import counted

FROM_SCRATCH, FROM_WEIGHTS = 30, 5
"""The number of epochs that training needs at least, from scratch and from pretrained weights."""
_NEARLY = 0.9
"""This fraction of these epochs is accepted, because the estimate is rough."""
_STEPS, _SHARE = 5, 0.05
"""The estimate is made after this many steps or this fraction of the budget, not counting the first step, which is
slow."""


def advice(recipe: Recipe, epoch_seconds: float, name: str, pretrained: bool, quick: str | None = None) -> str:
    """Return a warning if the minutes are too few for the epochs needed; otherwise "".

    Args:
        recipe: the recipe, with `minutes`.
        epoch_seconds: measured duration of one epoch with its validation.
        name: the model's name.
        pretrained: whether training starts from pretrained weights.
        quick: name of a model for the same task that needs few epochs with ImageNet weights.
    """
    assert recipe.minutes is not None
    held = recipe.minutes * 60 / epoch_seconds
    enough = FROM_WEIGHTS if pretrained else FROM_SCRATCH
    if held >= _NEARLY * enough or (recipe.epochs is not None and recipe.epochs <= held):
        return ""
    enough_minutes = math.ceil(enough * epoch_seconds / 60)
    longer = f"give more time (--minutes {enough_minutes})"
    count = "less than one epoch" if held < 1 else f"about {counted(int(held), 'epoch')}"
    start = "from weights" if pretrained else "from scratch"
    holds = "holds" if recipe.minutes == 1 else "hold"
    minutes = counted(float(recipe.minutes), "minute")
    # a plan measured a step beforehand, on a few images: the two may differ on a busy machine
    needed = f"by its first steps, {minutes} {holds} {count}, but training {start} needs about {enough}"
    other = quick if quick is not None and quick != name else None
    if pretrained:
        return f"{needed}: {longer}, or use smaller images (--arg image_size=…)"
    if quick is None:
        return f"{needed}: {longer}"
    model = f"--model {other} --weights imagenet" if other else "--weights imagenet"
    return f"{needed}: start from weights ({model}), which needs about {FROM_WEIGHTS} epochs, or {longer}"


class BudgetWatch:
    """Measures the first steps of a run and warns once if the time budget is too short.

    Args:
        recipe: the recipe of the run.
        clock: the clock of the run.
        model: the model being trained.
        say: prints a sentence.
        quick: as for `advice`.
    """

    def __init__(
        self, recipe: Recipe, clock: Clock, model: Model, say: Callable[[str], object], quick: str | None = None
    ):
        self.recipe, self.clock, self.say, self.quick = recipe, clock, say, quick
        self.name = model.name
        trained = model.metadata.get("trained_on", {})
        earlier = trained.get("earlier", {}) if isinstance(trained, dict) else {}
        before = bool(earlier.get("images")) if isinstance(earlier, dict) else False
        self.pretrained = model.weights_given is not None or before
        self.waiting = recipe.minutes is not None
        self._first: tuple[int, float] | None = None

    def step(self, step: int) -> None:
        """Measure the time after `step` optimizer steps."""
        if not self.waiting:
            return
        now = self.clock.elapsed
        if self._first is None:
            self._first = (step, now)
            return
        steps, seconds = step - self._first[0], now - self._first[1]
        assert self.recipe.minutes is not None
        if steps < _STEPS and now < _SHARE * 60 * self.recipe.minutes:
            return
        self.waiting = False
        validation = self.clock.validation_share / self.recipe.validate_every
        epoch_seconds = seconds / steps * self.clock.steps_per_epoch * (1 + validation)
        sentence = advice(self.recipe, epoch_seconds, self.name, self.pretrained, self.quick)
        if sentence:
            self.say(sentence)

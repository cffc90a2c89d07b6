"""The learning rate over a run, and the clock that says how far the run has come, by steps or by time."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from sightline.training.recipe import Recipe


def learning_rate_factor(recipe: Recipe, step: int, progress: float) -> float:
    """What the learning rate is multiplied by at one optimizer step.

    Linear warm-up (Goyal et al. 2017, section 2.2) times a cosine to zero (Loshchilov & Hutter 2017, section 3), or a
    drop at each milestone, or one. Departure: the warm-up ends at a tenth of the run at the latest, however short.

    Args:
        recipe: gives `schedule`, `warmup_steps`, `milestones` and `gamma`.
        step: optimizer steps done before this one.
        progress: how far the run has come, in [0, 1].

    Returns:
        A factor in [0, 1].
    """
    warmup = 1.0
    if recipe.warmup_steps > 0:
        warmup = min(1.0, max((step + 1) / recipe.warmup_steps, 10 * progress))
    if recipe.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    if recipe.schedule == "step":
        return warmup * recipe.gamma ** sum(progress >= milestone for milestone in recipe.milestones)
    return warmup


def set_learning_rate(optimizer: Any, recipe: Recipe, step: int, progress: float) -> float:
    """Set the rate of every parameter group from its own base rate; returns the rate of the main group."""
    factor = learning_rate_factor(recipe, step, progress)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    assert recipe.lr is not None  # filled in when the recipe was made
    return recipe.lr * factor


class Clock:
    """How far a run has come: the share of its steps or, under a time budget, of its time, whichever is more.

    With a budget the schedule follows the time itself rather than a number of steps guessed from the first few: it then
    ends at zero on a machine that becomes slower or faster on the way, too. Time for the last validation is kept in
    reserve: as long as the slowest so far, and before the first as long as training on as many images would take.

    Args:
        recipe: gives `epochs` and `minutes`.
        steps_per_epoch: optimizer steps an epoch.
        validation_share: images looked at in one validation per image of a training epoch.
        elapsed: seconds the run has taken before (a resumed run).
        validation_seconds: of the slowest validation before, None if there was none.
        share: makes a number the same in all processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        steps_per_epoch: int,
        validation_share: float = 0.0,
        elapsed: float = 0.0,
        validation_seconds: float | None = None,
        share: Callable[[float], float] = lambda value: value,
    ):
        self.total_epochs = recipe.epochs
        self.budget = None if recipe.minutes is None else recipe.minutes * 60
        self.steps_per_epoch = steps_per_epoch
        self.validation_share = validation_share
        self.validation_seconds = validation_seconds
        self.progress = 0.0
        self.out_of_time = False
        self._share = share
        self._began = time.monotonic() - elapsed

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, without the time between an interruption and its resumption."""
        return time.monotonic() - self._began

    @property
    def remaining(self) -> float | None:
        """Seconds that are left, as far as one can tell."""
        return self.elapsed * (1 / self.progress - 1) if self.progress > 0 else None

    def tick(self, step: int) -> float:
        """Take the time after `step` optimizer steps; returns the progress in [0, 1]."""
        by_steps = 0.0 if self.total_epochs is None else step / (self.total_epochs * self.steps_per_epoch)
        if self.budget is None:
            self.progress = by_steps
        else:
            by_time = self._share(min(1.0, self.elapsed / (self.budget - self._reserve(step))))
            self.out_of_time = by_time >= 1
            self.progress = max(by_steps, by_time)
        return self.progress

    def progress_at(self, epoch: int, share: float) -> float:
        """How far the run has come when the share of an epoch is done: by its steps alone, or, where time is also
        limited, by what more of the two is used up.

        Of a run of a number of epochs it is a pure function, so that batches prepared ahead, or after a resumption,
        are the same.
        """
        by_steps = 0.0 if self.total_epochs is None else (epoch + share) / self.total_epochs
        return by_steps if self.budget is None else max(by_steps, self.progress)

    def _reserve(self, step: int) -> float:
        assert self.budget is not None
        seconds = self.validation_seconds
        if seconds is None:
            seconds = self.elapsed / max(step, 1) * self.steps_per_epoch * self.validation_share
        return min(1.05 * seconds, 0.5 * self.budget)  # however slow validation is, half of the time is for training

    def validated(self, seconds: float) -> float:
        """Remember how long a validation took; returns the seconds of the slowest."""
        self.validation_seconds = max(seconds, self.validation_seconds or 0.0)
        return self.validation_seconds

    def epochs(self, first: int) -> Iterator[int]:
        """The epochs that are left, from `first` on, until their number is reached or the time is over."""
        numbers = itertools.count(first) if self.total_epochs is None else range(first, self.total_epochs)
        return itertools.takewhile(lambda _: not self.out_of_time, numbers)

"""The learning rate schedule, and the clock that measures the progress of a run by steps or by time."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from sightline.training.recipe import Recipe


def learning_rate_factor(recipe: Recipe, step: int, progress: float) -> float:
    """The factor of the learning rate at an optimizer step.

    Linear warm-up (Goyal et al. 2017, section 2.2) times the schedule: a cosine to zero (Loshchilov & Hutter 2017,
    section 3), a drop at each milestone, or a constant. Departure: the warm-up takes at most a tenth of the run.

    Args:
        recipe: gives `schedule`, `warmup_steps`, `milestones` and `gamma`.
        step: number of optimizer steps before this one.
        progress: progress of the run, in [0, 1].

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
    """Set the learning rate of every parameter group from its base rate; return that of the main group."""
    factor = learning_rate_factor(recipe, step, progress)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    assert recipe.lr is not None  # Recipe fills in the default
    return recipe.lr * factor


class Clock:
    """The progress of a run: the fraction of its steps or, with a time budget, of its time, whichever is larger.

    With a time budget the schedule follows the time itself, not a number of steps estimated from the first few. It
    therefore ends at zero even if the machine becomes slower or faster during the run. Time for the last validation is
    reserved: as much as the slowest validation so far took; before the first one, the time of training on as many
    images.

    Args:
        recipe: gives `epochs` and `minutes`.
        steps_per_epoch: optimizer steps per epoch.
        validation_share: images processed by one validation per training image of an epoch.
        elapsed: seconds that the run took before it was resumed.
        validation_seconds: duration of the slowest earlier validation; None if there was none.
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
        self._first: tuple[int, float] | None = None  # step and elapsed time at the first tick

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, without the time between an interruption and its resumption."""
        return time.monotonic() - self._began

    @property
    def remaining(self) -> float | None:
        """Estimated remaining seconds; None if unknown."""
        return self.elapsed * (1 / self.progress - 1) if self.progress > 0 else None

    def tick(self, step: int) -> float:
        """Update the progress after `step` optimizer steps; return it, in [0, 1]."""
        by_steps = 0.0 if self.total_epochs is None else step / (self.total_epochs * self.steps_per_epoch)
        self._first = self._first or (step, self.elapsed)
        if self.budget is None:
            self.progress = by_steps
        else:
            by_time = self._share(min(1.0, self.elapsed / (self.budget - self._reserve(step))))
            self.out_of_time = by_time >= 1
            self.progress = max(by_steps, by_time)
        return self.progress

    def progress_at(self, epoch: int, share: float) -> float:
        """The progress of the run at a fraction of an epoch, by steps or, with a time budget, by whichever is larger.

        Without a time budget this is a pure function, so that batches prepared ahead of time, or after a resumption,
        are the same.
        """
        by_steps = 0.0 if self.total_epochs is None else (epoch + share) / self.total_epochs
        return by_steps if self.budget is None else max(by_steps, self.progress)

    def _reserve(self, step: int) -> float:
        assert self.budget is not None
        assert self._first is not None
        seconds = self.validation_seconds
        if seconds is None:  # what came before the first step, such as the caching of features, says nothing about it
            first, before = self._first
            seconds = (self.elapsed - before) / max(step - first, 1) * self.steps_per_epoch * self.validation_share
        return min(1.05 * seconds, 0.5 * self.budget)  # however slow validation is, half of the time is for training

    def validated(self, seconds: float) -> float:
        """Record the duration of a validation; return that of the slowest."""
        self.validation_seconds = max(seconds, self.validation_seconds or 0.0)
        return self.validation_seconds

    def epochs(self, first: int) -> Iterator[int]:
        """Yield the remaining epochs, starting at `first`, until their number is reached or time runs out."""
        numbers = itertools.count(first) if self.total_epochs is None else range(first, self.total_epochs)
        return itertools.takewhile(lambda _: not self.out_of_time, numbers)

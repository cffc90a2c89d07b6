"""A measure that keeps all targets and predictions, and compares them at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Self, TypeVar

from sightline.structures import Classes, Instances

Found = TypeVar("Found")


class CollectedMeasure(ABC, Generic[Found]):
    """Collects the labels and predictions of each image.

    Args:
        classes: names of the labels' classes.
        keep: keep targets and predictions in the result, for reports.
    """

    def __init__(self, classes: Classes, keep: bool = False):
        self.classes, self.keep = classes, keep
        self.targets: list[Instances] = []
        self.predictions: list[Instances] = []

    def add(self, target: Instances, prediction: Instances) -> None:
        """Add the labels and predictions of an image."""
        self.targets.append(target)
        self.predictions.append(prediction)

    def join(self, other: Self) -> None:
        """Add the images of another measure after those of this one."""
        self.targets += other.targets
        self.predictions += other.predictions

    def result(self, names: Sequence[str] | None = None) -> Found:
        """Compare all images added so far.

        Args:
            names: the name of each image.
        """
        result: Any = self.compared(names)
        if not self.keep:
            result.targets = result.predictions = None
        elif result.targets is None:  # some evaluations keep predictions with the ids of `classes`
            result.targets, result.predictions = self.targets, self.predictions
        return result

    @abstractmethod
    def compared(self, names: Sequence[str] | None) -> Found:
        """The evaluation of `targets` and `predictions`."""

"""What every evaluation gives, whatever its task: the contract that tables, reports and training rely on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy import int64
from numpy.typing import NDArray

from sightline.evaluation._table import aligned, number, short
from sightline.structures import Classes
from sightline.words import counted


class Result(Protocol):
    """The measurements of a model on a dataset. Whatever shows a result asks the result, and never for its type.

    Attributes:
        notes: what a reader of the numbers should know, one sentence each.
        measured: "data" and "split" that were measured, where they are known.
    """

    notes: list[str]
    measured: dict[str, Any]

    @property
    def task(self) -> str:
        """The name of the task."""

    @property
    def images(self) -> int:
        """How many images were measured."""

    @property
    def names(self) -> Sequence[str] | None:
        """A name for each image."""

    @property
    def targets(self) -> Sequence[Any] | None:
        """The label of each image, where kept."""

    @property
    def predictions(self) -> Sequence[Any] | None:
        """The model's answer to each image, where kept."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """All numbers by name; None where a number is not available."""

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why, for each metric that is None; under "class/metric" for the numbers of one class."""

    @property
    def headline(self) -> tuple[str, ...]:
        """Names of the metrics that stand in every table and on the report's cards; the best epoch is chosen by the
        first."""

    @property
    def per_class(self) -> Mapping[str, Mapping[str, Any]]:
        """Numbers by class name; empty where the task knows no classes."""

    @property
    def threshold(self) -> float | None:
        """The score that predictions should have at least, which is saved with the model; None where there is none."""

    def worst_first(self) -> NDArray[int64]:
        """Positions of the images, the worst first."""

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Confidence intervals of the metrics that have one, by name."""

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """Everything for JSON; with `details` curves, confusion and whatever else the report shows."""


class Measure(Protocol):
    """Collects targets and predictions one image at a time, and gives the result."""

    def add(self, target: Any, prediction: Any) -> None:
        """Count an image: its label, and what the model answered (both on the CPU)."""

    def result(self, names: Sequence[str] | None = None) -> Result:
        """The result over all images added; `names` has a name for each."""


MakeMeasure = Callable[[Classes, bool], Measure]
"""(classes of the labels, whether to keep targets and predictions for reports) → a new measure."""


@dataclass
class PlainResult:
    """A `Result` of numbers alone, for tasks that need no more; `print(result)` lists them.

    Attributes:
        task: the name of the task.
        metrics: all numbers by name, the most telling first; None where a number is not available.
        image_errors: [images] float, how wrong the answer to each image is.
        headline: names of the metrics that stand in every table; by default all.
        reasons: why, for each metric that is None.
        per_class: numbers by class name.
        names, targets, predictions: one of each per image, where kept.
        threshold: the score that predictions should have at least, or None.
        notes: what a reader of the numbers should know, one sentence each.
        measured: "data" and "split" that were measured, where they are known.
    """

    task: str
    metrics: dict[str, float | None]
    image_errors: NDArray[np.float64] = field(repr=False)
    headline: tuple[str, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)
    per_class: dict[str, dict[str, Any]] = field(default_factory=dict)
    names: Sequence[str] | None = field(default=None, repr=False)
    targets: Sequence[Any] | None = field(default=None, repr=False)
    predictions: Sequence[Any] | None = field(default=None, repr=False)
    threshold: float | None = None
    notes: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.headline = self.headline or tuple(self.metrics)

    @property
    def images(self) -> int:
        """How many images were measured."""
        return len(self.image_errors)

    def worst_first(self) -> NDArray[int64]:
        """Positions of the images by falling error."""
        return np.argsort(-self.image_errors, kind="stable").astype(np.int64)

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """None: how the numbers follow from the images is not known here."""
        return {}

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """Everything for JSON; with `details` the error of each image."""
        out: dict[str, Any] = {
            "task": self.task,
            "images": self.images,
            "classes": list(self.per_class),
            "metrics": dict(self.metrics),
            "reasons": dict(self.reasons),
            "per_class": {name: dict(row) for name, row in self.per_class.items()},
            "notes": list(self.notes),
        } | ({"measured": dict(self.measured)} if self.measured else {})
        if details:
            out["image_errors"] = [None if np.isnan(error) else float(error) for error in self.image_errors]
        return out

    def __repr__(self) -> str:
        return short(self)

    def __str__(self) -> str:
        rows = [["  " + name, number(value), self.reasons.get(name, "")] for name, value in self.metrics.items()]
        notes = [f"Note: {note}." for note in self.notes]
        return "\n".join([counted(self.images), *aligned(rows, [False, True, False]), *notes])

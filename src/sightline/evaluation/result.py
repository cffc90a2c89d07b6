"""The interface of all evaluation results, which tables, reports and training rely on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy import int64
from numpy.typing import NDArray

from sightline.evaluation._table import aligned, number, short
from sightline.structures import Classes
from sightline.structures.tabular import html_of
from sightline.words import counted


class Result(Protocol):
    """The result of evaluating a model on a dataset. Code that shows a result uses this interface, not its type.

    Attributes:
        notes: remarks for the reader of the metrics, one sentence each.
        measured: "data" and "split" of the evaluation and "threshold", the minimum score of predictions that is saved
            with the model, if known.
    """

    notes: list[str]
    measured: dict[str, Any]

    @property
    def task(self) -> str:
        """The name of the task."""

    @property
    def images(self) -> int:
        """Number of images."""

    @property
    def names(self) -> Sequence[str] | None:
        """The name of each image."""

    @property
    def targets(self) -> Sequence[Any] | None:
        """The target of each image, if kept."""

    @property
    def predictions(self) -> Sequence[Any] | None:
        """The prediction for each image, if kept."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """All metrics by name; None if a metric is not available."""

    @property
    def reasons(self) -> Mapping[str, str]:
        """For each metric that is None, the reason; metrics of one class have the key "class/metric"."""

    @property
    def headline(self) -> tuple[str, ...]:
        """Names of the metrics shown in every table and at the top of the report; the first decides which epoch is
        best."""

    @property
    def per_class(self) -> Mapping[str, Mapping[str, Any]]:
        """Metrics by class name; empty if the task has no classes."""

    @property
    def threshold(self) -> float | None:
        """The minimum score of predictions that is best on these images; None if there is none.

        That of the validation images is saved with the model, and `predict` uses it.
        """

    def worst_first(self) -> NDArray[int64]:
        """Indices of the images, the worst first."""

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Confidence intervals by metric, for metrics that have one."""

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also curves, confusion and everything else the report shows."""


class Measure(Protocol):
    """Collects targets and predictions one image at a time, and computes the result."""

    def add(self, target: Any, prediction: Any) -> None:
        """Add an image: its target and its prediction (both on the CPU)."""

    def result(self, names: Sequence[str] | None = None) -> Result:
        """The result over all images added; `names` has a name for each."""


@runtime_checkable
class Asking(Protocol):
    """A measure that asks the model for more than `model(images)`, such as what it predicts in labelled boxes."""

    def ask(self, model: Any, images: Sequence[Any], targets: Sequence[Any]) -> None:
        """Ask the model, in evaluation mode and on its device, about a batch whose images are then added in turn."""


@runtime_checkable
class Joining(Protocol):
    """A measure that can take over the images of another one, which a process has added for its part of the images."""

    def join(self, other: Any) -> None:
        """Add the images of another measure of the same type after those of this one."""


def shown_threshold(result: Result) -> float:
    """The minimum score of the predictions to show: that saved with the model, else the best on these images, else 0.

    Predictions of a lower score are left out of pictures, as `predict` leaves them out.
    """
    saved = result.measured.get("threshold")
    return float(saved if saved is not None else result.threshold or 0.0)


MakeMeasure = Callable[[Classes, bool], Measure]
"""(classes of the labels, whether to keep targets and predictions for reports) → a new measure."""


@dataclass
class PlainResult:
    """A `Result` of metrics only, for tasks that need no more; `print(result)` lists them.

    Attributes:
        task: the name of the task.
        metrics: all metrics by name, the most important first; None if not available.
        image_errors: [images] float, the error of each image's prediction.
        headline: names of the metrics shown in every table; by default all.
        reasons: for each metric that is None, the reason.
        per_class: metrics by class name.
        names, targets, predictions: one per image, if kept.
        threshold: the minimum score of predictions, or None.
        notes: remarks for the reader of the metrics, one sentence each.
        measured: "data" and "split" of the evaluation, if known.
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
        """Number of images."""
        return len(self.image_errors)

    def worst_first(self) -> NDArray[int64]:
        """Indices of the images by descending error."""
        return np.argsort(-self.image_errors, kind="stable").astype(np.int64)

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Empty: how the metrics depend on the images is unknown."""
        return {}

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also the error of each image."""
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

    _repr_html_ = html_of

    def __str__(self) -> str:
        rows = [["  " + name, number(value), self.reasons.get(name, "")] for name, value in self.metrics.items()]
        notes = [f"Note: {note}." for note in self.notes]
        return "\n".join([counted(self.images), *aligned(rows, [False, True, False]), *notes])

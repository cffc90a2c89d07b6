"""What every evaluation gives, whatever its task: the contract that tables, reports and training rely on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy import int64
from numpy.typing import NDArray

from sightline.structures import Classes


class Result(Protocol):
    """The measurements of a model on a dataset. Whatever shows a result asks the result, and never for its type.

    Attributes:
        task: the name of the task.
        images: how many images were measured.
        notes: what a reader of the numbers should know, one sentence each.
        measured: "data" and "split" that were measured, where they are known.
        names: a name for each image.
        targets, predictions: what was compared, where kept; one of each per image.
    """

    task: str
    images: int
    notes: list[str]
    measured: dict[str, Any]
    names: list[str] | None
    targets: Sequence[Any] | None
    predictions: Sequence[Any] | None

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

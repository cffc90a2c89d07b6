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

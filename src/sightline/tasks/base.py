"""What a task is: the parts that differ between one kind of answer and another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sightline.deploy.writers.base import Writer
from sightline.evaluation.result import MakeMeasure
from sightline.report.base import TaskReport
from sightline.structures import Classes


def unchanged(data: Any) -> Any:
    """The data as it is."""
    return data


def own_classes(data: Any) -> Classes:
    """The data's classes."""
    classes: Classes = data.classes
    return classes


@dataclass(frozen=True)
class Labels:
    """Which labels a task learns from.

    Attributes:
        kind: the kind of dataset whose labels are its targets (`sightline.data.kinds`); of a target type that
            Sightline does not have, the name of the type.
        prepare: data → the data with the targets of the task, such as objects drawn as class maps.
        classes: data → the classes of a model that is made for it.
    """

    kind: str
    prepare: Callable[[Any], Any] = unchanged
    classes: Callable[[Any], Classes] = own_classes


@dataclass(frozen=True)
class Task:
    """A kind of answer, taken from labels to a report.

    Attributes:
        name: what models of the task have as `task`.
        labels: which labels it learns from, and how data is prepared.
        measure: makes what counts targets and predictions.
        headline: metrics that are recorded after each epoch, where the result has them; the best epoch is chosen by
            the first.
        report: the report's sections, picture and order (`sightline.report.base`); None for its numbers alone.
        writer: what `predict` leaves in a folder (`sightline.deploy.writers.base`); None for nothing.
        lower_is_better: those of `headline` of which less is better, such as an error.
        default_model: catalog name of the model that `train` takes where none is named; None if the task is never
            chosen by the data alone.
        quick_model: catalog name of a model that a small time budget allows, for advice; None for none.
    """

    name: str
    labels: Labels
    measure: MakeMeasure
    headline: tuple[str, ...]
    report: TaskReport | None = None
    writer: Writer | None = None
    lower_is_better: tuple[str, ...] = ()
    default_model: str | None = None
    quick_model: str | None = None

"""What a task is: the four parts that differ between one kind of answer and another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sightline.evaluation.result import MakeMeasure
from sightline.structures import Classes


@dataclass(frozen=True)
class Labels:
    """Which labels a task learns from.

    Attributes:
        kind: the kind of dataset whose labels are its targets (`sightline.data.kinds`).
        prepare: (data, model) → the data with the targets that the model learns from, such as objects drawn as class
            maps, or with their masks.
        classes: data → the classes of a model that is made for it.
    """

    kind: str
    prepare: Callable[[Any, Any], Any]
    classes: Callable[[Any], Classes]


@dataclass(frozen=True)
class Task:
    """A kind of answer, taken from labels to a report.

    Attributes:
        name: what models of the task have as `task`.
        labels: which labels it learns from, and how data is prepared.
        measure: makes what counts targets and predictions.
        headline: metrics that an epoch's validation records; the best epoch is chosen by the first.
        report: the report's sections, picture and order (`sightline.report.base`).
        writer: what `predict` leaves in a folder (`sightline.deploy.writers.base`).
        default_model: catalog name of the model that `train` takes where none is named; None if the task is never
            chosen by the data alone.
        quick_model: catalog name of a model that a small time budget allows, for advice; None for none.
    """

    name: str
    labels: Labels
    measure: MakeMeasure
    headline: tuple[str, ...]
    report: Any
    writer: Any
    default_model: str | None = None
    quick_model: str | None = None

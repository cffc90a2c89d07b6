"""The definition of a task: everything that differs between one kind of prediction and another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sightline.deploy.writers.base import Writer
from sightline.evaluation.result import MakeMeasure
from sightline.explain.targets import Explained
from sightline.report.base import TaskReport
from sightline.structures import Classes


def unchanged(data: Any) -> Any:
    """Return the data unchanged."""
    return data


def data_classes(data: Any) -> Classes:
    """Return the data's classes."""
    classes: Classes = data.classes
    return classes


def no_arguments(data: Any) -> Mapping[str, Any]:
    """Return no arguments: nothing of a model depends on the data."""
    return {}


@dataclass(frozen=True)
class Labels:
    """The labels that a task learns from.

    Attributes:
        kind: the kind of dataset whose labels are the task's targets (`sightline.data.kinds`); for another target type,
            the name under which the type is registered.
        prepare: data → data with the targets of the task, such as objects drawn as class maps.
        classes: data → the classes of a model created for it.
        about: the field that the labels must be about, for tasks that share a kind of labels (`Dataset.about`);
            "" for the task that data of this kind is used for otherwise.
        arguments: training data → arguments of models that the data determines, such as the number of keypoints or the
            words of captions. A model takes those that it has and that the user does not give.
    """

    kind: str
    prepare: Callable[[Any], Any] = unchanged
    classes: Callable[[Any], Classes] = data_classes
    about: str = ""
    arguments: Callable[[Any], Mapping[str, Any]] = no_arguments


@dataclass(frozen=True)
class Task:
    """A kind of prediction, from its labels to its report.

    Attributes:
        name: the name of the task, which its models have as attribute `task`.
        labels: the labels that the task learns from.
        measure: creates the object that compares targets and predictions.
        headline: metrics that are recorded after each epoch, if the result has them; the first decides which epoch is
            best.
        report: sections, images and order of the report (`sightline.report.base`); None for a report of metrics only.
        writer: writes the files of `predict_to_folder` (`sightline.deploy.writers.base`); None if there are none.
        explained: what can be explained of the models (`sightline.explain.targets`); None if only targets of the user's
            own can be.
        lower_is_better: those metrics of `headline` for which lower is better, such as errors.
        default_model: catalog name of the model that `train` uses by default; None if the data alone never determines
            this task.
        quick_model: catalog name of a model to suggest for small time budgets; None for none.
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
    explained: Explained | None = None

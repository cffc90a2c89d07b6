"""What a training run starts from: the model, or its name, arguments and weights, and the data for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sightline.data.dataset import Dataset
from sightline.data.stored import optional_fields
from sightline.errors import InputError
from sightline.models.arguments import OLD_NAMES, parameters, with_image_size, with_settings
from sightline.models.catalog import find
from sightline.models.creation import NO_WEIGHTS, checked_arguments, create_model, installed_start
from sightline.models.model import Model
from sightline.runtime.values import require_whole
from sightline.structures import Classes
from sightline.tasks import TASKS, Task, task_for, task_of
from sightline.training.run import RunFacts
from sightline.verbs.labels import for_task
from sightline.verbs.opening import ClassesGiven
from sightline.verbs.planning import Plan

log = logging.getLogger("sightline")


_INSTALLED = {"imagenet": "ImageNet", "clutter": "clutter"}
"""Names, for messages, of the data whose weights a training run starts from by default."""


@dataclass(frozen=True)
class Subject:
    """What is trained, and on what.

    Attributes:
        model: the user's model, or the name of one of the catalog.
        arguments: those that the user gave for the name.
        task: the task of the model.
        data: all data, with the labels that the task takes.
        names: the classes of the model.
        channels: of the images.
        hints: sentences on other models for this data.
    """

    model: Model | str
    arguments: Mapping[str, Any]
    task: Task
    data: Any
    names: Classes | None
    channels: int
    hints: Sequence[str] = ()


def subject_of_model(model: Model, opened: Callable[..., Any]) -> Subject:
    """A model of the user, and the data for it.

    Args:
        model: the user's model.
        opened: (new names of classes, the model's classes, number of channels) → the data.

    Raises:
        InputError: the data has other classes than the model.
    """
    names = model.classes or None
    data = for_task(opened(None, names, model.in_channels), model)
    if isinstance(data, Dataset) and names is not None:
        anew = "; to train a model of the new classes from this one's weights, give its name and weights=FILE or RUN"
        names.require_same(data.classes, "the model", "the training set", anew)
    return Subject(model, {}, task_of(model, data.kind), data, names, model.in_channels)


def subject_of_name(
    name: str | None,
    arguments: Mapping[str, Any] | None,
    weights: str | Path | None,
    classes: ClassesGiven | None,
    begun: RunFacts | None,
    opened: Callable[..., Any],
) -> Subject:
    """The name of a model, by default that for the labels of the data, and the data.

    Args:
        name, arguments, weights, classes: that the user gave.
        begun: the facts of the run to resume.
        opened: as of `subject_of_model`.
    """
    name, arguments = _name_and_arguments(name, arguments, weights, begun)
    channels = arguments.get("in_channels", 3)
    data = opened(classes, None, channels)
    hints: list[str] = []
    if name is None:
        name = task_for(data.kind, getattr(data, "about", "")).default_model or ""
        arguments = checked_arguments(name, arguments, weights)
        hints = _hints_of_models(data)
    task = TASKS[find(name).task]
    data = task.labels.prepare(data)
    return Subject(name, arguments, task, data, data.classes, channels, hints)


def created(
    subject: Subject,
    weights: str | Path | None,
    begun: RunFacts | None,
    planned: Callable[..., Plan] | None,
    seed: int,
    train: Any,
    messages: list[str],
) -> tuple[Model, Plan]:
    """Create the named model with the arguments of the data, of the plan and of the user, and return it with the plan.

    Args:
        subject: with the model's name.
        weights: that the user gave.
        begun: the facts of the run to resume, which had its arguments from the data and the plan then.
        planned: (name, whether it starts from pretrained weights, fixed arguments) → the plan; None for no plan.
        seed: of the weights.
        train: the training images.
        messages: to which what was chosen is added.
    """
    name, arguments = str(subject.model), subject.arguments
    if begun is None:
        arguments = _with_data_arguments(subject.task, name, arguments, train, messages)
    weights = _start_weights(name, weights, arguments, begun, messages)
    plan = Plan()
    if planned is not None:
        plan = planned(name, weights not in (None, NO_WEIGHTS), checked_arguments(name, arguments))
    torch.manual_seed(seed)
    with nullcontext() if begun is None else _without_load_report():  # the run's own weights replace them
        return create_model(name, subject.data.classes, weights, **{**plan.arguments, **arguments}), plan


def _name_and_arguments(
    name: str | None, arguments: Mapping[str, Any] | None, weights: str | Path | None, begun: RunFacts | None
) -> tuple[str | None, dict[str, Any]]:
    """Return the model's name, if it is known before the data is opened, and all arguments of its builder.

    A run that is resumed without a model's name continues with its own model; `arguments` override its arguments.
    """
    if name is not None and not isinstance(name, str):
        raise InputError(f"the model is a {type(name).__name__}; give one of create_model or load, or a name")
    given = dict(arguments or {})
    if "classes" in given:
        raise InputError("classes cannot be a model argument here: the classes are those of the data; leave it out")
    if name is None and begun is not None and begun.model is not None:
        name, entry = begun.model, find(begun.model)
        own = with_settings(entry, begun.arguments)
        given = own | with_settings(entry, with_image_size(entry, given), own)
    elif name is not None:
        given = checked_arguments(name, given, weights)
    require_whole(
        "in_channels", given.get("in_channels", 3), 1, "channels", "give the number of channels of the images"
    )
    return name, given


def _hints_of_models(data: Any) -> list[str]:
    """Sentences that name the models for what the labels have besides boxes, which the default model does not learn."""
    fields = optional_fields(data.columns) if isinstance(data, Dataset) else ()
    known = {"masks": "sightline_lite0_mask", "keypoints": "sightline_lite0_pose"}
    return [
        f"the labels also have {field}, which the default model does not learn; the model {model} does"
        for field, model in known.items()
        if field in fields and not data.about
    ]


def _with_data_arguments(
    task: Task, name: str, arguments: Mapping[str, Any], train: Any, messages: list[str]
) -> Mapping[str, Any]:
    """The arguments with those that the data determines, if the model takes them and they are not given."""
    taken = parameters(find(name))
    given = {OLD_NAMES.get(own, own) for own in arguments}
    found = {own: value for own, value in task.labels.arguments(train).items() if own in taken and own not in given}
    messages += [f"{own}: {_shown(value)}, as in the data" for own, value in found.items()]
    return {**found, **arguments}


def _shown(value: Any) -> str:
    """A value for a sentence; a long one is replaced by its length."""
    text = str(value)
    return f"{len(value)} values" if len(text) > 60 and isinstance(value, Sequence | Mapping) else text


def _start_weights(
    name: str,
    weights: str | Path | None,
    arguments: Mapping[str, Any],
    begun: RunFacts | None,
    messages: list[str],
) -> str | Path | None:
    """The weights that a training run of a model starts from.

    If none are given, these are installed ones (`installed_start`), which is added to `messages`. A resumed run does so
    only if it did so at its beginning.
    """
    if weights is not None or (begun is not None and begun.weights not in _INSTALLED):
        return weights
    start = installed_start(name, arguments)
    if start is None or (begun is not None and begun.weights != start.data):
        return None
    if begun is None:
        messages.append(
            f"{name} starts from the installed {_INSTALLED[start.data]} weights of {start.network} ({start.metric}); "
            "weights 'none' starts from random numbers"
        )
    return start.data


@contextmanager
def _without_load_report() -> Iterator[None]:
    """No report of the weights that a model is created with: neither what was loaded nor what was left out."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def starts_pretrained(model: Model) -> bool:
    """Whether a model of the user has weights of a file or of a training run."""
    return model.weights_given is not None or "trained_on" in model.metadata

"""Give data the targets of a model's task, and check that its labels can be trained on."""

from __future__ import annotations

from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.kinds import KINDS
from sightline.data.torch_data import TorchData
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.tasks import TASKS, Task, task_of


def for_task(data: Any, model: Model) -> Any:
    """Return the data with the targets of the model's task, such as objects with outlines drawn as class maps."""
    return task_of(model, getattr(data, "kind", None)).labels.prepare(data)


def require_kind(task: Task, data: Any, title: str) -> None:
    """Check that the labels of a dataset are those that a task learns from.

    Args:
        task: the task of the model.
        data: the dataset; joint data, which has two kinds of labels, is checked by the model.
        title: the name of the dataset, for the message.

    Raises:
        InputError: the labels are of another kind; the message names the tasks that learn from them.
    """
    kind = getattr(data, "kind", None)
    if kind not in KINDS or kind == task.labels.kind:
        return
    fitting = " or ".join(other.name for other in TASKS.values() if other.labels.kind == kind)
    raise InputError(
        f"the model is a {task.name} model, but the labels of {title} are {KINDS[kind].noun}; "
        f"use a model for {fitting or 'these labels'} (`sightline models` lists them)"
    )


def with_target_fields(model: Model, data: Any) -> Any:
    """Return the data with the target fields that the model needs besides boxes and labels: masks, keypoints.

    Raises:
        InputError: the data does not have these labels.
    """
    fields = model.target_fields
    if not fields or not isinstance(data, Dataset | TorchData):
        return data
    try:
        return data.with_fields(*fields)
    except InputError as error:
        raise InputError(
            f"{model.title} learns from {' and '.join(fields)}, but {error}; choose a model that needs boxes only"
        ) from error


def require_usable(data: Any, title: str) -> None:
    """Check the labels of a dataset and raise the first error found.

    Only labels and image headers are read; `check` also reads the pixels.
    """
    from sightline.data.check import check

    if not isinstance(data, Dataset):
        return  # each item of a PyTorch dataset is checked when it is read
    found = check(data, full=False, progress=False)
    if not found.ok:
        errors = [problem for problem in found.problems if problem.level == "error"]
        number = "an error" if len(errors) == 1 else f"{len(errors)} errors, the first"
        copy = ", and with --fix drop --out COPY it writes a repaired copy" if data.label_kind.has_objects else ""
        raise InputError(
            f"the {title} data has {number}: {errors[0].what}; `sightline check DATA` says what to do{copy}"
        )

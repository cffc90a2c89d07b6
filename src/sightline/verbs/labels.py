"""Data as a model learns from it, and whether its labels can be trained on."""

from __future__ import annotations

from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.kinds import KINDS
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.tasks import TASKS, Task, task_of
from sightline.verbs.torch_data import TorchData


def as_learned(data: Any, model: Model) -> Any:
    """The data with the targets of the model's task, such as objects with outlines drawn as class maps."""
    return task_of(model, getattr(data, "kind", None)).labels.prepare(data)


def require_kind(task: Task, data: Any, title: str) -> None:
    """Refuse a dataset whose labels the task does not learn from.

    Args:
        task: of the model.
        data: the dataset; joint data, which holds two kinds, is left to the model.
        title: names the dataset in the message.

    Raises:
        InputError: naming the tasks that learn from such labels.
    """
    kind = getattr(data, "kind", None)
    if kind not in KINDS or kind == task.labels.kind:
        return
    fitting = " or ".join(other.name for other in TASKS.values() if other.labels.kind == kind)
    raise InputError(
        f"the model is one of {task.name}, but the labels of {title} are {KINDS[kind].noun}; "
        f"take a model of {fitting or 'these labels'} (`sightline models` lists them)"
    )


def with_target_fields(model: Model, data: Any) -> Any:
    """The data with the fields in its targets that the model learns from beside boxes and labels: masks, keypoints.

    Raises:
        InputError: the data has no such labels.
    """
    fields = model.target_fields
    if not fields or not isinstance(data, Dataset | TorchData):
        return data
    try:
        return data.with_fields(*fields)
    except InputError as error:
        raise InputError(
            f"{model.title} learns from {' and '.join(fields)}, but {error}; choose a model for boxes"
        ) from error


def require_usable(data: Any, title: str) -> None:
    """Refuse a dataset whose labels hold errors, with the first of them.

    Only labels and image headers are looked at: pixels are left to `check`.
    """
    from sightline.data.check import check

    if not isinstance(data, Dataset):
        return  # each item of a PyTorch dataset is checked when it is read
    found = check(data, full=False, progress=False)
    if not found.ok:
        errors = [problem for problem in found.problems if problem.level == "error"]
        number = "an error" if len(errors) == 1 else f"{len(errors)} errors, first"
        copy = ", and with --fix drop --out COPY it writes a repaired copy" if data.label_kind.has_objects else ""
        raise InputError(
            f"the {title} data has {number}: {errors[0].what}; `sightline check DATA` says what to do{copy}"
        )

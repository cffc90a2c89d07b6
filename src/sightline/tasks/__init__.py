"""The tasks that Sightline knows, one file each; `add` makes another one known.

Only the verbs look into `TASKS`: training, evaluation, deploy and report are given what they need of a task.
"""

from __future__ import annotations

from sightline.errors import InputError
from sightline.models.model import Model
from sightline.tasks import classification, detection, proposals, segmentation
from sightline.tasks.base import Labels, Task

__all__ = ["TASKS", "Labels", "Task", "add", "default_models", "task_for", "task_names", "task_of"]

TASKS: dict[str, Task] = {
    "detection": detection.TASK,
    "proposal": proposals.TASK,
    "segmentation": segmentation.TASK,
    "classification": classification.TASK,
}
"""By the `task` of their models."""


def add(task: Task) -> None:
    """Make a task known, so that its models are trained, measured, reported and used for predictions like others.

    Raises:
        InputError: there is a task of this name.
    """
    if not isinstance(task, Task):
        raise InputError(f"{task!r} is no task; give a sightline.tasks.Task")
    if task.name in TASKS:
        raise InputError(f"there is a task {task.name!r} already; give yours another name")
    TASKS[task.name] = task


def task_names() -> tuple[str, ...]:
    """Names of all tasks."""
    return tuple(TASKS)


def default_models() -> tuple[str, ...]:
    """The models that are trained where none is named, one for each task that is chosen by the data alone."""
    return tuple(task.default_model for task in TASKS.values() if task.default_model is not None)


def task_of(model: Model, kind: str | None = None) -> Task:
    """The task of a model; of one that does not name its task, the first that learns from labels of this kind.

    Args:
        model: whose `task` is looked up.
        kind: of the data that it is used with.

    Raises:
        InputError: nothing is known of the task.
    """
    name = model.task
    if not name:
        for task in TASKS.values():
            if task.labels.kind == kind:
                return task
        raise InputError(
            f"the {model.title} does not say its task; give it an attribute `task`, one of {', '.join(TASKS)}"
        )
    if name not in TASKS:
        raise InputError(
            f"the model is of task {name!r}, which is not known; known are {', '.join(TASKS)}; sightline.tasks.add "
            "makes another one known"
        )
    return TASKS[name]


def task_for(kind: str) -> Task:
    """The task that is chosen by the data alone: the first that learns from labels of this kind and has a default
    model.

    Raises:
        InputError: there is none.
    """
    for task in TASKS.values():
        if task.labels.kind == kind and task.default_model is not None:
            return task
    raise InputError(f"no model is the usual one for labels of kind {kind!r}; name a model")

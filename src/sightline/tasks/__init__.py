"""The tasks of Sightline, one file each; `add` registers another one.

Only the verbs read `TASKS`; training, evaluation, deploy and report receive what they need of a task as arguments.
"""

from __future__ import annotations

from sightline.errors import InputError
from sightline.models.model import Model
from sightline.tasks import (
    classification,
    cuboids,
    dense_captioning,
    detection,
    meshes,
    proposals,
    scene_graph,
    segmentation,
    video_captioning,
)
from sightline.tasks.base import Labels, Task

__all__ = ["TASKS", "Labels", "Task", "add", "default_models", "task_for", "task_names", "task_of"]

TASKS: dict[str, Task] = {
    "detection": detection.TASK,
    "proposal": proposals.TASK,
    "segmentation": segmentation.TASK,
    "classification": classification.TASK,
    "dense_captioning": dense_captioning.TASK,
    "scene_graph": scene_graph.TASK,
    "cuboids": cuboids.TASK,
    "video_captioning": video_captioning.TASK,
    "meshes": meshes.TASK,
}
"""All tasks by name, which is the attribute `task` of their models."""


def add(task: Task) -> None:
    """Register a task, so that its models can be trained, evaluated, reported and used like those of other tasks.

    Raises:
        InputError: there is already a task of this name.
    """
    if not isinstance(task, Task):
        raise InputError(f"{task!r} is not a task; give a sightline.tasks.Task")
    if task.name in TASKS:
        raise InputError(f"there is already a task {task.name!r}; give yours another name")
    TASKS[task.name] = task


def task_names() -> tuple[str, ...]:
    """The names of all tasks."""
    return tuple(TASKS)


def default_models() -> tuple[str, ...]:
    """The models that `train` uses by default, one per task that the data determines."""
    return tuple(task.default_model for task in TASKS.values() if task.default_model is not None)


def task_of(model: Model, kind: str | None = None) -> Task:
    """Return the task of a model; without a name, the first task that learns from labels of this kind.

    Args:
        model: a model; its attribute `task` is the name of its task.
        kind: the kind of labels of the data that it is used with.

    Raises:
        InputError: the task is unknown.
    """
    name = model.task
    if not name:
        for task in TASKS.values():
            if task.labels.kind == kind:
                return task
        raise InputError(
            f"the {model.title} does not name its task; give it an attribute `task`, one of {', '.join(TASKS)}"
        )
    if name not in TASKS:
        raise InputError(
            f"the model has the unknown task {name!r}; known are {', '.join(TASKS)}; register others with "
            "sightline.tasks.add"
        )
    return TASKS[name]


def task_for(kind: str, about: str = "") -> Task:
    """Return the task for a kind of labels: the first that learns from them and has a default model.

    Args:
        kind: the kind of the labels (`Dataset.kind`).
        about: the field that they are about, if it is one (`Dataset.about`).

    Raises:
        InputError: there is none.
    """
    for task in TASKS.values():
        if (task.labels.kind, task.labels.about) == (kind, about) and task.default_model is not None:
            return task
    what = f"about {about!r}" if about else f"of kind {kind!r}"
    raise InputError(f"there is no default model for labels {what}; give the name of a model")

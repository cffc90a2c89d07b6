"""What is explained of a model: its default, and the words of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.errors import InputError
from sightline.tasks import TASKS, task_of

if TYPE_CHECKING:
    from torch import Tensor

    from sightline.explain.targets import Explained, Target
    from sightline.models.model import Model


def default_target(model: Model, image: Tensor) -> Target:
    """What is explained by default: the best class, the best detection, the largest class that is not background, or
    the best proposal.

    A detector that finds nothing has its best candidate explained.

    Args:
        model: a model.
        image: [C, H, W], uint8 or float in [0, 1].

    Raises:
        InputError: the models of this task cannot be explained.
    """
    from sightline.explain.hooks import unchanged

    with unchanged(model):
        return explained_of(model).default(model, image)


def default_method(model: Model) -> str:
    """The method that explains a model by default: Layer-CAM for detectors, whose Grad-CAM also shows other objects of
    the class, and Grad-CAM for other models."""
    from sightline.models.detection.detector import Detector

    return "layer_cam" if isinstance(model, Detector) else "grad_cam"


def parse_target(text: str, model: Model, image: Tensor) -> Target:
    """What is explained, from words such as "dog", "box:0", "box:0:delta", "mask:0", "keypoint:0:left_eye",
    "class:road" or "proposal:0". Positions count the model's predictions from the best, from 0.

    Args:
        text: the words.
        model: a model.
        image: [C, H, W], uint8 or float in [0, 1].

    Raises:
        InputError: the text is not a target of this model: an unknown class, a box that the model did not predict, or a
            mask of a model without masks.
    """
    from sightline.explain.hooks import unchanged

    with unchanged(model):
        return explained_of(model).parsed(text, model, image)


def explained_of(model: Model) -> Explained:
    """What can be explained of a model, by its task.

    Raises:
        InputError: the task is unknown, or its models cannot be explained.
    """
    found = task_of(model).explained
    if found is None:
        able = ", ".join(name for name, task in TASKS.items() if task.explained is not None)
        raise InputError(
            f"models of task {model.task!r} cannot be explained yet; those of {able} can, and any other by a Target of "
            "your own"
        )
    return found


def target_of(model: Model, image: Tensor, target: str | Target | None) -> Target:
    """The target that a caller gives: a target, its words, or None for the default.

    Raises:
        InputError: it is none of these, or as for `default_target` and `parse_target`.
    """
    from sightline.explain.targets import Target as TargetClass

    if target is None:
        return default_target(model, image)
    if not isinstance(target, str | TargetClass):
        raise InputError(f"target is {target!r}, but must be words such as 'box:0', or a sightline.explain target")
    return parse_target(target, model, image) if isinstance(target, str) else target

"""What is explained, by the task of the model and in the words of the command line.

A task has one row in `TARGETS`: what is explained by default, and what each word such as "box:0" stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import BoxDeltas as BoxDeltas
from sightline.explain.box_targets import DetectedBox as DetectedBox
from sightline.explain.box_targets import Objectness as Objectness
from sightline.explain.box_targets import best_box, best_proposal, box_target, proposal_target
from sightline.explain.box_targets import candidate_box as candidate_box
from sightline.explain.box_targets import detected_box as detected_box
from sightline.explain.box_targets import proposal as proposal
from sightline.explain.class_targets import ImageClass as ImageClass
from sightline.explain.class_targets import RegionClass as RegionClass
from sightline.explain.class_targets import image_class, largest_class, most_likely_class, region_class
from sightline.explain.hooks import unchanged
from sightline.explain.instance_targets import Keypoint as Keypoint
from sightline.explain.instance_targets import MaskPixels as MaskPixels
from sightline.explain.instance_targets import keypoint_target, mask_target
from sightline.explain.target import Target as Target
from sightline.models.model import Model
from sightline.words import did_you_mean

Words = Callable[[Model, Tensor, Sequence[str]], Target]
"""(model, image [C, H, W], the words after the first) → a target."""


@dataclass(frozen=True)
class Explained:
    """What can be explained of the models of a task.

    Attributes:
        default: function of a model and an image that returns what is explained by default.
        words: what the first word of a target stands for. "class" is also used for a text whose first word is none of
            these.
        examples: how targets are written.
    """

    default: Callable[[Model, Tensor], Target]
    words: Mapping[str, Words]
    examples: str


_PROPOSALS = {"proposal": proposal_target}

TARGETS: dict[str, Explained] = {
    "classification": Explained(most_likely_class, {"class": image_class}, "dog or class:dog"),
    "segmentation": Explained(largest_class, {"class": region_class}, "road, class:road or class:road:x1,y1,x2,y2"),
    "detection": Explained(
        best_box,
        {"class": best_box, "box": box_target, "mask": mask_target, "keypoint": keypoint_target, **_PROPOSALS},
        "dog, box:0, box:0:delta, box:0:left, mask:0, keypoint:0:left_eye or proposal:0",
    ),
    "proposal": Explained(best_proposal, _PROPOSALS, "proposal:0"),
}
"""One row per task."""


def default_target(model: Model, image: Tensor) -> Target:
    """What is explained by default: the best class, the best detection, the largest class that is no background, or the
    best proposal.

    A detector that finds nothing has its best candidate explained.

    Args:
        model: a model.
        image: [C, H, W], uint8 or float in [0, 1].

    Raises:
        InputError: the models of this task cannot be explained.
    """
    with unchanged(model):
        return _explained(model).default(model, image)


def parse_target(text: str, model: Model, image: Tensor) -> Target:
    """What is explained, from words such as "dog", "box:0", "box:0:delta", "mask:0", "keypoint:0:left_eye",
    "class:road" or "proposal:0". Positions count the model's predictions from the best, from 0.

    Args:
        text: the words.
        model: a model.
        image: [C, H, W], uint8 or float in [0, 1].

    Raises:
        InputError: the text is no target of this model: an unknown class, a box that the model did not predict, or a
            mask of a model without masks.
    """
    known = _explained(model)
    first, *rest = text.split(":")
    with unchanged(model):
        if text in model.classes and "class" in known.words:
            return known.words["class"](model, image, [text])
        if first in known.words:
            if not any(rest):
                raise InputError(f"the target {text!r} does not say which {first}; write {known.examples}")
            return known.words[first](model, image, rest)
        if rest or "class" not in known.words:
            hint = did_you_mean(first, known.words, f"write {known.examples}")
            raise InputError(f"{model.title} has no target {text!r}; {hint}")
        return known.words["class"](model, image, [text])


def _explained(model: Model) -> Explained:
    if model.task not in TARGETS:
        raise InputError(
            f"models of task {model.task!r} cannot be explained yet; those of {', '.join(TARGETS)} can, and any other "
            "by a Target of your own"
        )
    return TARGETS[model.task]

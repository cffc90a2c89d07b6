"""What is explained, and what a task says of it: its default, and the words of the command line.

`sightline.verbs.explained` has `default_target` and `parse_target`, which find what the task of a model says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import BoxDeltas as BoxDeltas
from sightline.explain.box_targets import DetectedBox as DetectedBox
from sightline.explain.box_targets import Objectness as Objectness
from sightline.explain.box_targets import candidate_box as candidate_box
from sightline.explain.box_targets import detected_box as detected_box
from sightline.explain.box_targets import proposal as proposal
from sightline.explain.cases import Case
from sightline.explain.class_targets import ImageClass as ImageClass
from sightline.explain.class_targets import RegionClass as RegionClass
from sightline.explain.instance_targets import Keypoint as Keypoint
from sightline.explain.instance_targets import MaskPixels as MaskPixels
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
        cases: function of a model, the name of an image, the image [C, H, W] and its label that yields what the model
            is right about, on which explanation methods are compared; None if they cannot be.
        located_by: the kind of label, other than that of the task, that also says where the cases are; None for none.
    """

    default: Callable[[Model, Tensor], Target]
    words: Mapping[str, Words]
    examples: str
    cases: Callable[[Model, str, Tensor, Any], Iterator[Case]] | None = None
    located_by: str | None = None

    def parsed(self, text: str, model: Model, image: Tensor) -> Target:
        """The target that a text stands for.

        Args:
            text: a class, or one of `words`, with what it takes after colons.
            model: a model of the task.
            image: [C, H, W], uint8 or float in [0, 1].

        Raises:
            InputError: the text is no target of this model.
        """
        first, *rest = text.split(":")
        if text in model.classes and "class" in self.words:
            return self.words["class"](model, image, [text])
        if first in self.words:
            if not any(rest):
                raise InputError(f"the target {text!r} does not say which {first}; write {self.examples}")
            return self.words[first](model, image, rest)
        if rest or "class" not in self.words:
            hint = did_you_mean(first, self.words, f"write {self.examples}")
            raise InputError(f"{model.title} has no target {text!r}; {hint}")
        return self.words["class"](model, image, [text])

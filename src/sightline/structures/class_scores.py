"""The class of a whole image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sightline.errors import InputError
from sightline.structures.classes import Classes
from sightline.structures.size import Size
from sightline.structures.whole_image import WholeImage


@dataclass(frozen=True)
class ClassScores(WholeImage):
    """What a whole image shows.

    Attributes:
        image_size: (height, width) of the image in pixels.
        label: id of the one class, for a target; None where only scores are known.
        scores: [K] float probabilities, for a prediction (or a soft target).
        classes: names of the classes, or None where they are not known.
        source: the file or item it belongs to.
    """

    image_size: Size
    label: int | None = None
    scores: Tensor | None = None
    classes: Classes | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        what = f"{self.source}: " if self.source else ""
        if self.label is None and self.scores is None:
            raise InputError(f"{what}class scores need a label, scores, or both")
        if self.classes is not None and self.label is not None and not 0 <= self.label < len(self.classes):
            raise InputError(f"{what}label {self.label} is not a class id: ids are 0 to {len(self.classes) - 1}")
        if self.classes is not None and self.scores is not None and self.scores.shape != (len(self.classes),):
            raise InputError(
                f"{what}scores have shape {list(self.scores.shape)}, but there are {len(self.classes)} classes"
            )

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k best classes with their scores, best first."""
        if self.scores is None or self.classes is None:
            raise InputError("the best classes are known only where there are scores and class names")
        values, ids = self.scores.topk(min(k, len(self.classes)))
        return [(self.classes[i], v) for i, v in zip(ids.tolist(), values.tolist(), strict=True)]

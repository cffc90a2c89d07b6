"""Classification: the class of a whole image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sightline.errors import InputError
from sightline.structures.classes import Classes
from sightline.structures.size import Size
from sightline.structures.whole_image import WholeImage


@dataclass(frozen=True)
class ClassScores(WholeImage):
    """The target or prediction of image classification.

    Attributes:
        image_size: (height, width) of the image in pixels.
        label: class id of a target; None if only scores are known.
        scores: [K] float class probabilities of a prediction (or of a soft target), or None.
        classes: names of the classes, or None if they are unknown.
        source: file or item that the label belongs to, or None.

    Raises:
        InputError: both label and scores are missing, the label is not a class id, or the number of scores is wrong.
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

    def __repr__(self) -> str:
        """The label and the best classes with their scores; without class names, class ids and the number of scores."""
        height, width = self.image_size
        parts = [f"{width}×{height} pixels"]
        if self.label is not None:
            parts.insert(0, f"label {self.classes[self.label] if self.classes is not None else self.label}")
        if self.scores is not None and self.classes is not None:
            best = [f"{name} {score:.3f}" for name, score in self.top(3)]
            left = len(self.classes) - len(best)
            parts.insert(-1, f"scores {', '.join(best)}" + (f" and {left} more" if left else ""))
        elif self.scores is not None:
            parts.insert(-1, f"{len(self.scores)} scores")
        where = f"of {self.source}: " if self.source else ""
        return f"ClassScores({where}{'; '.join(parts)})"

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The names and scores of the k classes with the highest scores, in descending order.

        Raises:
            InputError: scores or class names are missing.
        """
        if self.scores is None or self.classes is None:
            raise InputError("the best classes need scores and class names; these class scores lack one of them")
        values, ids = self.scores.topk(min(k, len(self.classes)))
        return [(self.classes[i], v) for i, v in zip(ids.tolist(), values.tolist(), strict=True)]

    def to_columns(self) -> dict[str, list[Any]]:
        """One row per class, the best first: image, class, label, score, and whether it is the labelled one ("target").

        Without scores, the only row is that of the labelled class.
        """
        ids: list[int] = [] if self.label is None else [self.label]
        if self.scores is not None:
            ids = self.scores.argsort(descending=True, stable=True).tolist()
        named = [f"class {i}" if self.classes is None else self.classes[i] for i in ids]
        columns: dict[str, list[Any]] = {"image": [self.source] * len(ids), "class": named, "label": ids}
        if self.scores is not None:
            columns["score"] = self.scores[ids].tolist()
        if self.label is not None:
            columns["target"] = [i == self.label for i in ids]
        return columns

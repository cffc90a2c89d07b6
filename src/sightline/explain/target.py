"""The base class of what is explained: one number per image, such as the score of a class or of one detected box."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.models.model import Model
from sightline.structures import ImageBatch

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels."""


class Target:
    """What is explained: a function of a batch of changed copies of one image.

    Subclasses are frozen dataclasses that implement `score` and `describe`.

    Attributes:
        box: the explained object in pixels of the original image; None for targets that are no object.
        mask: [H, W] bool, its mask in pixels of the original image, or None.
        level: which of the model's `map_layers` the score is computed from.
        frame: the rectangle, in pixels of the batch, that a layer's maps cover for a network that runs on crops; None
            for one that runs on the whole image.
        quantity: what the number of `score` is, such as "logit".
    """

    box: Box | None = None
    mask: Tensor | None = None
    level: int = 0
    frame: Box | None = None
    quantity: str = "score"

    def score(self, model: Any, batch: ImageBatch) -> Tensor:
        """One number per image of a batch that `model.prepare` returned, [N], differentiable."""
        raise NotImplementedError(f"{type(self).__name__} does not implement score")

    def describe(self, model: Any) -> str:
        """What is explained, in a few words."""
        raise NotImplementedError(f"{type(self).__name__} does not implement describe")


@torch.no_grad()
def prepared(model: Model, image: Tensor) -> ImageBatch:
    """The batch of one image [C, H, W], on the model's device."""
    first = next(model.parameters(), None)
    batch, _ = model.prepare([image if first is None else image.to(first.device)], None)
    return batch


def as_box(values: Tensor) -> Box:
    """[4] → a box of plain numbers."""
    x1, y1, x2, y2 = values.tolist()
    return x1, y1, x2, y2

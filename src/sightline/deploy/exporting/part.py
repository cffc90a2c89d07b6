"""Base class of the computations of an exported file on a preprocessed batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sightline.deploy.exporting.operators import LEAST
from sightline.models.model import Model
from sightline.structures import ImageBatch

Outputs = Mapping[str, Tensor]
"""The outputs of an exported model for a batch, by name."""


class Part(nn.Module):
    """Base class: the network of a model and what follows it.

    A part is a module whose inputs and outputs are tensors. It takes a batch [N, C, H, W] float, the size of the images
    in it and their original size, each [2] int64 (height, width), and gives outputs of fixed shape. All images of a
    batch have one size.

    Attributes:
        kind: name of the kind of results, by which `READERS` reads the outputs.
        takes_cameras: whether the part takes a fourth tensor, the cameras of the images [N, 3, 3] float: intrinsics in
            pixels of the original image, upper triangular with a positive diagonal.
        outputs: name → meaning of each output of the file.
    """

    kind: str = ""
    takes_cameras: bool = False
    outputs: Mapping[str, str] = {}

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        """One tensor per name in `outputs`."""
        raise NotImplementedError


OBJECTS: dict[str, str] = {
    "boxes": "[N, D, 4] float, x1, y1, x2, y2 in pixels of the image, by descending score",
    "scores": "[N, D] float, 0 beyond the count",
    "labels": "[N, D] int64 class ids, -1 beyond the count",
    "count": "[N] int64, the number of objects",
}
"""The outputs of detectors."""


def as_batch(tensor: Tensor) -> ImageBatch:
    """A batch for methods that only use its tensor."""
    return ImageBatch(tensor, [], [])


def in_image(boxes: Tensor, size: Tensor, original: Tensor) -> Tensor:
    """Boxes [..., 4] in pixels of the original image, from those in pixels of the batch."""
    return boxes * (original.float() / size.float()).flip(0).repeat(2)


def objects(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """The outputs `OBJECTS` of boxes [N, D, 4] in pixels of the image; places without an object have score `LEAST`."""
    there = scores > LEAST
    return (
        torch.where(there[..., None], boxes, 0),
        torch.where(there, scores, 0),
        torch.where(there, labels, -1),
        there.sum(1),
    )

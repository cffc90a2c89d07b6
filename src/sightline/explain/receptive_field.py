"""Which pixels the cells of a map depend on, measured by gradients.

Luo, Li, Urtasun, Zemel, "Understanding the effective receptive field in deep convolutional neural networks", NeurIPS
2016, section 2: the gradient of a cell with respect to the image, averaged over random images. Departures: the field is
a box that holds a share of the absolute gradient on each axis, instead of the area above a threshold; the channels are
weighted at random instead of being treated one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.explain.features import map_before_clamp
from sightline.models.model import Model
from sightline.structures import ImageBatch


@dataclass(frozen=True)
class ReceptiveField:
    """The pixels that a cell depends on, relative to the centre of the cell.

    Attributes:
        left, top, right, bottom: distances of the sides from the centre of the cell, in pixels of the batch; left and
            top are usually negative.
        stride: (y, x) distance between neighbouring cells, in pixels of the batch.
    """

    left: float
    top: float
    right: float
    bottom: float
    stride: tuple[float, float]

    def boxes(self, y: Tensor, x: Tensor) -> Tensor:
        """The fields of cells in rows y [P] and columns x [P]: [P, 4] xyxy in pixels of the batch, not clipped."""
        centre_y, centre_x = (y + 0.5) * self.stride[0], (x + 0.5) * self.stride[1]
        return torch.stack(
            [centre_x + self.left, centre_y + self.top, centre_x + self.right, centre_y + self.bottom], -1
        )


def receptive_field(
    model: Model,
    layer: nn.Module,
    batch: ImageBatch,
    *,
    which: int = 0,
    share: float = 0.9,
    draws: int = 4,
    seed: int = 0,
) -> ReceptiveField:
    """Measure the receptive field of the cell in the middle of a layer's map.

    Args:
        model: the model, in eval mode.
        layer: a module of the model.
        batch: a batch, for the size of the images, the device and the dtype; the pixels do not matter.
        which: as for `sightline.explain.features.layer_map`.
        share: share of the absolute gradient that lies inside on each axis; 1 for every pixel with a gradient, which in
            deep networks is often the whole image.
        draws: number of random images and weightings of channels.
        seed: seed of the random images.

    Raises:
        InputError: no gradient reaches the image, or an error of `layer_map`.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn((draws, *batch.tensor.shape[1:]), generator=generator)
    noise = pixels.to(batch.tensor).requires_grad_()
    height, width = int(noise.shape[-2]), int(noise.shape[-1])
    sizes = [(height, width)] * draws
    with torch.enable_grad():
        copies = ImageBatch(noise, sizes, sizes)
        _, maps = map_before_clamp(model, copies, layer, which)  # a saturated cell has no gradient
        row, column = int(maps.shape[-2]) // 2, int(maps.shape[-1]) // 2
        weights = torch.randn(maps.shape[:2], generator=generator).to(maps)
        score = (maps[..., row, column] * weights).sum()
        gradient = torch.autograd.grad(score, noise, allow_unused=True)[0] if score.requires_grad else None
    if gradient is None or not bool(gradient.any()):
        raise InputError(
            "no gradient reaches the image from the middle of this layer's map, so the pixels that it sees cannot be "
            "measured; choose a layer closer to the image"
        )
    stride = height / maps.shape[-2], width / maps.shape[-1]
    strength = gradient.abs().double().sum((0, 1))
    (top, bottom), (left, right) = _holding(strength.sum(1), share), _holding(strength.sum(0), share)
    y, x = (row + 0.5) * stride[0], (column + 0.5) * stride[1]
    return ReceptiveField(left - x, top - y, right - x, bottom - y, stride)


def _holding(strength: Tensor, share: float) -> tuple[float, float]:
    """The first pixel of a line [L] and the one after its last, such that equal shares are left out at both ends."""
    if share >= 1:
        there = strength.nonzero().flatten()
        return float(there[0]), float(there[-1] + 1)
    total = strength.cumsum(0) / strength.sum()
    tail = (1 - share) / 2
    first = int((total < tail).sum())
    return float(first), float(max(first + 1, min(int((total < 1 - tail).sum()) + 1, len(strength))))

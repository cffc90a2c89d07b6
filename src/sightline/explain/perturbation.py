"""What replaces removed pixels: the baselines of the perturbation methods, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_BLUR = 0.05
"""Standard deviation of the blur, as a fraction of the longer side."""


def zero(inputs: Tensor) -> Tensor:
    """0 everywhere: the mean colour of the training images, for a network with the usual normalisation."""
    return torch.zeros_like(inputs)


def mean_colour(inputs: Tensor) -> Tensor:
    """The mean colour of the image."""
    return inputs.mean((2, 3), keepdim=True).expand_as(inputs)


def blurred(inputs: Tensor) -> Tensor:
    """The image after a Gaussian blur whose standard deviation is 5 % of the longer side."""
    sigma = _BLUR * max(inputs.shape[-2:])
    for axis in (2, 3):
        side = inputs.shape[axis]
        radius = min(side - 1, max(1, round(3 * sigma)))
        offsets = torch.arange(-radius, radius + 1, device=inputs.device, dtype=inputs.dtype)
        kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
        shape = [1, 1, 1, 1]
        shape[axis] = len(kernel)
        kernel = (kernel / kernel.sum()).reshape(shape).repeat(inputs.shape[1], 1, 1, 1)
        pad = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        inputs = F.conv2d(F.pad(inputs, pad, mode="replicate"), kernel, groups=inputs.shape[1])
    return inputs


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {"zero": zero, "mean": mean_colour, "blur": blurred}
"""Functions [1, C, H, W] → [1, C, H, W] by name."""

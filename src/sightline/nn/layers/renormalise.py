"""A change of the normalisation that images have been given, for weights that were trained with another one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value per channel from three values for red, green and blue: their mean, unless `channels` is 3."""
    return tuple(values) if channels == len(values) else (sum(values) / len(values),) * channels


class Renormalise(nn.Module):
    """Converts images [N, C, H, W] normalised by ImageNet's mean and standard deviation to the range −1 … 1.

    (x · σ + μ − 0.5) / 0.5 is the input that TensorFlow's Inception networks were trained for. The state dict has no
    entries of this layer.

    Args:
        channels: number of channels C. Unless it is 3, every channel has the mean of the three values.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int = 3):
        super().__init__()
        mean, std = (torch.tensor(for_channels(v, channels))[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", std / 0.5, persistent=False)
        self.register_buffer("shift", (mean - 0.5) / 0.5, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

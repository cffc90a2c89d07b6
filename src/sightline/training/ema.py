"""The moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sightline.models.model import Model


class Ema:
    """An exponential moving average of all weights and running statistics, kept as a separate model.

    After step t the average moves towards the weights by 1 − min(decay, (1 + t) / (10 + t)): at first it follows
    quickly, so that it is useful in short runs too. (Polyak & Juditsky 1992; the warm-up is that of TensorFlow's
    `ExponentialMovingAverage`.) Integer buffers are copied.

    Args:
        model: on its device, before it is wrapped.
        decay: in [0, 1); 0.999 averages over roughly the last thousand steps.
    """

    def __init__(self, model: Model, decay: float):
        self.decay = decay
        self.steps = 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards `model` by one step."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for average, value in zip(_tensors(self.model), _tensors(model), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value.detach())
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, weight)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]

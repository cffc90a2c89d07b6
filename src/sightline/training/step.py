"""What a training does with a batch, where that is not simply `model(images, targets)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

Step = Callable[[Any, Sequence[Tensor], Sequence[Any]], dict[str, Tensor]]
"""(model, images, targets) → scalar losses by name."""


class Stepping(nn.Module):
    """A model whose forward pass is a step, so that whatever wraps it (mixed precision, processes) wraps the step.

    Args:
        model: whose parameters are trained.
        step: gives the losses of a batch.
    """

    def __init__(self, model: nn.Module, step: Step):
        super().__init__()
        self.model, self.step = model, step

    def forward(self, images: Sequence[Tensor], targets: Sequence[Any]) -> dict[str, Tensor]:
        """Losses by name."""
        return self.step(self.model, images, targets)

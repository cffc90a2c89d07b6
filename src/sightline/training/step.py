"""Training steps other than `model(images, targets)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

Step = Callable[[Any, Sequence[Tensor], Sequence[Any]], dict[str, Tensor]]
"""(model, images, targets) → scalar losses by name."""


class StepModule(nn.Module):
    """Wraps a model so that its forward pass computes the losses of a training step.

    What wraps this module (mixed precision, several processes) then also wraps the step.

    Args:
        model: the model whose parameters are trained.
        step: computes the losses of a batch.
    """

    def __init__(self, model: nn.Module, step: Step):
        super().__init__()
        self.model, self.step = model, step

    def forward(self, images: Sequence[Tensor], targets: Sequence[Any]) -> dict[str, Tensor]:
        """Return the losses by name."""
        return self.step(self.model, images, targets)

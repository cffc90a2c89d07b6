"""Train a model on a few images, to test that it can fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def fitted_results(
    model: nn.Module,
    images: Sequence[Tensor],
    targets: Sequence[Any],
    steps: int,
    lr: float = 3e-3,
    changes: Mapping[int, float] | None = None,
) -> list[Any]:
    """Train all parameters that require gradients on one batch, and return the predictions for its images.

    Args:
        model: a model, which is trained in place and left in eval mode.
        images, targets: the batch.
        steps: number of optimizer steps.
        lr: learning rate.
        changes: learning rates by the step from which they apply.
    """
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = (changes or {}).get(step, group["lr"])
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    # the running averages lag behind after so few steps: replace them by the statistics of the batch
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(images)
        return model.eval()(images)

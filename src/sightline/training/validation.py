"""The validation of an epoch: the mean loss, and whatever metrics the caller asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from sightline.models.model import Model
from sightline.training import half
from sightline.training.checkpoint import own_randomness
from sightline.training.guard import loss_values

if TYPE_CHECKING:
    from accelerate import Accelerator

Validate = Callable[[Model], Mapping[str, Any]]
"""Metrics by name ("AP", "AP50", …) of a model in eval mode; they become the columns val/AP, val/AP50, …"""


@torch.no_grad()
def mean_losses(model: nn.Module, loader: DataLoader[Any], accelerator: Accelerator) -> dict[str, float]:
    """The mean of each loss over the images of `loader`, in the mode the model is in."""
    sums: dict[str, float] = {}
    images = 0
    for batch in loader:
        pictures, targets = batch.to(accelerator.device)
        with accelerator.autocast(), half.guarded(accelerator.device, accelerator.mixed_precision):
            losses = model(pictures, targets)
        for name, value in loss_values(losses).items():
            sums[name] = sums.get(name, 0.0) + value * len(pictures)
        images += len(pictures)
    return {name: value / images for name, value in sums.items()}


def validation_metrics(
    model: Model,
    loader: DataLoader[Any] | None,
    validate: Validate | None,
    accelerator: Accelerator,
    seed: int,
) -> dict[str, Any]:
    """val/loss on the validation set (if there is one) and what `validate` returns (if given), in eval mode.

    Batch norm uses its running statistics, dropout is off, and losses that sample draw the same samples each time.

    Args:
        model: the weights to look at; its mode is put back afterwards.
        loader: of the validation set.
        validate: further metrics; None values are those that are not available.
        accelerator: gives device and precision.
        seed: of what validation draws.
    """
    values: dict[str, Any] = {}
    training = model.training
    model.eval()
    try:
        with own_randomness(seed):
            if loader is not None:
                values["val/loss"] = sum(mean_losses(model, loader, accelerator).values())
            if validate is not None:
                values |= {f"val/{name}": value for name, value in validate(model).items()}
    finally:
        model.train(training)
    return values

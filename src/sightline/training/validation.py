"""The validation of an epoch: the mean loss, and the metrics that the caller computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from sightline.models.model import Model
from sightline.runtime.sharing import shared_batch
from sightline.training import devices, half
from sightline.training.checkpoint import isolated_rng
from sightline.training.guard import loss_values
from sightline.training.loader import EpochBatches
from sightline.training.step import Step

if TYPE_CHECKING:
    from accelerate import Accelerator

Validate = Callable[[Model], Mapping[str, Any]]
"""Metrics by name ("AP", "AP50", …) of a model in eval mode; they become the columns val/AP, val/AP50, …"""


@dataclass(frozen=True)
class Validation:
    """Computes the validation metrics of an epoch; false if there is nothing to validate.

    Attributes:
        loader: batches of the validation set, of which each process has its part, or None.
        validate: computes additional metrics, or None; a value of None marks a metric that is not available.
        accelerator: gives device and precision.
        seed: seed of the randomness during validation.
        step: computes the losses of a batch; None for `model(images, targets)`.
    """

    loader: DataLoader[Any] | None
    validate: Validate | None
    accelerator: Accelerator
    seed: int
    step: Step | None = None

    def __bool__(self) -> bool:
        return self.loader is not None or self.validate is not None

    def metrics(self, model: Model) -> dict[str, Any]:
        """Return val/loss on the validation set and the metrics of `validate`, in eval mode.

        Batch norm uses its running statistics, dropout is off, and losses that sample draw the same samples each time.

        Args:
            model: the model to validate; its mode is restored afterwards.
        """
        values: dict[str, Any] = {}
        training = model.training
        model.eval()
        try:
            with isolated_rng(self.seed):
                if self.loader is not None:
                    values["val/loss"] = sum(self._mean_losses(model, self.loader).values())
                if self.validate is not None:
                    values |= {f"val/{name}": value for name, value in self.validate(model).items()}
            values = devices.on_main(self.accelerator, lambda: values)
        finally:
            model.train(training)
        return values

    @torch.no_grad()
    def _mean_losses(self, model: Model, loader: DataLoader[Any]) -> dict[str, float]:
        """The mean of each loss over the images of `loader`, in all processes."""
        sums: dict[str, float] = {}
        images, accelerator, order = 0, self.accelerator, loader.batch_sampler
        assert isinstance(order, EpochBatches)
        for number, batch in enumerate(loader):
            pictures, targets = batch.to(accelerator.device)
            share = order.share(number)
            with (
                accelerator.autocast(),
                half.guarded(accelerator.device, accelerator.mixed_precision),
                shared_batch(share, accelerator.device),
            ):
                losses = model(pictures, targets) if self.step is None else self.step(model, pictures, targets)
            for name, value in loss_values(losses).items():
                sums[name] = sums.get(name, 0.0) + value * share.own
            images += share.own
        return devices.mean_over_processes(accelerator, sums, images)

"""Stop a run at the first loss that is not finite, and save the batch that caused it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import singledispatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.structures import Instances, Target
from sightline.training.metrics_log import atomic_write

BATCH_FILE = "nonfinite_batch.pt"


class NonFiniteLoss(InputError):
    """A loss or the gradient became infinite or NaN; the message names it, the step and the images."""


def loss_values(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The scalar losses as floats, with a single device synchronisation."""
    stacked = torch.stack([loss.detach().float().reshape(()) for loss in losses.values()])
    return dict(zip(losses, stacked.tolist(), strict=True))


@contextmanager
def one_value_refused() -> Iterator[None]:
    """Name the remedy if batch norm gets a single value per channel, which has no variance.

    Raises:
        InputError: a 1 × 1 map of a batch of one image was normalised.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "batch norm cannot be trained on a single image whose last feature map is 1 × 1; give a batch_size of at "
            "least 2 (and as many training images), or a larger image_size"
        ) from None


class Guard:
    """Checks the losses of a run and keeps the current batch, to save it if a loss is not finite.

    Args:
        folder: the run's folder.
        model: its weights are saved with the batch.
    """

    def __init__(self, folder: Path, model: nn.Module):
        self.folder, self.model = folder, model
        self._batch: tuple[Sequence[Tensor], Sequence[Target]] = ((), ())
        self._where, self._lr = "", 0.0
        self._rng: Tensor | None = None

    def begin(self, images: Sequence[Tensor], targets: Sequence[Target], epoch: int, step: int, lr: float) -> None:
        """Remember the next batch, before its forward pass."""
        self._batch = (images, targets)
        self._where, self._lr = f"epoch {epoch + 1}, step {step + 1}", lr
        self._rng = torch.get_rng_state()

    def finite(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the losses (or the gradient norm) as floats if all are finite; otherwise save the batch and stop.

        The saved file (read it with `torch.load`) holds everything needed to reproduce the failure: images, targets as
        plain dicts, loss values, the state of torch's random generator before the forward pass, and the weights.

        Raises:
            NonFiniteLoss: a value is infinite or NaN.
        """
        values = loss_values(losses)
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if not bad:
            return values
        images, targets = self._batch
        with atomic_write(self.folder / BATCH_FILE) as path:
            torch.save(
                {
                    "values": values,
                    "images": [image.cpu() for image in images],
                    "targets": [as_dict(target.to("cpu")) for target in targets],
                    "rng": self._rng,
                    "model": {name: value.cpu() for name, value in self.model.state_dict().items()},
                },
                path,
            )
        what = " and ".join(f"{name!r} is {values[name]}" for name in bad)
        names = ", ".join(target.source or f"image {i} of the batch" for i, target in enumerate(targets))
        raise NonFiniteLoss(
            f"training stopped at {self._where}: {what}, but it must be finite; the batch ({names}) is saved as "
            f"{self.folder / BATCH_FILE}; check its labels, or use a learning rate below {self._lr:.2g}"
        )


@singledispatch
def as_dict(target: Any) -> dict[str, Any]:
    """The contents of a target by name, without the class names; by default its attributes."""
    return {name: value for name, value in vars(target).items() if name != "classes"}


@as_dict.register
def _(target: Instances) -> dict[str, Any]:
    return {"source": target.source, "image_size": target.image_size, **target.fields}

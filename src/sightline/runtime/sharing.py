"""A batch that several processes share, and sums over all of its parts.

Each process computes the loss of its own images, and the gradients are averaged over the processes. Where a loss is a
mean over the images, this equals the loss of the whole batch. A loss that is divided by a number that is counted in the
batch, such as the number of positives, has to be divided by the count of the whole batch instead: see `batch_count`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Count = TypeVar("Count", Tensor, float)


@dataclass(frozen=True)
class Share:
    """The images of a batch that belong to this process.

    Attributes:
        own: their number. A process for which no image is left computes the loss of one whose weight is 0.
        total: number of images of the batch in all processes.
    """

    own: int
    total: int

    @property
    def weight(self) -> float:
        """The weight of the mean loss of the own images in the mean over all images."""
        return self.own / self.total


_current: Share | None = None
_device: torch.device | str = "cpu"


@contextmanager
def shared_batch(share: Share, device: torch.device | str) -> Iterator[None]:
    """Context in which `batch_count` adds up the counts of all processes.

    Every process enters it for its part of the same batch, and calls `batch_count` equally often. Where a batch is not
    shared, it changes nothing.

    Args:
        share: the part of this process.
        device: the device of the process.
    """
    global _current, _device
    before = _current, _device
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    _current, _device = share if distributed else None, device
    try:
        yield
    finally:
        _current, _device = before


def batch_count(count: Count, least: float = 1, added: float = 0) -> Count:
    """What the sum of a loss over a batch is divided by: a count, at least `least`, plus `added`.

    In a batch that several processes share, the result is the count of all processes, times the fraction of the images
    that are this process's. The mean of the processes' losses, weighted by their images, is then the loss of the whole
    batch.

    Args:
        count: a number counted in the own images, or a tensor of such numbers of any shape.
        least: the smallest count.
        added: a number that is added to the count of the whole batch.

    Returns:
        A value of the same type; tensors keep their shape, device and dtype, but integers become float32 where a batch
        is shared.
    """
    if _current is None or _current.total == 0:
        return (count.clamp(min=least) if isinstance(count, Tensor) else max(count, least)) + added
    total = torch.as_tensor(count, device=_device).detach().float() * (_current.own > 0)
    torch.distributed.all_reduce(total)
    total = (total.clamp(min=least) + added) * (max(_current.own, 1) / _current.total)
    if isinstance(count, Tensor):
        return total.to(count.device, count.dtype if count.is_floating_point() else total.dtype)
    return float(total)

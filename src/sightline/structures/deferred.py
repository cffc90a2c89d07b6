"""Fields that are computed when they are first read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Deferred:
    """A field of `Instances` that is computed when it is first read, such as masks that are pasted into the image.

    Selecting objects selects rows of `parts`, so nothing is computed for objects that are dropped before.

    Attributes:
        compute: makes the field [N, …] of the parts.
        parts: tensors with one row per object, which nothing else changes.
    """

    compute: Callable[..., Tensor]
    parts: tuple[Tensor, ...]

    def __call__(self) -> Tensor:
        """The field."""
        return self.compute(*self.parts)

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, item: Tensor | slice) -> Self:
        """The field of some objects, selected by a bool mask [N], indices, or a slice."""
        at = item.to(self.parts[0].device) if isinstance(item, Tensor) else item
        return type(self)(self.compute, tuple(part[at] for part in self.parts))

    def to(self, device: torch.device | str, **named: Any) -> Self:
        """The same on a device; the field will be computed there."""
        return type(self)(self.compute, tuple(part.to(device, **named) for part in self.parts))

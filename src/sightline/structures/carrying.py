"""Tensors that carry facts about their values, such as a camera or the times of frames."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import torch
from torch import Tensor


class CarryingTensor(Tensor):
    """A tensor whose copies and changes of device or dtype keep what it carries; other operations return plain tensors.

    So the facts are never kept for values that they do not fit. A subclass defines `_kept`.
    """

    # operations return plain tensors
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @abstractmethod
    def _kept(self, values: Tensor) -> Self:
        """`values`, a copy of this tensor's, with what this tensor carries."""

    def to(self, *arguments: Any, **named: Any) -> Self:
        """Like `Tensor.to`. What the tensor carries on a device moves to the same device and keeps its dtype."""
        return self._kept(super().to(*arguments, **named))

    def cpu(self, *arguments: Any, **named: Any) -> Self:
        return self._kept(super().cpu(*arguments, **named))

    def cuda(self, *arguments: Any, **named: Any) -> Self:
        return self._kept(super().cuda(*arguments, **named))

    def float(self, *arguments: Any, **named: Any) -> Self:
        return self._kept(super().float(*arguments, **named))

    def clone(self, *arguments: Any, **named: Any) -> Self:
        return self._kept(super().clone(*arguments, **named))

    def detach(self) -> Self:
        return self._kept(super().detach())

    def contiguous(self, *arguments: Any, **named: Any) -> Self:
        return self._kept(super().contiguous(*arguments, **named))

    def pin_memory(self, *arguments: Any, **named: Any) -> Self:
        return self._kept(super().pin_memory(*arguments, **named))

"""Convolution or linear layer and activation in one pass over memory, for inference on a CPU.

A separate activation reads and writes the whole map once more, which for the large maps of the first stages takes
longer than the convolution. oneDNN applies it while the values are still in registers. PyTorch offers this to its
compiler, by an operator that is not documented: it is used where it exists and applies, and two passes everywhere else.

oneDNN also rearranges the weights of a convolution at every call, which takes 4 to 6 % of a small network's time for
one image. They are rearranged once instead and kept, which takes the memory of the weights a second time.

PyTorch computes linear layers in float32 by MKL, which takes 2.2 times as long as oneDNN on an AMD processor of 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from sightline.nn.layers.conv import SameConv2d
from sightline.nn.layers.convolution import OPERATOR, in_one_pass, joined_as

_REARRANGE: Any = getattr(torch.ops.mkldnn, "_reorder_convolution_weight", None)
_LINEAR: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_REARRANGE_LINEAR: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)


class _Rearranging(nn.Module):
    """A layer that keeps the weights of another one as oneDNN reads them."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: tuple[tuple[int, int], Tensor] | None = None

    def rearranged(self, weight: Tensor, rearrange: Callable[[Tensor], Tensor] | None) -> Tensor:
        """The weights, rearranged; those kept from an earlier call unless they have changed since."""
        if rearrange is None or weight.is_inference():  # whose changes cannot be noticed
            return weight
        state = (weight.data_ptr(), weight._version)
        if self._kept is None or self._kept[0] != state:
            self._kept = state, rearrange(weight.detach())
        return self._kept[1]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Forget the rearranged weights where a model changes its device or dtype, perhaps at the same address."""
        self._kept = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        """Copies and files do not contain the rearranged weights."""
        return self.__dict__ | {"_kept": None}


class ConvAct(_Rearranging):
    """A convolution followed by an activation; without gradients on a CPU both are computed in one pass.

    Args:
        convolution: the convolution.
        act: the activation.
    """

    def __init__(self, convolution: nn.Conv2d, act: nn.Module):
        super().__init__()
        self.convolution, self.act = convolution, act
        zeros = convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
        self.joined = joined_as(OPERATOR, act) if zeros else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C', H', W']."""
        layer = self.convolution
        weight, padding = layer.weight, layer.padding
        if self.joined is None or not in_one_pass(x, weight):
            return self.act(layer(x))
        if isinstance(layer, SameConv2d):
            weight, padding = layer.symmetric(x.shape[-2:], weight)
        if weight is layer.weight:  # not one that was made for this size of map
            shape = (padding, layer.stride, layer.dilation, layer.groups, list(x.shape))
            weight = self.rearranged(weight, _REARRANGE and (lambda own: _REARRANGE(own, *shape)))
        name, numbers = self.joined
        return OPERATOR(x, weight, layer.bias, padding, layer.stride, layer.dilation, layer.groups, name, numbers, "")


class LinearAct(_Rearranging):
    """A linear layer followed by an activation; without gradients on a CPU both are computed in one pass.

    Args:
        linear: the linear layer.
        act: the activation.
    """

    def __init__(self, linear: nn.Linear, act: nn.Module):
        super().__init__()
        self.linear, self.act = linear, act
        self.joined = joined_as(_LINEAR, act)

    def forward(self, x: Tensor) -> Tensor:
        """[…, inputs] → […, outputs]."""
        layer = self.linear
        if self.joined is None or not in_one_pass(x, layer.weight):
            return self.act(layer(x))
        rows = x.numel() // layer.in_features
        weight = self.rearranged(layer.weight, _REARRANGE_LINEAR and (lambda own: _REARRANGE_LINEAR(own, rows)))
        name, numbers = self.joined
        return _LINEAR(x, weight, layer.bias, name, numbers, "")

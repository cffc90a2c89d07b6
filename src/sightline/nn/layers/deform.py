"""Deformable convolution as a layer that finds its own offsets."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.ops.deform_conv import deform_conv2d


class DeformConv2d(nn.Module):
    """A convolution whose taps move, by offsets (and weights of the taps) from a convolution of the same input.

    That convolution starts at 0, so at first the layer is the plain convolution, halved where it is modulated, for the
    weights are sigmoids. `weight` and `bias` have the names and shapes of `nn.Conv2d`'s, so that those of a trained
    plain convolution load.

    Args:
        in_channels, out_channels: number of input and output channels.
        kernel: side of the kernel.
        stride, padding, dilation, groups, bias: as of `nn.Conv2d`.
        offset_groups: groups of channels that move together.
        modulated: the second version, whose taps have weights in [0, 1].

    Source: Dai et al., Deformable Convolutional Networks, ICCV 2017, section 2.1; Zhu et al., Deformable ConvNets v2,
    CVPR 2019, section 3.2. The papers' tenfold slower learning of the offsets is left to the training recipe.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 0,
        *,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        offset_groups: int = 1,
        modulated: bool = True,
    ):
        super().__init__()
        for name, count in (("groups", groups), ("offset_groups", offset_groups)):
            if count < 1 or in_channels % count or (name == "groups" and out_channels % count):
                raise InputError(f"{name} is {count}, but it must divide the {in_channels} → {out_channels} channels")
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.modulated, self.shifts = modulated, 2 * offset_groups * kernel * kernel
        outputs = self.shifts * 3 // 2 if modulated else self.shifts
        self.offset = nn.Conv2d(in_channels, outputs, kernel, stride, padding, dilation)
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)
        self.reset_offsets()

    def reset_offsets(self) -> None:
        """Let the taps stand where a plain convolution's do."""
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, out_channels, h, w], h and w as of `nn.Conv2d`."""
        moved = self.offset(x)
        mask = moved[:, self.shifts :].sigmoid() if self.modulated else None
        return deform_conv2d(
            x, moved[:, : self.shifts], self.weight, self.bias, self.stride, self.padding, self.dilation, mask
        )

    def extra_repr(self) -> str:
        out, inner, kernel, _ = self.weight.shape
        return f"{inner} → {out}, kernel={kernel}, stride={self.stride}, modulated={self.modulated}"

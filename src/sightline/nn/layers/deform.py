"""Deformable convolution as a layer that predicts its own offsets."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.ops.deform_conv import deform_conv2d


class DeformConv2d(nn.Module):
    """A deformable convolution with offsets, and a modulation mask, from a convolution of the same input.

    That convolution is initialised to 0, so the layer is initially a regular convolution (multiplied by 0.5 if it is
    modulated, since the mask is a sigmoid). `weight` and `bias` have the names and shapes of those of `nn.Conv2d`, so
    weights of a regular convolution can be loaded.

    Args:
        in_channels, out_channels: number of input and output channels.
        kernel: kernel size.
        stride, padding, dilation, groups, bias: as in `nn.Conv2d`.
        offset_groups: number of groups of channels with separate offsets.
        modulated: whether there is a modulation mask in [0, 1] (the second version).

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
        """Reset the offsets to 0, as in a regular convolution."""
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, out_channels, h, w], h and w as in `nn.Conv2d`."""
        offset, mask = self.moved(x)
        return deform_conv2d(x, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask)

    def moved(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The offsets and the modulation mask for a map, as `deform_conv2d` takes them."""
        found = self.offset(x)
        return found[:, : self.shifts], found[:, self.shifts :].sigmoid() if self.modulated else None

    def extra_repr(self) -> str:
        out, inner, kernel, _ = self.weight.shape
        return f"{inner} → {out}, kernel={kernel}, stride={self.stride}, modulated={self.modulated}"

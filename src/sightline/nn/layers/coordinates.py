"""CoordConv: Liu et al., "An intriguing failing of convolutional neural networks and the CoordConv solution", 2018."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.nn.layers.conv import ConvNormAct


def with_coordinates(x: Tensor) -> Tensor:
    """Append column and row coordinates from −1 to 1 (section 3): [N, C, H, W] → [N, C + 2, H, W].

    The coordinate is 0 for a map with a single column or row.
    """
    height, width = x.shape[-2:]
    columns = torch.linspace(-1 if width > 1 else 0, 1, width, device=x.device, dtype=x.dtype)
    rows = torch.linspace(-1 if height > 1 else 0, 1, height, device=x.device, dtype=x.dtype)
    shape = (x.shape[0], 1, height, width)
    return torch.cat([x, columns.expand(shape), rows[:, None].expand(shape)], 1)


class CoordConv(ConvNormAct):
    """A convolution block with coordinates as two additional input channels. Arguments as for `ConvNormAct`."""

    in_order = True  # for `fuse`

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, **arguments: Any):
        super().__init__(in_channels + 2, out_channels, kernel, stride, **arguments)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, out_channels, H / stride, W / stride]."""
        return super().forward(with_coordinates(x))

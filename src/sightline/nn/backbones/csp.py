"""Cross-stage partial networks: Wang et al., "CSPNet", CVPR Workshops 2020; with the gradient paths of ELAN: Wang et
al., "Designing network design strategies through gradient path analysis", 2022.

Half of a stage's channels go round its residual blocks; every block's output is joined to the stage's end, so that
each is one short step from the loss: what a network that starts from random numbers needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.layers import ConvNormAct, NormLayer, batch_norm


class ResidualPair(nn.Module):
    """Two 3×3 convolutions and, where asked, the input added (He et al. 2016, pre-activation left out).

    Args:
        channels: number of input and output channels.
        norm: normalisation layer.
        shortcut: add the input.
    """

    def __init__(self, channels: int, norm: NormLayer, shortcut: bool = True):
        super().__init__()
        self.first = ConvNormAct(channels, channels, 3, norm=norm, act=nn.SiLU)
        self.second = ConvNormAct(channels, channels, 3, norm=norm, act=nn.SiLU)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        y = self.second(self.first(x))
        return x + y if self.shortcut else y


class CSPBlock(nn.Module):
    """Two halves by 1×1, one of them through the blocks → all joined → 1×1 (CSPNet, figure 3b; ELAN, figure 2c).

    Two 1×1 convolutions rather than one that is cut in two: what is cut has to be copied before the next convolution.

    Args:
        in_channels, out_channels: number of input and output channels.
        blocks: residual pairs one after the other.
        norm: normalisation layer.
        shortcut: whether the pairs add their input; necks leave that out.
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: int, norm: NormLayer, shortcut: bool = True):
        super().__init__()
        half = out_channels // 2
        self.short = ConvNormAct(in_channels, half, 1, norm=norm, act=nn.SiLU)
        self.deep = ConvNormAct(in_channels, half, 1, norm=norm, act=nn.SiLU)
        self.blocks = nn.ModuleList(ResidualPair(half, norm, shortcut) for _ in range(blocks))
        self.join = ConvNormAct((2 + blocks) * half, out_channels, 1, norm=norm, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] → [N, out_channels, H, W]."""
        parts = [self.short(x), self.deep(x)]
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.join(torch.cat(parts, 1))


class PyramidPooling(nn.Module):
    """What is there in windows of 5, 9 and 13 cells around each cell, joined to it.

    He et al., "Spatial pyramid pooling", 2014, in the stride-1 form of Huang et al., "DC-SPP-YOLO", 2020. A maximum of
    maxima is a maximum, so the larger windows are the 5×5 one applied again: 75 comparisons a cell in place of 275.

    Args:
        channels: number of input and output channels.
        norm: normalisation layer.
    """

    def __init__(self, channels: int, norm: NormLayer):
        super().__init__()
        self.narrow = ConvNormAct(channels, channels // 2, 1, norm=norm, act=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.join = ConvNormAct(channels // 2 * 4, channels, 1, norm=norm, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        parts = [self.narrow(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.join(torch.cat(parts, 1))


class CSPBackbone(nn.Module):
    """A stem at stride 2, then stages of a 3×3 convolution of stride 2 and a CSP block; pyramid pooling at the end.

    Args:
        channels: C of the stem and of each of the four stages.
        blocks: residual pairs of each stage's CSP block.
        in_channels: number of channels of the images.
        norm: normalisation layer; by default batch norm with YOLOX's settings.

    Attributes:
        out_channels: number of channels of the output maps.
    """

    strides = (8, 16, 32)

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        blocks: Sequence[int] = (1, 1, 1, 1),
        in_channels: int = 3,
        norm: NormLayer | None = None,
    ):
        super().__init__()
        norm = norm or batch_norm(eps=1e-3, momentum=0.03)
        self.stem = ConvNormAct(in_channels, channels[0], 3, 2, norm=norm, act=nn.SiLU)
        stages = []
        for before, width, count in zip(channels[:-1], channels[1:], blocks, strict=True):
            down = ConvNormAct(before, width, 3, 2, norm=norm, act=nn.SiLU)
            stages.append(nn.Sequential(down, CSPBlock(width, width, count, norm)))
        stages[-1].append(PyramidPooling(channels[-1], norm))
        self.stages = nn.ModuleList(stages)
        self.out_channels = list(channels[2:])

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, in_channels, H, W] → maps [N, C, H/8, W/8], [N, C', H/16, W/16], [N, C'', H/32, W/32]."""
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]

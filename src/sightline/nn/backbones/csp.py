"""Cross-stage partial networks: Wang et al., "CSPNet", CVPR Workshops 2020; with the gradient paths of ELAN: Wang et
al., "Designing network design strategies through gradient path analysis", 2022.

Half of a stage's channels bypass its residual blocks, and the output of every block is concatenated at the end of the
stage. The short gradient paths help networks that are trained from random weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.nn.layers import ConvNormAct, NormLayer, batch_norm
from sightline.nn.layers.concatenation import concatenate


def square_conv(channels: int, stride: int, norm: NormLayer, separable: bool) -> nn.Sequential:
    """A 3×3 convolution of as many output channels, or in its place a 3×3 depthwise and a 1×1 convolution."""
    if not separable:
        return ConvNormAct(channels, channels, 3, stride, norm=norm, act=nn.SiLU)
    return nn.Sequential(
        ConvNormAct(channels, channels, 3, stride, groups=channels, norm=norm, act=nn.SiLU),
        ConvNormAct(channels, channels, 1, norm=norm, act=nn.SiLU),
    )


class ResidualPair(nn.Module):
    """Two 3×3 convolutions with an optional shortcut (He et al. 2016, without pre-activation).

    Args:
        channels: number of input and output channels.
        norm: normalisation layer.
        shortcut: whether the input is added to the output.
        separable: whether each convolution is depthwise separable (Yu et al., "PP-PicoDet", 2021, section 3.2).
    """

    def __init__(self, channels: int, norm: NormLayer, shortcut: bool = True, separable: bool = False):
        super().__init__()
        self.first = square_conv(channels, 1, norm, separable)
        self.second = square_conv(channels, 1, norm, separable)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        y = self.second(self.first(x))
        return x + y if self.shortcut else y


class CSPBlock(nn.Module):
    """A cross-stage partial block (CSPNet, figure 3b; ELAN, figure 2c).

    Two 1×1 convolutions give two halves; one half passes through residual pairs; all outputs are concatenated and fused
    by a 1×1 convolution. Two 1×1 convolutions are faster than splitting the output of one, which needs a copy.

    Args:
        in_channels, out_channels: number of input and output channels.
        blocks: number of residual pairs.
        norm: normalisation layer.
        shortcut: whether the pairs have shortcuts; necks have none.
        separable: whether the convolutions of the pairs are depthwise separable.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blocks: int,
        norm: NormLayer,
        shortcut: bool = True,
        separable: bool = False,
    ):
        super().__init__()
        half = out_channels // 2
        self.short = ConvNormAct(in_channels, half, 1, norm=norm, act=nn.SiLU)
        self.deep = ConvNormAct(in_channels, half, 1, norm=norm, act=nn.SiLU)
        self.blocks = nn.ModuleList(ResidualPair(half, norm, shortcut, separable) for _ in range(blocks))
        self.join = ConvNormAct((2 + blocks) * half, out_channels, 1, norm=norm, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] → [N, out_channels, H, W]."""
        parts = [self.short(x), self.deep(x)]
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.join(concatenate(parts))


class PyramidPooling(nn.Module):
    """Spatial pyramid pooling: max pooling over windows of 5, 9 and 13 cells, concatenated with the input.

    He et al., "Spatial pyramid pooling", 2014, in the stride-1 form of Huang et al., "DC-SPP-YOLO", 2020. The larger
    windows are computed by repeated 5×5 pooling: 75 comparisons per cell instead of 275.

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
        return self.join(concatenate(parts))


class CSPBackbone(nn.Module):
    """A stem of stride 2, four stages of a 3×3 convolution of stride 2 and a CSP block, and pyramid pooling at the end.

    Args:
        channels: number of channels of the stem and of each of the four stages.
        blocks: number of residual pairs in the CSP block of each stage.
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

    def part_layers(self) -> dict[str, list[nn.Module]]:
        """The layers of each part that can be frozen, by name: the stem and the first stage, then each stage."""
        first, *others = self.stages
        return {"stem": [self.stem, first], **{f"stages.{i}": [stage] for i, stage in enumerate(others, 1)}}

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, in_channels, H, W] → maps [N, C, H/8, W/8], [N, C', H/16, W/16], [N, C'', H/32, W/32]."""
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]

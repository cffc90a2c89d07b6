"""The neck of YOLO v3: Redmon and Farhadi, "YOLOv3: an incremental improvement", 2018, section 2.3; with the additions
of PP-YOLO: Long et al., "PP-YOLO: an effective and efficient implementation of object detector", 2020, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.layers import ConvNormAct, CoordConv, DropBlock, NormLayer, SpatialPyramidPooling

_leaky = partial(nn.LeakyReLU, 0.1)


class DetectionBlock(nn.Module):
    """One level of the neck: pairs of 1×1 and 3×3 convolutions, a 1×1 for the finer level, and a 3×3 for the head.

    Args:
        in_channels: number of channels of the input map.
        channels: number of channels of the 1×1 convolutions; the 3×3 convolutions have twice as many.
        pairs: number of pairs of convolutions; two in YOLO v3.
        coordinates: whether the 1×1 convolutions and the last 3×3 are `CoordConv` layers.
        pool: whether there is spatial pyramid pooling before the last 3×3 of the pairs, followed by a 1×1 convolution.
        drop: drop probability and block size of DropBlock, or None.
        norm: normalisation layer.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        pairs: int,
        *,
        coordinates: bool,
        pool: bool,
        drop: tuple[float, int] | None,
        norm: NormLayer,
    ):
        super().__init__()
        seeing = CoordConv if coordinates else ConvNormAct
        layers: list[nn.Module] = []
        c = in_channels
        for pair in range(pairs):
            layers.append(seeing(c, channels, 1, norm=norm, act=_leaky))
            if pool and pair == pairs - 1:
                layers += _pooling(channels, norm)
            layers.append(ConvNormAct(channels, 2 * channels, 3, norm=norm, act=_leaky))
            c = 2 * channels
            # figure 2: after the last pair at the level with pooling, after the first pair at the others
            if drop is not None and pair == (pairs - 1 if pool else 0):
                layers.append(DropBlock(*drop))
        if pairs == 0:
            layers += _pooling(c, norm) if pool else []
            layers += [DropBlock(*drop)] if drop is not None else []
        layers.append(seeing(c, channels, 1, norm=norm, act=_leaky))
        self.route = nn.Sequential(*layers)
        self.tip = seeing(channels, 2 * channels, 3, norm=norm, act=_leaky)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] → [N, channels, H, W] for the finer level, [N, 2·channels, H, W] for the head."""
        route = self.route(x)
        return route, self.tip(route)


class YOLOv3Neck(nn.Module):
    """A detection block on each map, from coarse to fine.

    The output of each block is upsampled and concatenated with the next finer map.

    Args:
        in_channels: number of channels of each input map, from fine to coarse.
        width: number of channels of the 1×1 convolutions at the coarsest level (512 in the papers); each finer level
            has half as many.
        pairs: number of pairs of convolutions in each block.
        coord_conv: whether the 1×1 convolutions and the last convolution of each block are `CoordConv` layers.
        spp: whether there is spatial pyramid pooling at the coarsest level.
        drop_block: drop probability and block size of DropBlock at each level, or None.
        norm: normalisation layer.

    Attributes:
        channels: number of channels of each output map.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        width: int = 512,
        pairs: int = 2,
        *,
        coord_conv: bool = False,
        spp: bool = False,
        drop_block: tuple[float, int] | None = None,
        norm: NormLayer = nn.BatchNorm2d,
    ):
        super().__init__()
        widths = [width // 2**i for i in range(len(in_channels))]  # coarse to fine
        seeing = CoordConv if coord_conv else ConvNormAct
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for i, (c, w) in enumerate(zip(reversed(in_channels), widths, strict=True)):
            if i:
                self.transitions.append(seeing(widths[i - 1], w, 1, norm=norm, act=_leaky))
                c += w
            pool = spp and i == 0
            block = DetectionBlock(c, w, pairs, coordinates=coord_conv, pool=pool, drop=drop_block, norm=norm)
            self.blocks.append(block)
        self.channels = [2 * w for w in reversed(widths)]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, C_i, H_i, W_i], from fine to coarse, each half as large → maps [N, channels[i], H_i, W_i]."""
        out: list[Tensor] = []
        route: Tensor | None = None
        for i, (block, x) in enumerate(zip(self.blocks, reversed(list(maps)), strict=True)):
            if route is not None:
                up = F.interpolate(self.transitions[i - 1](route), size=x.shape[-2:], mode="nearest")
                x = torch.cat([up, x], 1)
            route, tip = block(x)
            out.append(tip)
        # The route of the finest level is only used for its own tip.
        return out[::-1]

    def map_layers(self) -> list[nn.Module]:
        """The last convolution of each block, from fine to coarse."""
        return [block.tip for block in reversed(self.blocks)]  # type: ignore[misc]


def _pooling(channels: int, norm: NormLayer) -> list[nn.Module]:
    pooling = SpatialPyramidPooling()
    return [pooling, ConvNormAct(pooling.factor * channels, channels, 1, norm=norm, act=_leaky)]

"""The neck of YOLO v3: Redmon and Farhadi, "YOLOv3: an incremental improvement", 2018, section 2.3; with what PP-YOLO
adds to it: Long et al., "PP-YOLO: an effective and efficient implementation of object detector", 2020, section 3.2.
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
    """One level: pairs of 1×1 and 3×3 convolutions, a 1×1 whose map goes on to the finer level, a 3×3 for the head.

    Args:
        in_channels: C of the map.
        channels: of the 1×1 convolutions; the 3×3 have twice as many.
        pairs: two in YOLO v3.
        coordinates: the 1×1 convolutions and the last 3×3 see where they are.
        pool: spatial pyramid pooling before the last 3×3 of the pairs, and a 1×1 that brings its channels back.
        drop: probability and side of the blocks that DropBlock drops, or None.
        norm: maker of the normalisation.
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
            # figure 2: at the level that is pooled after the last pair, at the others after the first
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
    """From the coarsest map to the finest: a detection block, its map halved in channels and doubled in size, joined
    to the next finer map by concatenation.

    Args:
        in_channels: C of each map that comes in, fine to coarse.
        width: channels of the coarsest level's 1×1 convolutions (512 in the papers); each finer level has half.
        pairs: of each block.
        coord_conv: 1×1 convolutions, and the last of each block, see their place (`CoordConv`).
        spp: spatial pyramid pooling at the coarsest level.
        drop_block: probability and side of the blocks that DropBlock drops at each level, or None.
        norm: maker of the normalisation.

    Attributes:
        channels: C of each map that goes out.
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
        """Maps [N, C_i, H_i, W_i], fine to coarse, each half as large → as many of [N, channels[i], H_i, W_i]."""
        out: list[Tensor] = []
        route: Tensor | None = None
        for i, (block, x) in enumerate(zip(self.blocks, reversed(list(maps)), strict=True)):
            if route is not None:
                up = F.interpolate(self.transitions[i - 1](route), size=x.shape[-2:], mode="nearest")
                x = torch.cat([up, x], 1)
            route, tip = block(x)
            out.append(tip)
        # The finest level's map goes on to no other, but it is what its tip is made of.
        return out[::-1]


def _pooling(channels: int, norm: NormLayer) -> list[nn.Module]:
    pooling = SpatialPyramidPooling()
    return [pooling, ConvNormAct(pooling.factor * channels, channels, 1, norm=norm, act=_leaky)]

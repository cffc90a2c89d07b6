"""Heads that slide over every level of a pyramid: Lin et al., "Focal loss for dense object detection", ICCV 2017,
section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from sightline.errors import InputError
from sightline.nn.heads.rows import init_focal, map_rows
from sightline.nn.layers import ConvNormAct, NormLayer

_PRIOR = 0.01


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with 32 groups (Wu and He 2018, section 4.1), or with fewer groups of at least 4 channels."""
    if channels % 32:
        raise InputError(
            f"channels is {channels}, but heads with group normalisation need a multiple of 32, such as 128"
        )
    return nn.GroupNorm(min(32, channels // 4), channels)  # a group of one value has no variance


class ClassificationHead(nn.Module):
    """A tower of convolutions, then A·outputs scores per cell, shared by all levels (section 4, figure 3 c).

    The last bias is initialised to −log((1 − π) / π) with π = 0.01, so that every anchor is predicted as background
    with probability 0.99 at first (section 3.3). Otherwise the many background anchors would dominate the loss.

    Args:
        conv: the tower, [N, C, H, W] → the same shape.
        channels: number of channels C.
        anchors: number of boxes A per cell.
        outputs: number of outputs per box.
    """

    def __init__(self, conv: nn.Module, channels: int, anchors: int, outputs: int):
        super().__init__()
        self.outputs = outputs
        self.conv = conv
        self.cls_logits = nn.Conv2d(channels, anchors * outputs, 3, padding=1)
        init_focal(self)
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, C, H, W] → for each map, scores [N, H·W·A, outputs] before the sigmoid."""
        return [map_rows(self.cls_logits(self.conv(x)), self.outputs) for x in maps]


class RegressionHead(nn.Module):
    """A tower of convolutions, then 4A class-agnostic deltas per cell (section 4, figure 3 d).

    Args:
        conv, channels, anchors: as in `ClassificationHead`.
    """

    def __init__(self, conv: nn.Module, channels: int, anchors: int):
        super().__init__()
        self.conv = conv
        self.bbox_reg = nn.Conv2d(channels, 4 * anchors, 3, padding=1)
        init_focal(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, C, H, W] → for each map, deltas [N, H·W·A, 4]."""
        return [map_rows(self.bbox_reg(self.conv(x)), 4) for x in maps]


class RetinaNetHead(nn.Module):
    """The two subnets (figure 3, c and d), which share no weights.

    Args:
        channels, anchors, outputs: as in `ClassificationHead`.
        depth: number of 3×3 convolutions of each tower.
        norm: normalisation layer after each of them; None in the paper.
    """

    def __init__(self, channels: int, anchors: int, outputs: int, *, depth: int = 4, norm: NormLayer | None = None):
        super().__init__()

        def tower() -> nn.Sequential:
            return nn.Sequential(*(ConvNormAct(channels, channels, 3, norm=norm) for _ in range(depth)))

        self.classification_head = ClassificationHead(tower(), channels, anchors, outputs)
        self.regression_head = RegressionHead(tower(), channels, anchors)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps → for each map, scores [N, H·W·A, outputs] before the sigmoid, and deltas [N, H·W·A, 4]."""
        return self.classification_head(maps), self.regression_head(maps)

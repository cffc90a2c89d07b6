"""Heads that slide over every level of a pyramid: Lin et al., "Focal loss for dense object detection" (RetinaNet), ICCV
2017, section 4; with distances and centre-ness: Tian et al., "FCOS", ICCV 2019, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from sightline.errors import InputError
from sightline.nn.layers import ConvNormAct, NormLayer

_PRIOR = 0.01


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation in 32 groups (Wu and He 2018, section 4.1), or in fewer of 4 channels."""
    if channels % 32:
        raise InputError(
            f"channels is {channels}, but heads with group normalisation need a multiple of 32, such as 128"
        )
    return nn.GroupNorm(min(32, channels // 4), channels)  # a group of one value has no spread


class ClassificationHead(nn.Module):
    """A tower of convolutions, then A·outputs scores a cell; one head for all levels (section 4, figure 3 c).

    The last bias starts at −log((1 − π) / π) with π = 0.01, so that every anchor is first held for background with
    confidence 0.99 (section 3.3); otherwise their mere number would swamp the loss.

    Args:
        conv: the tower, [N, C, H, W] → the same shape.
        channels: C.
        anchors: A, boxes a cell.
        outputs: classes a box.
    """

    def __init__(self, conv: nn.Module, channels: int, anchors: int, outputs: int):
        super().__init__()
        self.outputs = outputs
        self.conv = conv
        self.cls_logits = nn.Conv2d(channels, anchors * outputs, 3, padding=1)
        _start(self)
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, C, H, W] → a map each: scores [N, H·W·A, outputs] before the sigmoid."""
        return [_rows(self.cls_logits(self.conv(x)), self.outputs) for x in maps]


class RegressionHead(nn.Module):
    """A tower of convolutions, then 4A corrections a cell, the same for all classes (section 4, figure 3 d).

    Args:
        conv, channels, anchors: as in `ClassificationHead`.
    """

    def __init__(self, conv: nn.Module, channels: int, anchors: int):
        super().__init__()
        self.conv = conv
        self.bbox_reg = nn.Conv2d(channels, 4 * anchors, 3, padding=1)
        _start(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, C, H, W] → a map each: corrections [N, H·W·A, 4]."""
        return [_rows(self.bbox_reg(self.conv(x)), 4) for x in maps]


class RetinaNetHead(nn.Module):
    """The two subnets beside each other (figure 3, c and d), which share no weights.

    Args:
        channels, anchors, outputs: as in `ClassificationHead`.
        depth: 3×3 convolutions of a tower.
        norm: maker of a normalisation after each of them; None in the paper.
    """

    def __init__(self, channels: int, anchors: int, outputs: int, *, depth: int = 4, norm: NormLayer | None = None):
        super().__init__()

        def tower() -> nn.Sequential:
            return nn.Sequential(*(ConvNormAct(channels, channels, 3, norm=norm) for _ in range(depth)))

        self.classification_head = ClassificationHead(tower(), channels, anchors, outputs)
        self.regression_head = RegressionHead(tower(), channels, anchors)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps → a map each: scores [N, H·W·A, outputs] before the sigmoid, corrections [N, H·W·A, 4]."""
        return self.classification_head(maps), self.regression_head(maps)


class DistanceHead(nn.Module):
    """FCOS: the distances from a location to the four sides of its box, and how central it lies (figure 2).

    Departures, as in the published weights: a ReLU keeps the distances above 0 where the paper takes exp(s · x), they
    are in cells of the map, and centre-ness branches off this tower, as the paper's later version has it.

    Args:
        conv, channels: as in `ClassificationHead`.
    """

    def __init__(self, conv: nn.Module, channels: int):
        super().__init__()
        self.conv = conv
        self.bbox_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.bbox_ctrness = nn.Conv2d(channels, 1, 3, padding=1)
        _start(self)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps [N, C, H, W] → a map each: distances [N, H·W, 4] (left, top, right, bottom) from 0 on, in cells;
        centre-ness [N, H·W] before the sigmoid.
        """
        hidden = [self.conv(x) for x in maps]
        return [_rows(self.bbox_reg(x).relu(), 4) for x in hidden], [self.bbox_ctrness(x).flatten(1) for x in hidden]


class FCOSHead(nn.Module):
    """One score a class, four distances and the centre-ness of every location (figure 2).

    Args:
        channels, outputs: as in `ClassificationHead`.
        depth: 3×3 convolutions of a tower, each with group normalisation.
    """

    def __init__(self, channels: int, outputs: int, depth: int = 4):
        super().__init__()
        self.classification_head = ClassificationHead(_flat_tower(channels, depth), channels, 1, outputs)
        self.regression_head = DistanceHead(_flat_tower(channels, depth), channels)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Maps → a map each: scores [N, H·W, outputs] before the sigmoid, distances [N, H·W, 4] in cells, centre-ness
        [N, H·W] before the sigmoid.
        """
        return self.classification_head(maps), *self.regression_head(maps)


def _flat_tower(channels: int, depth: int) -> nn.Sequential:
    """Convolution, group normalisation, ReLU, `depth` times in one row, named as in the published weights."""
    blocks = [ConvNormAct(channels, channels, 3, norm=group_norm, bias=True) for _ in range(depth)]
    return nn.Sequential(*(layer for block in blocks for layer in block))


def _rows(x: Tensor, width: int) -> Tensor:
    """[N, A·width, H, W] → [N, H·W·A, width]: row by row, cell by cell, anchor by anchor."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, width)


def _start(module: nn.Module) -> None:
    """Gaussian weights of σ = 0.01 and biases of 0 (section 4.1, "Initialization")."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

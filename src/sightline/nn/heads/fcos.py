"""FCOS's head: Tian, Shen, Chen, He, "FCOS: fully convolutional one-stage object detection", ICCV 2019, section 3."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.nn.heads.retinanet import ClassificationHead, group_norm
from sightline.nn.heads.rows import init_focal, map_rows
from sightline.nn.layers import ConvNormAct


class DistanceHead(nn.Module):
    """The distances from each location to the four sides of its box, and the centre-ness (figure 2).

    Departures, as in the published weights: distances are the output of a ReLU instead of exp(s · x), and in cells of
    the map; centre-ness is predicted from this tower, as in the later version of the paper.

    Args:
        conv, channels: as in `ClassificationHead`.
    """

    def __init__(self, conv: nn.Module, channels: int):
        super().__init__()
        self.conv = conv
        self.bbox_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.bbox_ctrness = nn.Conv2d(channels, 1, 3, padding=1)
        init_focal(self)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps [N, C, H, W] → for each map, distances and centre-ness.

        Shapes: distances [N, H·W, 4] (left, top, right, bottom), at least 0, in cells; centre-ness [N, H·W] before the
        sigmoid.
        """
        hidden = [self.conv(x) for x in maps]
        return [map_rows(self.bbox_reg(x).relu(), 4) for x in hidden], [self.bbox_ctrness(x).flatten(1) for x in hidden]


class FCOSHead(nn.Module):
    """Class scores, four distances and the centre-ness of every location (figure 2).

    Args:
        channels, outputs: as in `ClassificationHead`.
        depth: number of 3×3 convolutions of each tower, each with group normalisation.
    """

    def __init__(self, channels: int, outputs: int, depth: int = 4):
        super().__init__()
        self.classification_head = ClassificationHead(_flat_tower(channels, depth), channels, 1, outputs)
        self.regression_head = DistanceHead(_flat_tower(channels, depth), channels)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Maps → for each map, scores, distances and centre-ness.

        Shapes: scores [N, H·W, outputs] and centre-ness [N, H·W] before the sigmoid, distances [N, H·W, 4] in cells.
        """
        return self.classification_head(maps), *self.regression_head(maps)


def _flat_tower(channels: int, depth: int) -> nn.Sequential:
    """`depth` times convolution, group normalisation and ReLU in one `nn.Sequential`, as in the published weights."""
    blocks = [ConvNormAct(channels, channels, 3, norm=group_norm, bias=True) for _ in range(depth)]
    return nn.Sequential(*(layer for block in blocks for layer in block))

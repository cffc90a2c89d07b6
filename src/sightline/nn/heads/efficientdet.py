"""EfficientDet's heads, similar to RetinaNet's two subnets: Tan, Pang, Le, "EfficientDet", CVPR 2020, section 4.1."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.heads.decoupled import FusedBranch
from sightline.nn.heads.rows import map_rows
from sightline.nn.layers import DepthwiseSeparable, NormLayer, batch_norm
from sightline.nn.layers.fuse import folded


class SharedTower(nn.Module):
    """Depthwise separable convolutions shared by all levels, with separate normalisation layers, and SiLU.

    Args:
        channels: number of channels.
        depth: number of convolutions.
        levels: number of maps.
        norm: normalisation layer.
    """

    def __init__(self, channels: int, depth: int, levels: int, norm: NormLayer):
        super().__init__()
        self.convolutions = nn.ModuleList(DepthwiseSeparable(channels, channels) for _ in range(depth))
        self.norms = nn.ModuleList(nn.ModuleList(norm(channels) for _ in range(depth)) for _ in range(levels))

    def forward(self, x: Tensor, level: int) -> Tensor:
        """The map [N, C, H, W] of a level → the same shape."""
        for convolution, norm in self._pairs(level):
            x = F.silu(norm(convolution(x)))
        return x

    def fused(self) -> FusedBranch:
        """The same tower for inference, with the normalisation layers of each level folded into its convolutions."""
        return FusedBranch(
            [
                [
                    nn.Sequential(convolution[0], folded(convolution[1], norm), nn.SiLU(inplace=True))
                    for convolution, norm in self._pairs(level)
                ]
                for level in range(len(self.norms))
            ]
        )

    def _pairs(self, level: int) -> Iterator[tuple[DepthwiseSeparable, nn.Module]]:
        norms = self.norms[level]
        assert isinstance(norms, nn.ModuleList)
        for convolution, norm in zip(self.convolutions, norms, strict=True):
            assert isinstance(convolution, DepthwiseSeparable)
            yield convolution, norm


class TowerHead(nn.Module):
    """A tower, then `outputs` values for each of the A boxes of a cell.

    Args:
        tower: (map, level) → map of the same shape.
        channels: number of channels C.
        anchors: number of boxes A per cell.
        outputs: number of outputs per box.
    """

    def __init__(self, tower: SharedTower, channels: int, anchors: int, outputs: int):
        super().__init__()
        self.outputs = outputs
        self.tower = tower
        self.last = DepthwiseSeparable(channels, anchors * outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.last[1].weight, std=0.01)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, C, H, W] → for each map, [N, H·W·A, outputs] in the order of rows, cells and anchors."""
        rows = []
        for level, x in enumerate(maps):
            x = self.last(self.tower(x, level))
            rows.append(map_rows(x, self.outputs))
        return rows


class EfficientDetHead(nn.Module):
    """Class scores, without background, and deltas of every anchor.

    Args:
        channels: number of channels of every map.
        anchors: number of boxes A per cell.
        num_classes: number of classes K.
        depth: number of convolutions of each tower (table 1, "#layers").
        levels: number of maps.
        prior: initial score of every class (Lin et al., "Focal loss", 2017, section 3.3).
        norm: normalisation layer; by default batch norm with ε = 1e-3 and momentum 0.01.
    """

    def __init__(
        self,
        channels: int,
        anchors: int,
        num_classes: int,
        depth: int,
        *,
        levels: int = 5,
        prior: float = 0.01,
        norm: NormLayer | None = None,
    ):
        super().__init__()
        norm = norm or batch_norm(eps=1e-3, momentum=0.01)
        self.classification = TowerHead(SharedTower(channels, depth, levels, norm), channels, anchors, num_classes)
        self.regression = TowerHead(SharedTower(channels, depth, levels, norm), channels, anchors, 4)
        nn.init.constant_(self.classification.last[1].bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps → for each map, scores [N, H·W·A, K] before the sigmoid, and deltas [N, H·W·A, 4]."""
        return self.classification(maps), self.regression(maps)

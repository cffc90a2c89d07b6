"""A branch of a dense head whose last layer is computed for selected points only.

Masks and keypoints are only needed for the points that are assigned to an object (in training) or that remain after
suppression, a few hundred of several thousand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.heads.decoupled import SharedBranch
from sightline.nn.layers import NormLayer, batch_norm


class PointBranch(nn.Module):
    """Convolutions shared by all levels, as those of `DecoupledHead`, and a linear layer for selected points.

    Args:
        channels: number of channels of every map.
        outputs: number of values per point.
        levels: number of maps.
        depth: number of convolutions.
        norm: normalisation layer; by default batch norm with YOLOX's settings.
        residual: whether the convolutions start as the identity, see `SharedBranch`.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        levels: int = 3,
        depth: int = 2,
        norm: NormLayer | None = None,
        residual: bool = False,
    ):
        super().__init__()
        norm = norm or batch_norm(eps=1e-3, momentum=0.03)
        self.branch = SharedBranch(channels, levels, depth, True, norm, residual)
        self.values = nn.Linear(channels, outputs)
        nn.init.normal_(self.values.weight, std=0.01)
        nn.init.zeros_(self.values.bias)

    def forward(self, maps: Sequence[Tensor], images: Tensor, points: Tensor) -> Tensor:
        """Maps [N, C, H_i, W_i], and image and point of each selected point [P] → values [P, outputs].

        Points are numbered map by map, row by row, as in `DecoupledHead`.
        """
        return self.values(self.features(maps, images, points))

    def features(self, maps: Sequence[Tensor], images: Tensor, points: Tensor) -> Tensor:
        """What the last layer sees of each selected point: [P, C]. Arguments as for `forward`."""
        rows = [self.branch(x, level).permute(0, 2, 3, 1).flatten(1, 2) for level, x in enumerate(maps)]
        return torch.cat(rows, 1)[images, points]

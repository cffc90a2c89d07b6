"""Spatial pyramid pooling of dense detectors: a map concatenated with its max poolings over several windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError


class SpatialPyramidPooling(nn.Module):
    """The map and its maxima over windows of several sides around each cell: [N, C, H, W] → [N, 4·C, H, W].

    Args:
        sides: sides of the windows in cells, odd.

    Source: He et al., Spatial Pyramid Pooling, 2014, in the form of Huang et al., DC-SPP-YOLO, 2019: strides of 1 keep
    the map's size. PP-YOLO (section 3.2) takes sides of 1, 5, 9 and 13.
    """

    def __init__(self, sides: Sequence[int] = (5, 9, 13)):
        super().__init__()
        if any(side < 1 or side % 2 == 0 for side in sides):
            raise InputError(f"sides are {list(sides)}, but must be odd, so that each window has a centre")
        self.sides = tuple(sides)

    @property
    def factor(self) -> int:
        """Ratio of output to input channels."""
        return len(self.sides) + 1

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, factor·C, H, W], the map itself first."""
        pooled, done = [x], 1
        for side in self.sides:
            # pooling over 9 cells is two poolings over 5 cells, with fewer comparisons
            pooled.append(_largest(pooled[-1], side - done + 1) if side >= done else _largest(x, side))
            done = side
        return torch.cat(pooled, 1)

    def extra_repr(self) -> str:
        return f"sides={self.sides}"


def _largest(x: Tensor, side: int) -> Tensor:
    return F.max_pool2d(x, side, 1, side // 2)

"""Decoupled head: separate branches for classes and boxes (Ge et al., "YOLOX", 2021, section 2.1).

All levels share the convolutions of the branches, but not the normalisation layers (Lyu et al., "RTMDet", 2022, section
3.2). Distances to the sides of boxes are predicted as distributions (Li et al., "Generalized focal loss", 2020,
equation 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sightline.nn.layers import NormLayer, batch_norm
from sightline.nn.layers.conv import Conv2d
from sightline.nn.layers.conv_act import ConvAct
from sightline.nn.layers.fuse import folded


class SharedBranch(nn.Module):
    """Convolutions shared by all levels, with separate normalisation layers for each level, and SiLU.

    Args:
        channels: number of input and output channels.
        levels: number of maps.
        depth: number of convolutions.
        separable: whether each 3×3 convolution is replaced by a 3×3 depthwise and a 1×1 convolution.
        norm: normalisation layer.
        residual: whether each convolution has a shortcut (He et al. 2016). The scale of its last normalisation layer
            starts at zero (Goyal et al. 2017, section 5.1), so that the branch starts as the identity.
    """

    def __init__(
        self, channels: int, levels: int, depth: int, separable: bool, norm: NormLayer, residual: bool = False
    ):
        super().__init__()
        convolutions: list[nn.Module] = []
        for _ in range(depth):
            if separable:
                convolutions.append(Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False))
                convolutions.append(Conv2d(channels, channels, 1, bias=False))
            else:
                convolutions.append(Conv2d(channels, channels, 3, padding=1, bias=False))
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(nn.ModuleList(norm(channels) for _ in convolutions) for _ in range(levels))
        self.act = nn.SiLU(inplace=True)
        self.every = len(convolutions) // depth if residual and depth else 0
        for norms in self.norms if self.every else ():
            for last in list(cast(nn.ModuleList, norms))[self.every - 1 :: self.every]:
                nn.init.zeros_(cast(Tensor, last.weight))

    def forward(self, x: Tensor, level: int) -> Tensor:
        """The map [N, C, H, W] of a level → the same shape."""
        norms = cast(nn.ModuleList, self.norms[level])
        layers = [nn.Sequential(*pair, self.act) for pair in zip(self.convolutions, norms, strict=True)]
        return _in_order(x, layers, self.every)

    def fused(self) -> FusedBranch:
        """The same branch for inference, with the normalisation layers of each level folded into its convolutions."""
        levels = [cast(nn.ModuleList, norms) for norms in self.norms]
        return FusedBranch(
            [[self.with_act(folded(c, n)) for c, n in zip(self.convolutions, norms, strict=True)] for norms in levels],
            self.every,
        )

    def with_act(self, layer: nn.Module) -> ConvAct:
        assert isinstance(layer, nn.Conv2d)
        return ConvAct(layer, self.act)


class FusedBranch(nn.Module):
    """`SharedBranch` with folded normalisation layers; `convolutions` are those of each level, with activations."""

    def __init__(self, convolutions: Sequence[Sequence[nn.Module]], every: int = 0):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.ModuleList(level) for level in convolutions)
        self.every = every

    def forward(self, x: Tensor, level: int) -> Tensor:
        """The map [N, C, H, W] of a level → the same shape."""
        return _in_order(x, list(cast(nn.ModuleList, self.convolutions[level])), self.every)


def _in_order(x: Tensor, layers: Sequence[Callable[[Tensor], Tensor]], every: int) -> Tensor:
    """Apply layers, with a shortcut over each group of `every` of them (0: no shortcuts)."""
    y = x
    for number, layer in enumerate(layers, 1):
        y = layer(y)
        if every and number % every == 0:
            x = y = x + y
    return y


class DecoupledHead(nn.Module):
    """Class scores and distributions of the distances to the four sides, for each cell of each map.

    Args:
        channels: number of channels of every map.
        num_classes: number of classes K, without background.
        levels: number of maps.
        bins: number of bins R of a distribution, for distances of 0, 1, …, R − 1 cells.
        depth: number of convolutions of each branch.
        prior: initial score of every class (Lin et al., "Focal loss", 2017, section 3.3).
        norm: normalisation layer; by default batch norm with YOLOX's settings.
        residual: whether the branches start as the identity, see `SharedBranch`.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        levels: int = 3,
        bins: int = 16,
        depth: int = 2,
        prior: float = 0.01,
        norm: NormLayer | None = None,
        residual: bool = False,
    ):
        super().__init__()
        norm = norm or batch_norm(eps=1e-3, momentum=0.03)
        self.bins = bins
        self.class_branch = SharedBranch(channels, levels, depth, True, norm, residual)
        self.box_branch = SharedBranch(channels, levels, depth, True, norm, residual)
        classes = [Conv2d(channels, num_classes, 1) for _ in range(levels)]
        sides = [Conv2d(channels, 4 * bins, 1) for _ in range(levels)]
        self.classes, self.sides = nn.ModuleList(classes), nn.ModuleList(sides)
        # small distances are more probable at first, so that boxes are initially about 5 cells wide rather than 15
        falling = -0.3 * torch.arange(bins, dtype=torch.float32).repeat(4)
        for of_class, of_side in zip(classes, sides, strict=True):
            assert of_class.bias is not None
            assert of_side.bias is not None
            nn.init.normal_(of_class.weight, std=0.01)
            nn.init.constant_(of_class.bias, -math.log((1 - prior) / prior))
            nn.init.normal_(of_side.weight, std=0.01)
            with torch.no_grad():
                of_side.bias.copy_(falling)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps [N, C, H_i, W_i] → scores [N, A, K] before the sigmoid, and sides [N, A, 4·R] before the softmax.

        A = Σ H_i·W_i, map by map, row by row. The four sides are left, top, right and bottom, with R values each.
        """
        scores, sides = [], []
        for level, x in enumerate(maps):
            # transposed before they are joined: maps are channels-last, so that each stays as it lies in memory
            scores.append(self.classes[level](self.class_branch(x, level)).flatten(2).transpose(1, 2))
            sides.append(self.sides[level](self.box_branch(x, level)).flatten(2).transpose(1, 2))
        return torch.cat(scores, 1), torch.cat(sides, 1)

"""BiFPN: Tan, Pang, Le, "EfficientDet: scalable and efficient object detection", CVPR 2020, section 3.

Departure: max pooling to the next level is padded symmetrically, as are the strided convolutions of the published
backbones; the original's "same" padding pads only right and bottom.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.nn.layers import ConvNormAct, DepthwiseSeparable, NormLayer, batch_norm

EPS = 1e-4
"""ε, added to the sum of the weights (section 3.3)."""


class WeightedFusion(nn.Module):
    """Fast normalized fusion of maps of the same size: Σ wᵢ·xᵢ / (ε + Σ wᵢ), with a ReLU on wᵢ (section 3.3).

    Args:
        inputs: number of maps.
        weighted: whether the weights are learned. False gives the plain sum.
    """

    def __init__(self, inputs: int, weighted: bool = True):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs)) if weighted else None

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps [N, C, H, W] → [N, C, H, W]."""
        if self.weights is None:
            return torch.stack(list(maps)).sum(0)
        weights = self.weights.relu()
        shares = (weights / (weights.sum() + EPS)).to(maps[0].dtype).unbind()
        fused = maps[0] * shares[0]
        for x, share in zip(maps[1:], shares[1:], strict=True):
            fused = fused + x * share
        return fused


class FusionNode(nn.Module):
    """Fusion, SiLU, 3×3 depthwise separable convolution and normalisation (section 3.3, last paragraph)."""

    def __init__(self, inputs: int, channels: int, norm: NormLayer, weighted: bool):
        super().__init__()
        self.fusion = WeightedFusion(inputs, weighted)
        self.conv = DepthwiseSeparable(channels, channels, norm=norm)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps [N, C, H, W] → [N, C, H, W]."""
        return self.conv(F.silu(self.fusion(maps)))


class BiFPNLayer(nn.Module):
    """A top-down path, then a bottom-up path with skip connections from the inputs (figure 2 d).

    Level i: P'ᵢ = node(Pᵢ, up(P'ᵢ₊₁)), then outᵢ = node(Pᵢ, P'ᵢ, down(outᵢ₋₁)). The coarsest level has no P', and the
    finest level returns its P', since these nodes would have a single input (section 3.2). `up` is nearest-neighbour
    upsampling, `down` is 3×3 max pooling with stride 2.

    Args:
        in_channels: number of channels of each input map, from fine to coarse. A map with a different number of
            channels than `channels` gets a 1×1 convolution with normalisation for each node that it enters, as in the
            published models.
        channels: number of channels of every output map.
        norm: normalisation layer.
        weighted: whether the nodes sum their inputs with learned weights, see `WeightedFusion`.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, norm: NormLayer, weighted: bool = True):
        super().__init__()
        steps = len(in_channels) - 1
        self.to_top_down = nn.ModuleList(resampled(c, channels, norm) for c in in_channels)
        self.to_bottom_up = nn.ModuleList(resampled(c, channels, norm) for c in in_channels[1:])
        self.top_down = nn.ModuleList(FusionNode(2, channels, norm, weighted) for _ in range(steps))
        self.bottom_up = nn.ModuleList(
            FusionNode(3 if i < steps - 1 else 2, channels, norm, weighted) for i in range(steps)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, C_i, H_i, W_i], from fine to coarse, each half as large → maps [N, channels, H_i, W_i]."""
        between = [layer(x) for layer, x in zip(self.to_top_down, maps, strict=True)]
        for i in range(len(maps) - 2, -1, -1):
            up = F.interpolate(between[i + 1], size=between[i].shape[-2:], mode="nearest")
            between[i] = self.top_down[i]([between[i], up])
        out = between[:1]
        for i in range(1, len(maps)):
            middle = between[i : i + 1] if i < len(maps) - 1 else []
            out.append(self.bottom_up[i - 1]([self.to_bottom_up[i - 1](maps[i]), *middle, halved(out[-1])]))
        return out

    def map_layers(self) -> list[nn.Module]:
        """The nodes of the output maps, from fine to coarse."""
        return [self.top_down[0], *self.bottom_up]


class BiFPN(nn.Module):
    """Additional levels by pooling, then a sequence of `BiFPNLayer`.

    Args:
        in_channels: number of channels of each map of the backbone, from fine to coarse: P3, P4, P5.
        channels: number of channels of all intermediate and output maps.
        repeats: number of layers.
        levels: number of output maps. The first level beyond the backbone's is its last map after a 1×1 convolution
            and max pooling; each additional level is the previous one after max pooling.
        norm: normalisation layer; by default batch norm with ε = 1e-3 and momentum 0.01.
        weighted: whether the nodes sum their inputs with learned weights. The published D6 and D7 use plain sums for a
            stable training.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        repeats: int,
        *,
        levels: int = 5,
        norm: NormLayer | None = None,
        weighted: bool = True,
    ):
        super().__init__()
        if repeats < 1 or levels < max(2, len(in_channels)):
            raise InputError(
                f"repeats is {repeats} and levels {levels}, but a BiFPN of {len(in_channels)} maps needs at least one "
                f"layer and {max(2, len(in_channels))} levels"
            )
        norm = norm or batch_norm(eps=1e-3, momentum=0.01)
        extra_levels = levels - len(in_channels)
        self.extra_levels = extra_levels
        self.to_next = resampled(in_channels[-1], channels, norm) if extra_levels else nn.Identity()
        first = BiFPNLayer([*in_channels, *[channels] * extra_levels], channels, norm, weighted)
        others = (BiFPNLayer([channels] * levels, channels, norm, weighted) for _ in range(repeats - 1))
        self.layers = nn.Sequential(first, *others)
        self.out_channels = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, C_i, H_i, W_i], from fine to coarse, each half as large → `levels` maps [N, channels, H_i, W_i]."""
        maps = list(maps)
        for i in range(self.extra_levels):
            maps.append(halved(self.to_next(maps[-1]) if i == 0 else maps[-1]))
        return self.layers(maps)

    def map_layers(self) -> list[nn.Module]:
        """The nodes of the last layer, from fine to coarse."""
        last = self.layers[-1]
        assert isinstance(last, BiFPNLayer)
        return last.map_layers()


def resampled(in_channels: int, channels: int, norm: NormLayer) -> nn.Module:
    """A 1×1 convolution with bias and normalisation to `channels`; the identity if the number is the same already."""
    if in_channels == channels:
        return nn.Identity()
    return ConvNormAct(in_channels, channels, 1, norm=norm, act=None, bias=True)


def halved(x: Tensor) -> Tensor:
    """3×3 max pooling with stride 2: [N, C, H, W] → [N, C, ⌈H / 2⌉, ⌈W / 2⌉]."""
    return F.max_pool2d(x, 3, 2, 1)

"""Depthwise separable convolution."""

from __future__ import annotations

from torch import nn

from sightline.nn.layers.conv import Conv2d
from sightline.nn.layers.norm import NormLayer


class DepthwiseSeparable(nn.Sequential):
    """3×3 depthwise and 1×1 convolution, without normalisation or activation in between (Chollet, "Xception", 2017).

    Args:
        channels, out_channels: number of input and output channels.
        norm: normalisation layer after it, or None; the 1×1 convolution has a bias in both cases.
    """

    def __init__(self, channels: int, out_channels: int, *, norm: NormLayer | None = None):
        layers: list[nn.Module] = [
            Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            Conv2d(channels, out_channels, 1),
        ]
        super().__init__(*layers, *([] if norm is None else [norm(out_channels)]))

"""MobileNet v3: Howard et al., "Searching for MobileNetV3", ICCV 2019."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import ConvNormAct, NormLayer, SqueezeExcitation, batch_norm, make_divisible

_PUBLISHED_NORM = batch_norm(eps=1e-3, momentum=0.01)


class Row(NamedTuple):
    """One row of tables 1 and 2: a block's kernel, expanded width, output, squeeze-and-excite, hard swish, stride."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    hard_swish: bool
    stride: int


def _large(tail: int) -> list[Row]:
    """Table 1. `tail` = 2 halves the last stage (section 6.3: detection keeps its accuracy at less cost)."""
    t = tail
    return [
        Row(3, 16, 16, False, False, 1),
        Row(3, 64, 24, False, False, 2),
        Row(3, 72, 24, False, False, 1),
        Row(5, 72, 40, True, False, 2),
        Row(5, 120, 40, True, False, 1),
        Row(5, 120, 40, True, False, 1),
        Row(3, 240, 80, False, True, 2),
        Row(3, 200, 80, False, True, 1),
        Row(3, 184, 80, False, True, 1),
        Row(3, 184, 80, False, True, 1),
        Row(3, 480, 112, True, True, 1),
        Row(3, 672, 112, True, True, 1),
        Row(5, 672, 160 // t, True, True, 2),
        Row(5, 960 // t, 160 // t, True, True, 1),
        Row(5, 960 // t, 160 // t, True, True, 1),
    ]


def _small(tail: int) -> list[Row]:
    """Table 2."""
    t = tail
    return [
        Row(3, 16, 16, True, False, 2),
        Row(3, 72, 24, False, False, 2),
        Row(3, 88, 24, False, False, 1),
        Row(5, 96, 40, True, True, 2),
        Row(5, 240, 40, True, True, 1),
        Row(5, 240, 40, True, True, 1),
        Row(5, 120, 48, True, True, 1),
        Row(5, 144, 48, True, True, 1),
        Row(5, 288, 96 // t, True, True, 2),
        Row(5, 576 // t, 96 // t, True, True, 1),
        Row(5, 576 // t, 96 // t, True, True, 1),
    ]


class InvertedResidualV3(nn.Module):
    """Expand, filter channel by channel, squeeze and excite, project without a non-linearity (figure 4)."""

    def __init__(self, channels: int, row: Row, norm: NormLayer):
        super().__init__()
        act = nn.Hardswish if row.hard_swish else nn.ReLU
        layers: list[nn.Module] = []
        if row.expanded != channels:
            layers.append(ConvNormAct(channels, row.expanded, 1, norm=norm, act=act))
        layers.append(
            ConvNormAct(row.expanded, row.expanded, row.kernel, row.stride, groups=row.expanded, norm=norm, act=act)
        )
        if row.squeeze:
            layers.append(SqueezeExcitation(row.expanded, make_divisible(row.expanded // 4), nn.Hardsigmoid))
        layers.append(ConvNormAct(row.expanded, row.out, 1, norm=norm, act=None))
        self.block = nn.Sequential(*layers)
        self.adds = row.stride == 1 and channels == row.out
        self.stride, self.expanded = row.stride, row.expanded

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.adds else self.block(x)


class MobileNetV3(Network):
    """Stem, inverted residuals, a 1×1 convolution, pooling, two dense layers.

    Args:
        rows: the blocks.
        hidden: width of the dense layer before the last.
        num_classes: outputs of the last layer.
        in_channels: number of channels of the image.
        norm: normalisation layer.
        dropout: dropout probability before the last layer.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        hidden: int,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = _PUBLISHED_NORM,
        dropout: float = 0.2,
    ):
        super().__init__()
        channels, stride = 16, 2
        layers: list[nn.Module] = [ConvNormAct(in_channels, channels, 3, 2, norm=norm, act=nn.Hardswish)]
        ends = {stride: (0, channels)}
        for row in rows:
            layers.append(InvertedResidualV3(channels, row, norm))
            channels, stride = row.out, stride * row.stride
            ends[stride] = (len(layers) - 1, channels)  # the last block at each stride carries the map
        self.last_channels = 6 * channels
        layers.append(ConvNormAct(channels, self.last_channels, 1, norm=norm, act=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(self.last_channels, hidden),
            nn.Hardswish(inplace=True),
            nn.Dropout(dropout, inplace=True),
            nn.Linear(hidden, num_classes),
        )
        self.stages = [Stage(str(index), out, at) for at, (index, out) in ends.items()]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return dict(self.features.named_children())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(x, 1))


def mobilenet_v3_large(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = _PUBLISHED_NORM, reduced_tail: bool = False
) -> MobileNetV3:
    """MobileNet v3 large: 5,483,032 parameters with 1000 classes."""
    tail = 2 if reduced_tail else 1
    net = MobileNetV3(_large(tail), 1280 // tail, num_classes, in_channels=in_channels, norm=norm)
    net.parts = ("0", "2", "4", "7", "13", "16")
    return net


def mobilenet_v3_small(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = _PUBLISHED_NORM, reduced_tail: bool = False
) -> MobileNetV3:
    """MobileNet v3 small: 2,542,856 parameters with 1000 classes."""
    tail = 2 if reduced_tail else 1
    return MobileNetV3(_small(tail), 1024 // tail, num_classes, in_channels=in_channels, norm=norm)

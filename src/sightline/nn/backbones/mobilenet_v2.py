"""MobileNet v2: Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import ConvNormAct, NormLayer, make_divisible

# expansion t, channels c, repeats n, stride s (table 2)
_TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """Expand 1×1, filter 3×3 channel by channel, project 1×1 WITHOUT a non-linearity (section 3.3, table 1).

    The identity is added where stride is 1 and the channels stay.
    """

    def __init__(self, channels: int, out: int, stride: int, expansion: int, norm: NormLayer):
        super().__init__()
        inner = channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvNormAct(channels, inner, 1, norm=norm, act=nn.ReLU6))
        layers += [
            ConvNormAct(inner, inner, 3, stride, groups=inner, norm=norm, act=nn.ReLU6),
            nn.Conv2d(inner, out, 1, bias=False),
            norm(out),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and channels == out
        self.stride, self.expanded = stride, inner

    @property
    def block(self) -> nn.Sequential:
        """Its layers in order, the expansion first."""
        return self.conv

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(Network):
    """Stem, 17 inverted residuals, a 1×1 convolution to 1280 channels, pooling, one dense layer (table 2).

    Args:
        num_classes: outputs of the last layer; 3,504,872 parameters with 1000.
        in_channels: number of channels of the image.
        norm: normalisation layer.
        width: width multiplier, a factor on all channel counts.
        dropout: dropout probability before the last layer.
    """

    parts = ("0", "2", "4", "7", "11", "14", "17")

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = nn.BatchNorm2d,
        width: float = 1.0,
        dropout: float = 0.2,
    ):
        super().__init__()
        channels = make_divisible(32 * width)
        layers: list[nn.Module] = [ConvNormAct(in_channels, channels, 3, 2, norm=norm, act=nn.ReLU6)]
        stride_so_far, ends = 2, {}
        for expansion, c, repeats, s in _TABLE:
            out = make_divisible(c * width)
            for position in range(repeats):
                stride = s if position == 0 else 1
                stride_so_far *= stride
                layers.append(InvertedResidual(channels, out, stride, expansion, norm))
                channels = out
            ends[stride_so_far] = (len(layers) - 1, out)  # the last block at each stride carries the map
        self.last_channels = make_divisible(1280 * max(1.0, width))
        layers.append(ConvNormAct(channels, self.last_channels, 1, norm=norm, act=nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.last_channels, num_classes))
        self.stages = [Stage(str(index), out, stride) for stride, (index, out) in ends.items()]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def parts_of(self, strides: Sequence[int]) -> tuple[str, ...]:
        """As in every network; up to stride 16 the layers are divided into seven parts, too."""
        return ("0", "1", "2", "4", "7", "11", "13") if max(strides) <= 16 else self.parts

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return dict(self.features.named_children())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(x, 1))


def mobilenet_v2(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> MobileNetV2:
    """MobileNet v2 of width 1."""
    return MobileNetV2(num_classes, in_channels=in_channels, norm=norm)

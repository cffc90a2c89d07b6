"""SE-ResNet-50 and SENet-154: Hu, Shen, Sun, "Squeeze-and-excitation networks", CVPR 2018.

The block itself is `SqueezeExcitation`. Every ResNet and Inception takes it as `attention=SqueezeExcitation`.

Departure: the 1×1 convolutions of squeeze-and-excitation have biases, as in the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sightline.nn.backbones.features import Stage
from sightline.nn.backbones.resnet import Bottleneck, ResNet
from sightline.nn.backbones.resnet_vd import deep_stem
from sightline.nn.layers import NormLayer, SqueezeExcitation


class HalvedBottleneck(Bottleneck):
    """A ResNeXt bottleneck with half the channels in its first 1×1 convolution, and a 3×3 shortcut if it has a stride.

    From the paper's details of SENet-154. Arguments as for `Bottleneck`.
    """

    def __init__(self, channels: int, planes: int, stride: int, norm: NormLayer, groups: int = 1, width: int = 64):
        super().__init__(channels, planes, stride, norm, groups, width)
        inner, half = self.conv2.out_channels, self.conv2.out_channels // 2
        self.conv1 = nn.Conv2d(channels, half, 1, bias=False)
        self.bn1 = norm(half)
        self.conv2 = nn.Conv2d(half, inner, 3, stride, 1, groups=groups, bias=False)
        if stride > 1:
            out = planes * self.expansion
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), norm(out))


class SENet154(ResNet):
    """ResNeXt-152 64×4d with squeeze-and-excitation, `HalvedBottleneck`, and three 3×3 convolutions as its stem.

    Args:
        num_classes: number of outputs.
        in_channels: number of channels of the image.
        norm: normalisation layer.
        dropout: dropout probability before the last layer.
        depths: number of blocks in each of the four stages.
    """

    stem_stage = Stage("relu", 128, 2)

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = nn.BatchNorm2d,
        dropout: float = 0.2,
        depths: Sequence[int] = (3, 8, 36, 3),
    ):
        super().__init__(
            HalvedBottleneck,
            depths,
            num_classes,
            in_channels=in_channels,
            norm=norm,
            groups=64,
            width=4,
            attention=SqueezeExcitation,
            stem_channels=128,
        )
        self.add_module("conv1", deep_stem(in_channels, 64, 128, norm))  # at the place of the 7×7
        self.add_module("fc", nn.Sequential(nn.Dropout(dropout), self.fc))


def seresnet50(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> ResNet:
    """SE-ResNet-50: 28,088,024 parameters with 1000 classes."""
    return ResNet(
        Bottleneck, (3, 4, 6, 3), num_classes, in_channels=in_channels, norm=norm, attention=SqueezeExcitation
    )


def senet154(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> SENet154:
    """SENet-154: 115,088,984 parameters with 1000 classes."""
    return SENet154(num_classes, in_channels=in_channels, norm=norm)

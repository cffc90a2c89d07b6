"""ResNets with more or wider 3×3 convolutions.

ResNeXt: Xie, Girshick, Dollár, Tu, He, "Aggregated residual transformations for deep neural networks", CVPR 2017. The
3×3 convolution of each bottleneck is divided into groups (figure 3c). "32x4d" stands for 32 groups, which have 4
channels each in the first stage.

Wide ResNet: Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016, section 3.3: WRN-50-2-bottleneck, whose 3×3
convolutions have twice as many channels. As in `resnet`, they have the stride.
"""

from __future__ import annotations

from torch import nn

from sightline.nn.backbones.resnet import Bottleneck, ResNet
from sightline.nn.layers import Attention, NormLayer

_DEPTH_50, _DEPTH_101 = (3, 4, 6, 3), (3, 4, 23, 3)


def resnext50_32x4d(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, attention: Attention = None
) -> ResNet:
    """ResNeXt-50 32×4d: 25,028,904 parameters with 1000 classes."""
    return ResNet(
        Bottleneck, _DEPTH_50, num_classes, in_channels=in_channels, norm=norm, groups=32, width=4, attention=attention
    )


def resnext101_32x8d(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, attention: Attention = None
) -> ResNet:
    """ResNeXt-101 32×8d: 88,791,336 parameters with 1000 classes."""
    return ResNet(
        Bottleneck, _DEPTH_101, num_classes, in_channels=in_channels, norm=norm, groups=32, width=8, attention=attention
    )


def resnext101_64x4d(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, attention: Attention = None
) -> ResNet:
    """ResNeXt-101 64×4d: 83,455,272 parameters with 1000 classes."""
    return ResNet(
        Bottleneck, _DEPTH_101, num_classes, in_channels=in_channels, norm=norm, groups=64, width=4, attention=attention
    )


def wide_resnet50_2(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, attention: Attention = None
) -> ResNet:
    """Wide ResNet-50-2: 68,883,240 parameters with 1000 classes."""
    return ResNet(
        Bottleneck, _DEPTH_50, num_classes, in_channels=in_channels, norm=norm, width=128, attention=attention
    )


def wide_resnet101_2(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, attention: Attention = None
) -> ResNet:
    """Wide ResNet-101-2: 126,886,696 parameters with 1000 classes."""
    return ResNet(
        Bottleneck, _DEPTH_101, num_classes, in_channels=in_channels, norm=norm, width=128, attention=attention
    )

"""ResNet-vd: He et al., "Bag of tricks for image classification with convolutional neural networks", CVPR 2019,
section 4 (there ResNet-D). Three 3×3 convolutions in the place of the stem's 7×7, and shortcuts that average before
their 1×1, so that no cell of a map is passed over. The third tweak, the stride on the 3×3, is that of `resnet`.

Deformable convolution in the last stage: Dai et al. 2017, section 2.1 and table 2, as PP-YOLO takes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sightline.nn.backbones.resnet import BasicBlock, Bottleneck, ResNet
from sightline.nn.layers import Attention, DeformConv2d, NormLayer


class ResNetVD(ResNet):
    """A residual network whose stem is deep and whose shortcuts average (figure 2).

    Args:
        block, depths, num_classes, in_channels, norm, attention: as in `ResNet`.
        deformable: deformable convolution, the second version, in the place of the last stage's 3×3 convolutions (the
            last one of each basic block).
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: Sequence[int],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = nn.BatchNorm2d,
        attention: Attention = None,
        deformable: bool = False,
    ):
        super().__init__(block, depths, num_classes, in_channels=in_channels, norm=norm, attention=attention)
        self.add_module("conv1", deep_stem(in_channels, 32, 64, norm))  # at the place of the 7×7
        for number in (2, 3, 4):
            first = self.get_submodule(f"layer{number}.0")
            inner, out = (64 * 2 ** (number - i) * block.expansion for i in (2, 1))
            first.downsample = nn.Sequential(
                # a last row or column that has no pair is its own average
                nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
                _conv(inner, out, 1),
                norm(out),
            )
        if deformable:
            for each in self.get_submodule("layer4").children():
                plain = each.conv2
                assert isinstance(plain, nn.Conv2d)
                moving = DeformConv2d(plain.in_channels, plain.out_channels, 3, plain.stride[0], 1, bias=False)
                moving.weight = nn.Parameter(plain.weight.detach())
                each.conv2 = moving


def deep_stem(in_channels: int, width: int, out: int, norm: NormLayer) -> nn.Sequential:
    """Three 3×3 convolutions in place of a 7×7: [N, C, H, W] → [N, out, H / 2, W / 2], before normalisation."""
    first = [_conv(in_channels, width, 3, 2), norm(width), nn.ReLU(inplace=True)]
    second = [_conv(width, width, 3), norm(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*first, *second, _conv(width, out, 3))


def _conv(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def resnet18_vd(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, deformable: bool = False
) -> ResNetVD:
    """ResNet-18-vd: 11,708,744 parameters with 1000 classes, without deformable convolution."""
    return ResNetVD(BasicBlock, (2, 2, 2, 2), num_classes, in_channels=in_channels, norm=norm, deformable=deformable)


def resnet50_vd(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, deformable: bool = False
) -> ResNetVD:
    """ResNet-50-vd: 25,576,264 parameters with 1000 classes, without deformable convolution."""
    return ResNetVD(Bottleneck, (3, 4, 6, 3), num_classes, in_channels=in_channels, norm=norm, deformable=deformable)

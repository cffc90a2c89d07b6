"""ResNet: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016.

The bottleneck has its stride in the 3×3 convolution instead of the first 1×1 (often called v1.5), as in the published
weights. ResNeXt and wide ResNet (`resnext`) and SE-ResNet (`senet`) are the same network with other arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import Attention, FusedBlock, NormLayer


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut (figure 5, left): [N, C, H, W] → [N, planes, H / stride, W / stride]."""

    expansion = 1

    def __init__(self, channels: int, planes: int, stride: int, norm: NormLayer, groups: int = 1, width: int = 64):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.bn1 = norm(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = norm(planes)
        self.se: nn.Module | None = None
        self.downsample = _shortcut(channels, planes, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = y if self.se is None else self.se(y)
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)

    def fused(self) -> FusedBlock:
        """The same block for inference; see `fuse`."""
        return FusedBlock([(self.conv1, self.bn1), (self.conv2, self.bn2)], self.se, self.downsample)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with a shortcut (figure 5, right): the output has 4 · planes channels."""

    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int, norm: NormLayer, groups: int = 1, width: int = 64):
        super().__init__()
        inner, out = planes * width // 64 * groups, planes * self.expansion
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = norm(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = norm(out)
        self.se: nn.Module | None = None
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, out, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y = y if self.se is None else self.se(y)
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)

    def fused(self) -> FusedBlock:
        """The same block for inference; see `fuse`."""
        pairs = [(self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)]
        return FusedBlock(pairs, self.se, self.downsample)


def _shortcut(channels: int, out: int, stride: int, norm: NormLayer) -> nn.Module | None:
    """The projection shortcut (option B of section 3.3) if the shape changes, else None."""
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), norm(out))


class ResNet(Network):
    """A residual network: stem, four stages, pooling and a fully connected layer (table 1).

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: number of blocks in each of the four stages.
        num_classes: number of outputs.
        in_channels: number of channels of the image.
        norm: normalisation layer.
        groups, width: groups of the 3×3 convolutions, and channels per group if a stage has 64 planes.
        attention: layer at the end of each residual branch, such as `SqueezeExcitation`; None in the paper.
        stem_channels: number of channels of the first convolution; `stem_stage` states them too.
    """

    in_order = True  # for `fuse`
    stem_stage = Stage("relu", 64, 2)
    parts = ("conv1", "layer1", "layer2", "layer3", "layer4")

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: Sequence[int],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = nn.BatchNorm2d,
        groups: int = 1,
        width: int = 64,
        attention: Attention = None,
        stem_channels: int = 64,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, stem_channels, 7, 2, 3, bias=False)
        self.bn1 = norm(stem_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = stem_channels
        for number, depth in enumerate(depths):
            planes, stride = 64 * 2**number, 1 if number == 0 else 2
            blocks = []
            for position in range(depth):
                first = stride if position == 0 else 1
                blocks.append(block(channels, planes, first, norm, groups, width))
                channels = planes * block.expansion
                blocks[-1].se = None if attention is None else attention(channels)
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        self.stages = [Stage(f"layer{i + 1}", 64 * 2**i * block.expansion, 4 * 2**i) for i in range(4)]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # Kaiming initialisation (He et al. 2015)
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return {name: child for name, child in self.named_children() if name not in ("avgpool", "fc")}

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        for layer in self.layers().values():
            x = layer(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, attention: Attention = None
) -> ResNet:
    """ResNet-18: 11,689,512 parameters with 1000 classes."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels=in_channels, norm=norm, attention=attention)


def resnet34(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, attention: Attention = None
) -> ResNet:
    """ResNet-34: 21,797,672 parameters with 1000 classes."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels=in_channels, norm=norm, attention=attention)


def resnet50(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, attention: Attention = None
) -> ResNet:
    """ResNet-50: 25,557,032 parameters with 1000 classes."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels=in_channels, norm=norm, attention=attention)


def resnet101(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, attention: Attention = None
) -> ResNet:
    """ResNet-101: 44,549,160 parameters with 1000 classes."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels=in_channels, norm=norm, attention=attention)


def resnet152(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, attention: Attention = None
) -> ResNet:
    """ResNet-152: 60,192,808 parameters with 1000 classes."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, in_channels=in_channels, norm=norm, attention=attention)

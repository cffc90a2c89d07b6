"""Darknet-19: Redmon and Farhadi, "YOLO9000: better, faster, stronger", CVPR 2017, table 6; Darknet-53: Redmon and
Farhadi, "YOLOv3: an incremental improvement", 2018, table 1.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network
from sightline.nn.backbones.yolo_v1 import init_leaky, pooled_blocks
from sightline.nn.layers import NormLayer

# (kernel, channels) of the convolutions of each block (table 6); max pooling stands between the blocks
_BLOCKS = (
    ((3, 32),),
    ((3, 64),),
    ((3, 128), (1, 64), (3, 128)),
    ((3, 256), (1, 128), (3, 256)),
    ((3, 512), (1, 256), (3, 512), (1, 256), (3, 512)),
    ((3, 1024), (1, 512), (3, 1024), (1, 512), (3, 1024)),
)
_REPEATS = (1, 2, 8, 8, 4)  # residual blocks of each stage of Darknet-53 (table 1)


class Darknet19(Network):
    """Eighteen convolutions with batch normalisation, average pooling, and a fully connected layer.

    The paper's nineteenth convolution is 1×1 with one channel per class, before the pooling. Since it is linear, a
    fully connected layer after the pooling gives the same logits with less computation.

    Args:
        num_classes: number of outputs. With 1000 there are 20,842,376 parameters: 19,802,976 weights of the
            convolutions, 14,400 scales and shifts of the normalisation layers, 1,025,000 of the last layer.
        in_channels: number of channels of the image.
        norm: normalisation layer.
    """

    def __init__(self, num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d):
        super().__init__()
        self.features, self.stages = pooled_blocks(in_channels, _BLOCKS, norm)
        self.last_channels = self.stages[-1].channels
        self.classifier = nn.Linear(self.last_channels, num_classes)
        init_leaky(self.features)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return dict(self.features.named_children())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], height and width at least 32 → logits [N, num_classes]."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(x, 1))


class _Conv(nn.Sequential):
    """Convolution, normalisation and leaky ReLU, with the names of the published weights."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, norm: NormLayer, slope: float):
        conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=norm(out), act=nn.LeakyReLU(slope, inplace=True)))


class DarkBlock(nn.Module):
    """A 1×1 convolution to half the channels and a 3×3 convolution back, with a shortcut after the activation."""

    def __init__(self, channels: int, norm: NormLayer, slope: float):
        super().__init__()
        self.conv1 = _Conv(channels, channels // 2, 1, 1, norm, slope)
        self.conv2 = _Conv(channels // 2, channels, 3, 1, norm, slope)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class DarkStage(nn.Module):
    """A 3×3 convolution of stride 2, then residual blocks.

    Attributes:
        layer, channels, stride: the attributes of a `Stage`.
    """

    def __init__(self, layer: str, channels: int, out: int, repeats: int, stride: int, norm: NormLayer, slope: float):
        super().__init__()
        self.layer, self.channels, self.stride = layer, out, stride
        self.conv_down = _Conv(channels, out, 3, 2, norm, slope)
        self.blocks = nn.Sequential(*(DarkBlock(out, norm, slope) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.conv_down(x))


class Darknet53(Network):
    """Fifty-two convolutions in residual blocks, average pooling, and a fully connected layer, without max pooling.

    The state dict has the keys and shapes of timm's `darknet53`, whose weights can be loaded.

    Args:
        num_classes: number of outputs; 41,609,928 parameters with 1000.
        in_channels: number of channels of the image.
        norm: normalisation layer.
        slope: negative slope of the leaky ReLU: 0.1 in the authors' networks, 0.01 in timm's weights.

    Attributes:
        stages: the five stages, with the attributes of a `Stage`.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = nn.BatchNorm2d,
        slope: float = 0.1,
    ):
        super().__init__()
        stem = 32
        self.stem = nn.Sequential()
        self.stem.add_module("conv1", _Conv(in_channels, stem, 3, 1, norm, slope))
        self.stages = nn.Sequential(
            *(
                DarkStage(f"stage{i}", stem * 2**i, stem * 2 ** (i + 1), repeats, 2 ** (i + 1), norm, slope)
                for i, repeats in enumerate(_REPEATS)
            )
        )
        self.last_channels = stem * 2 ** len(_REPEATS)
        self.head = nn.Sequential()
        self.head.add_module("fc", nn.Linear(self.last_channels, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=slope)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return {"stem": self.stem, **{f"stage{i}": stage for i, stage in enumerate(self.stages)}}

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        x = nn.functional.adaptive_avg_pool2d(self.stages(self.stem(x)), 1)
        return self.head(torch.flatten(x, 1))


def darknet19(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> Darknet19:
    """Darknet-19."""
    return Darknet19(num_classes, in_channels=in_channels, norm=norm)


def darknet53(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, slope: float = 0.1
) -> Darknet53:
    """Darknet-53; `slope` is the negative slope of the leaky ReLU."""
    return Darknet53(num_classes, in_channels=in_channels, norm=norm, slope=slope)

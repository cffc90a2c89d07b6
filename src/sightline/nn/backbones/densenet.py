"""DenseNet: Huang, Liu, van der Maaten, Weinberger, "Densely connected convolutional networks", CVPR 2017."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import NormLayer


class DenseLayer(nn.Sequential):
    """The bottleneck layer of DenseNet-B (section 3): 1×1 convolution to 4·growth channels, 3×3 to `growth` channels.

    Normalisation and ReLU come before each convolution: [N, channels, H, W] → [N, growth, H, W].
    """

    def __init__(self, channels: int, growth: int, norm: NormLayer):
        super().__init__(
            OrderedDict(
                norm1=norm(channels),
                relu1=nn.ReLU(inplace=True),
                conv1=nn.Conv2d(channels, 4 * growth, 1, bias=False),
                norm2=norm(4 * growth),
                relu2=nn.ReLU(inplace=True),
                conv2=nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
            )
        )


class DenseBlock(nn.ModuleDict):
    """Layers that each read the maps of all layers before (figure 1): [N, C, H, W] → [N, C + depth · growth, H, W]."""

    def __init__(self, depth: int, channels: int, growth: int, norm: NormLayer):
        layers = {f"denselayer{i + 1}": DenseLayer(channels + i * growth, growth, norm) for i in range(depth)}
        super().__init__(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], 1)
        return x


class Transition(nn.Sequential):
    """The layers between two blocks, which halve channels and size (section 3, "compression" with θ = 0.5)."""

    def __init__(self, channels: int, norm: NormLayer):
        super().__init__(
            OrderedDict(
                norm=norm(channels),
                relu=nn.ReLU(inplace=True),
                conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
                pool=nn.AvgPool2d(2),
            )
        )


class DenseNet(Network):
    """Stem, four dense blocks with transitions between them, pooling, one fully connected layer (table 1).

    The feature maps are those of the blocks after normalisation and ReLU, as the next convolution reads them.

    Args:
        growth: channels that each layer adds (k).
        depths: number of layers of each of the four blocks.
        num_classes: outputs of the last layer.
        in_channels: number of channels of the image.
        norm: normalisation layer.
    """

    def __init__(
        self,
        growth: int,
        depths: Sequence[int],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = nn.BatchNorm2d,
    ):
        super().__init__()
        channels = 2 * growth
        parts: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False),
            "norm0": norm(channels),
            "relu0": nn.ReLU(inplace=True),
            "pool0": nn.MaxPool2d(3, 2, 1),
        }
        self.stages = [Stage("relu0", channels, 2)]
        for number, depth in enumerate(depths, 1):
            parts[f"denseblock{number}"] = DenseBlock(depth, channels, growth, norm)
            channels += depth * growth
            last = number == len(depths)
            self.stages.append(Stage("relu5" if last else f"transition{number}_relu", channels, 2 ** (number + 1)))
            if not last:
                parts[f"transition{number}"] = Transition(channels, norm)
                channels //= 2
        parts |= {"norm5": norm(channels), "relu5": nn.ReLU(inplace=True)}
        self.features = nn.Sequential(OrderedDict(parts))
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order; transitions as their single layers."""
        found: dict[str, nn.Module] = {}
        for name, part in self.features.named_children():
            single = isinstance(part, Transition)
            found |= {f"{name}_{inner}": layer for inner, layer in part.named_children()} if single else {name: part}
        return found

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], height and width at least 29 → logits [N, num_classes]."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(x, 1))


def densenet121(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    norm: NormLayer = nn.BatchNorm2d,
    growth: int = 32,
    depths: Sequence[int] = (6, 12, 24, 16),
) -> DenseNet:
    """DenseNet-121: 7,978,856 parameters with 1000 classes."""
    return DenseNet(growth, depths, num_classes, in_channels=in_channels, norm=norm)


def densenet161(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> DenseNet:
    """DenseNet-161: 28,681,000 parameters with 1000 classes."""
    return DenseNet(48, (6, 12, 36, 24), num_classes, in_channels=in_channels, norm=norm)


def densenet169(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> DenseNet:
    """DenseNet-169: 14,149,480 parameters with 1000 classes."""
    return DenseNet(32, (6, 12, 32, 32), num_classes, in_channels=in_channels, norm=norm)


def densenet201(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> DenseNet:
    """DenseNet-201: 20,013,928 parameters with 1000 classes."""
    return DenseNet(32, (6, 12, 48, 32), num_classes, in_channels=in_channels, norm=norm)

"""SqueezeNet: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
arXiv 2016; version 1.1 of the authors' repository has 2.4 times fewer operations at the same accuracy.

The last layer is a convolution, whose map is averaged: it classifies each place of the map.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage


class Fire(nn.Module):
    """A 1×1 "squeeze" convolution, then 1×1 and 3×3 "expand" convolutions side by side (section 3.2, figure 1).

    [N, channels, H, W] → [N, 2 · expanded, H, W].
    """

    def __init__(self, channels: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.squeeze(x))
        return self.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class SqueezeNet(Network):
    """One convolution, eight fire modules, three poolings, and a 1×1 convolution as the classifier (figure 2, left).

    The published network's first convolution has no padding, so its maps have fewer than H / stride cells, and the
    coarsest of them has stride 16.

    Args:
        version: "1_0" (table 1) or "1_1", which pools earlier and has a smaller first convolution.
        num_classes: outputs of the last layer.
        in_channels: number of channels of the image.
        padded: whether the image is padded with zeros, so that maps have H / stride cells, and the last map is pooled
            to stride 32.
        dropout: dropout probability before the last convolution.
    """

    def __init__(
        self,
        version: Literal["1_0", "1_1"],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        padded: bool = False,
        dropout: float = 0.5,
    ):
        super().__init__()
        early = version == "1_1"
        kernel, channels, stride, fires = 3 if early else 7, 64 if early else 96, 2, 0
        less, more = (kernel - 2) // 2, (kernel - 1) // 2
        self.pad = nn.ZeroPad2d((less, more, less, more)) if padded else nn.Identity()
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, kernel, 2), nn.ReLU(inplace=True)]
        self.stages = [Stage("1", channels, stride)]
        for depth in (2, 2, 4) if early else (3, 4, 1):  # fire modules after each pooling
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            stride *= 2
            for _ in range(depth):
                squeezed = 16 * (fires // 2 + 1)
                layers.append(Fire(channels, squeezed, 4 * squeezed))
                channels, fires = 8 * squeezed, fires + 1
            self.stages.append(Stage(str(len(layers) - 1), channels, stride))
        self.pool = nn.MaxPool2d(2) if padded else nn.Identity()
        if padded:
            self.stages.append(Stage("pooled", channels, 2 * stride))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Conv2d(channels, num_classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)
        )
        last = self.classifier[1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module is last:
                    nn.init.normal_(module.weight, 0, 0.01)
                else:
                    nn.init.kaiming_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return {"pad": self.pad, **dict(self.features.named_children()), "pooled": self.pool}

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], height and width at least 21 → logits [N, num_classes]."""
        return torch.flatten(self.classifier(self.pool(self.features(self.pad(x)))), 1)


def squeezenet1_0(num_classes: int = 1000, *, in_channels: int = 3, padded: bool = False) -> SqueezeNet:
    """SqueezeNet 1.0: 1,248,424 parameters with 1000 classes."""
    return SqueezeNet("1_0", num_classes, in_channels=in_channels, padded=padded)


def squeezenet1_1(num_classes: int = 1000, *, in_channels: int = 3, padded: bool = False) -> SqueezeNet:
    """SqueezeNet 1.1: 1,235,496 parameters with 1000 classes."""
    return SqueezeNet("1_1", num_classes, in_channels=in_channels, padded=padded)

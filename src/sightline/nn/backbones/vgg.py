"""VGG: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.

Departures, as in the published weights: the last pooling adapts to any image size; the variants with batch
normalisation (Ioffe and Szegedy 2015) are younger than the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import NormLayer, batch_norm

# convolutions in each of the five blocks (table 1, columns A, B, D and E)
_A, _B, _D, _E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
_WIDENING = (1, 2, 4, 8, 8)


class VGG(Network):
    """Five blocks of 3×3 convolutions, each halved by max pooling, and three dense layers (table 1).

    Args:
        depths: convolutions in each of the five blocks.
        num_classes: outputs of the last layer.
        in_channels: number of channels of the image.
        norm: normalisation layer after each convolution; None in the paper.
        hidden: width of the two dense layers before the last.
        dropout: after each of these.
        width: channels of the first block, 64 in the paper; the others have 2, 4, 8 and 8 times as many.
    """

    def __init__(
        self,
        depths: Sequence[int],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer | None = None,
        hidden: int = 4096,
        dropout: float = 0.5,
        width: int = 64,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        self.stages: list[Stage] = []
        channels, starts = in_channels, []
        for number, (depth, factor) in enumerate(zip(depths, _WIDENING, strict=True)):
            starts.append(str(len(layers)))
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, factor * width, 3, padding=1))
                channels = factor * width
                if norm is not None:
                    layers.append(norm(channels))
                layers.append(nn.ReLU(inplace=True))
            self.stages.append(
                Stage(str(len(layers) - 1), channels, 2**number)
            )  # before the pooling, as detectors take it
            layers.append(nn.MaxPool2d(2))
        self.stages.append(Stage(str(len(layers) - 1), channels, 2 ** len(depths)))
        self.parts = tuple(starts)
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)  # changes nothing for images of 224×224
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return dict(self.features.named_children())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], height and width at least 32 → logits [N, num_classes]."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def vgg11(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096) -> VGG:
    """VGG-11 (column A): 132,863,336 parameters with 1000 classes."""
    return VGG(_A, num_classes, in_channels=in_channels, hidden=hidden)


def vgg11_bn(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096) -> VGG:
    """VGG-11 with batch normalisation: 132,868,840 parameters with 1000 classes."""
    return VGG(_A, num_classes, in_channels=in_channels, norm=batch_norm(), hidden=hidden)


def vgg13(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096) -> VGG:
    """VGG-13 (column B): 133,047,848 parameters with 1000 classes."""
    return VGG(_B, num_classes, in_channels=in_channels, hidden=hidden)


def vgg13_bn(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096) -> VGG:
    """VGG-13 with batch normalisation: 133,053,736 parameters with 1000 classes."""
    return VGG(_B, num_classes, in_channels=in_channels, norm=batch_norm(), hidden=hidden)


def vgg16(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096, width: int = 64) -> VGG:
    """VGG-16 (column D): 138,357,544 parameters with 1000 classes."""
    return VGG(_D, num_classes, in_channels=in_channels, hidden=hidden, width=width)


def vgg16_bn(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096, width: int = 64) -> VGG:
    """VGG-16 with batch normalisation: 138,365,992 parameters with 1000 classes."""
    return VGG(_D, num_classes, in_channels=in_channels, norm=batch_norm(), hidden=hidden, width=width)


def vgg19(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096) -> VGG:
    """VGG-19 (column E): 143,667,240 parameters with 1000 classes."""
    return VGG(_E, num_classes, in_channels=in_channels, hidden=hidden)


def vgg19_bn(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096) -> VGG:
    """VGG-19 with batch normalisation: 143,678,248 parameters with 1000 classes."""
    return VGG(_E, num_classes, in_channels=in_channels, norm=batch_norm(), hidden=hidden)

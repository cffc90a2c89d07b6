"""AlexNet: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", NeurIPS
2012, and its form for one GPU: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

The paper's network was split over two GPUs, which exchange their channels only before the third convolution and in the
dense layers: the second, fourth and fifth convolutions have two groups (figure 2). It has local response normalisation
after the first and the second convolution. The form of 2014 has neither, and fewer channels.

Departures: adaptive pooling after the last convolution, so that images may have other sizes than 224×224; weights are
initialised as PyTorch does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import local_response_norm


class AlexNet(Network):
    """Five convolutions, three overlapping max poolings, three fully connected layers.

    Args:
        num_classes: number of outputs.
        in_channels: number of channels of the image.
        hidden: width of the two fully connected layers before the last.
        dropout: dropout probability before each of these.
        widths: number of channels of each convolution.
        groups: number of groups of the second, the fourth and the fifth convolution.
        response_norm: whether local response normalisation follows the first and the second convolution.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        hidden: int = 4096,
        dropout: float = 0.5,
        widths: Sequence[int] = (64, 192, 384, 256, 256),
        groups: int = 1,
        response_norm: bool = False,
    ):
        super().__init__()
        first, second, third, fourth, fifth = widths

        def ending() -> list[nn.Module]:
            """What follows each of the first two convolutions (section 3.5)."""
            norms = [local_response_norm()] if response_norm else []
            return [nn.ReLU(inplace=True), *norms, nn.MaxPool2d(3, 2)]

        start = [nn.Conv2d(in_channels, first, 11, stride=4, padding=2), *ending()]
        start += [nn.Conv2d(first, second, 5, padding=2, groups=groups), *ending()]
        self.features = nn.Sequential(
            *start,
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(third, fourth, 3, padding=1, groups=groups),
            nn.ReLU(inplace=True),
            nn.Conv2d(fourth, fifth, 3, padding=1, groups=groups),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)  # no effect for images of 224×224
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(fifth * 6 * 6, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )
        # the last layer before each pooling, and the last pooling; without full padding, a map is up to two cells
        # smaller than the image size divided by the stride
        ends = [i for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        taken = [*(end - 1 for end in ends), ends[-1]]
        channels = (first, second, fifth, fifth)
        self.stages = [Stage(str(i), c, s) for i, c, s in zip(taken, channels, (4, 8, 16, 32), strict=True)]

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return dict(self.features.named_children())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], height and width at least 63 → logits [N, num_classes]."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def alexnet(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096) -> AlexNet:
    """AlexNet for one GPU: 61,100,840 parameters with 1000 classes."""
    return AlexNet(num_classes, in_channels=in_channels, hidden=hidden)


def alexnet_lrn(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096) -> AlexNet:
    """The network of 2012 with two groups and local response normalisation: 60,965,224 parameters with 1000 classes."""
    return AlexNet(
        num_classes,
        in_channels=in_channels,
        hidden=hidden,
        widths=(96, 256, 384, 384, 256),
        groups=2,
        response_norm=True,
    )

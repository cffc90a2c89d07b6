"""AlexNet: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", NeurIPS
2012, in the form for one GPU of Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

Departures from the 2012 paper, as in the 2014 form or in the published weights: no local response normalisation, no
grouped convolutions, 64-192-384-256-256 channels, adaptive pooling after the last convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage


class AlexNet(Network):
    """Five convolutions, three overlapping max poolings, three fully connected layers; 61,100,840 parameters.

    Args:
        num_classes: number of outputs; the number of parameters is for 1000.
        in_channels: number of channels of the image.
        hidden: width of the two fully connected layers before the last.
        dropout: dropout probability before each of these.
    """

    def __init__(self, num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096, dropout: float = 0.5):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)  # no effect for images of 224×224
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )
        # without full padding, a map is up to two cells smaller than the image size divided by the stride
        self.stages = [Stage("1", 64, 4), Stage("4", 192, 8), Stage("11", 256, 16), Stage("12", 256, 32)]

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return dict(self.features.named_children())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], height and width at least 63 → logits [N, num_classes]."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def alexnet(num_classes: int = 1000, *, in_channels: int = 3, hidden: int = 4096) -> AlexNet:
    """AlexNet for one GPU."""
    return AlexNet(num_classes, in_channels=in_channels, hidden=hidden)

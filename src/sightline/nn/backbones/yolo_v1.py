"""The classification network of YOLO v1: Redmon et al., "You only look once", CVPR 2016, sections 2.1 and 2.2.

1×1 reductions before 3×3 convolutions, as in GoogLeNet, but without branches and without normalisation layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import ConvNormAct, NormLayer

# (kernel, channels) of the convolutions of each block (figure 3); max pooling stands between the blocks
_BLOCKS = (
    ((7, 64),),
    ((3, 192),),
    ((1, 128), (3, 256), (1, 256), (3, 512)),
    (*((1, 256), (3, 512)) * 4, (1, 512), (3, 1024)),
    ((1, 512), (3, 1024)) * 2,
)

leaky = partial(nn.LeakyReLU, 0.1)
"""The activation of all layers but the last (equation 2)."""


class YOLOv1Net(Network):
    """Twenty convolutions, average pooling and a fully connected layer: the network that pretrains YOLO v1 on ImageNet.

    Args:
        num_classes: number of outputs; 23,428,136 parameters with 1000.
        in_channels: number of channels of the image.
    """

    def __init__(self, num_classes: int = 1000, *, in_channels: int = 3):
        super().__init__()
        self.features, self.stages = pooled_blocks(in_channels, _BLOCKS, norm=None, first_stride=2)
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


def pooled_blocks(
    in_channels: int, blocks: Sequence[Sequence[tuple[int, int]]], norm: NormLayer | None, first_stride: int = 1
) -> tuple[nn.Sequential, list[Stage]]:
    """Blocks of convolutions with leaky ReLU, with max pooling between the blocks.

    Args:
        in_channels: number of channels of the image.
        blocks: (kernel, channels) of each convolution of each block.
        norm: normalisation layer, or None.
        first_stride: stride of the first convolution; all others have stride 1.

    Returns:
        The layers, and the map at the end of each block.
    """
    layers: list[nn.Module] = []
    stages: list[Stage] = []
    channels, stride = in_channels, 1
    for block in blocks:
        if layers:
            layers.append(nn.MaxPool2d(2))
            stride *= 2
        for kernel, out in block:
            step = 1 if layers else first_stride
            layers.append(ConvNormAct(channels, out, kernel, step, norm=norm, act=leaky))
            channels, stride = out, stride * step
        stages.append(Stage(str(len(layers) - 1), channels, stride))
    return nn.Sequential(*layers), stages


def init_leaky(module: nn.Module) -> None:
    """Kaiming initialisation for leaky ReLU with slope 0.1 (He et al. 2015). The paper does not specify it."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0.1)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

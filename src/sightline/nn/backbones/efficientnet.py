"""EfficientNet: Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019.

Departures, as in the published weights: padding is symmetric, while the original's "same" padding of an even map pads
only right and bottom; batch normalisation of B0 to B4 has PyTorch's defaults (ε = 1e-5, momentum 0.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import ConvNormAct, NormLayer, SqueezeExcitation, StochasticDepth, batch_norm, make_divisible

Row = tuple[int, int, int, int, int]
"""Expansion t, kernel k, stride s, channels c and repeats n of a stage (table 1)."""
STAGES: tuple[Row, ...] = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_ORIGINAL_NORM = batch_norm(eps=1e-3, momentum=0.01)  # of the weights that came from the original's


class MBConv(nn.Module):
    """1×1 expansion, k×k depthwise convolution, squeeze-and-excitation, linear 1×1 projection (section 4).

    With stride 1 and equal numbers of channels, there is a shortcut, and stochastic depth on the other branch.

    Args:
        channels, out: number of input and output channels.
        kernel, stride: kernel size and stride of the depthwise convolution.
        expansion: ratio of expanded to input channels. Squeeze-and-excitation has a quarter of the input channels.
        drop: probability of stochastic depth.
        norm: normalisation layer.
    """

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int, drop: float, norm: NormLayer):
        super().__init__()
        inner = channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvNormAct(channels, inner, 1, norm=norm, act=nn.SiLU))
        layers += [
            ConvNormAct(inner, inner, kernel, stride, groups=inner, norm=norm, act=nn.SiLU),
            SqueezeExcitation(inner, max(1, channels // 4), act=nn.SiLU),
            ConvNormAct(inner, out, 1, norm=norm, act=None),
        ]
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop)
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → [N, out, H / stride, W / stride]."""
        return x + self.stochastic_depth(self.block(x)) if self.adds else self.block(x)


class EfficientNet(Network):
    """Stem, stages of `MBConv`, 1×1 convolution, pooling, fully connected layer (table 1), scaled (section 3.3).

    Args:
        width: width multiplier, a factor on all channel counts.
        depth: factor on the repeats of each stage, rounded up.
        dropout: dropout probability before the last layer.
        num_classes: outputs of the last layer.
        in_channels: number of channels of the image.
        norm: normalisation layer.
        drop: probability of stochastic depth that the last block would have but one; it grows linearly from 0.
        stages: the stages before scaling; B0's by default.
        stem: channels of the first convolution before scaling.
        last: channels of the last convolution; by default four times those of the last stage.
    """

    def __init__(
        self,
        width: float,
        depth: float,
        dropout: float,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = nn.BatchNorm2d,
        drop: float = 0.2,
        stages: Sequence[Row] = STAGES,
        stem: int = 32,
        last: int | None = None,
    ):
        super().__init__()
        channels = make_divisible(stem * width)
        parts: list[nn.Module] = [ConvNormAct(in_channels, channels, 3, 2, norm=norm, act=nn.SiLU)]
        repeats = [math.ceil(n * depth) for *_, n in stages]
        blocks_so_far, stride_so_far, ends = 0, 2, {}
        for number, ((expansion, kernel, s, c, _), count) in enumerate(zip(stages, repeats, strict=True)):
            out, blocks = make_divisible(c * width), []
            for position in range(count):
                stride, at = s if position == 0 else 1, drop * blocks_so_far / sum(repeats)
                blocks.append(self.block(number)(channels, out, kernel, stride, expansion, at, norm))
                channels, blocks_so_far = out, blocks_so_far + 1
            stride_so_far *= s
            parts.append(nn.Sequential(*blocks))
            ends[stride_so_far] = (len(parts) - 1, out)  # the last stage at each stride carries the map
        self.last_channels = last or 4 * channels
        parts.append(ConvNormAct(channels, self.last_channels, 1, norm=norm, act=nn.SiLU))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.last_channels, num_classes))
        self.stages = [Stage(str(index), out, stride) for stride, (index, out) in ends.items()]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.out_features)
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)

    def block(self, stage: int) -> Callable[..., nn.Module]:
        """The class of a stage's blocks, which takes the arguments of `MBConv`."""
        return MBConv

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return dict(self.features.named_children())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(x, 1))


def efficientnet_b0(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> EfficientNet:
    """B0 for images of 224 pixels: 5,288,548 parameters with 1000 classes."""
    return EfficientNet(1.0, 1.0, 0.2, num_classes, in_channels=in_channels, norm=norm)


def efficientnet_b1(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> EfficientNet:
    """B1 for images of 240 pixels: 7,794,184 parameters with 1000 classes."""
    return EfficientNet(1.0, 1.1, 0.2, num_classes, in_channels=in_channels, norm=norm)


def efficientnet_b2(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> EfficientNet:
    """B2 for images of 260 pixels (288 in the published weights): 9,109,994 parameters with 1000 classes."""
    return EfficientNet(1.1, 1.2, 0.3, num_classes, in_channels=in_channels, norm=norm)


def efficientnet_b3(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> EfficientNet:
    """B3 for images of 300 pixels: 12,233,232 parameters with 1000 classes."""
    return EfficientNet(1.2, 1.4, 0.3, num_classes, in_channels=in_channels, norm=norm)


def efficientnet_b4(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d) -> EfficientNet:
    """B4 for images of 380 pixels: 19,341,616 parameters with 1000 classes."""
    return EfficientNet(1.4, 1.8, 0.4, num_classes, in_channels=in_channels, norm=norm)


def efficientnet_b5(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = _ORIGINAL_NORM) -> EfficientNet:
    """B5 for images of 456 pixels: 30,389,784 parameters with 1000 classes."""
    return EfficientNet(1.6, 2.2, 0.4, num_classes, in_channels=in_channels, norm=norm)


def efficientnet_b6(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = _ORIGINAL_NORM) -> EfficientNet:
    """B6 for images of 528 pixels: 43,040,704 parameters with 1000 classes."""
    return EfficientNet(1.8, 2.6, 0.5, num_classes, in_channels=in_channels, norm=norm)


def efficientnet_b7(num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = _ORIGINAL_NORM) -> EfficientNet:
    """B7 for images of 600 pixels: 66,347,960 parameters with 1000 classes."""
    return EfficientNet(2.0, 3.1, 0.5, num_classes, in_channels=in_channels, norm=norm)

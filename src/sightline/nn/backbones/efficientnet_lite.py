"""EfficientNet-Lite: EfficientNet (Tan and Le, ICML 2019) adapted to fast inference on CPUs and phones (Liu, 2020).

Three changes to EfficientNet (Google's description of the "lite" models in the TPU repository): no
squeeze-and-excitation; ReLU6 in place of SiLU; and the stem, the last 1×1 convolution, and the number of blocks of the
first and the last stage are not scaled. Strided convolutions have TensorFlow's "same" padding, since the published
weights were trained with it.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.backbones.efficientnet import STAGES
from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import ConvNormAct, NormLayer, StochasticDepth, batch_norm, make_divisible

_PUBLISHED_NORM = batch_norm(eps=1e-3, momentum=0.01)
_STEM, _LAST = 32, 1280
FILE_MEAN, FILE_STD = 127 / 255, 128 / 255
"""Normalisation of the published weights' input, for images in [0, 1]: (x − 127) / 128 for values up to 255."""


class LiteBlock(nn.Module):
    """1×1 expansion, k×k depthwise convolution, linear 1×1 projection: `MBConv` without squeeze-and-excitation.

    Args:
        channels, out: number of input and output channels.
        kernel, stride: kernel size and stride of the depthwise convolution.
        expansion: ratio of expanded to input channels.
        drop: probability of stochastic depth.
        norm: normalisation layer.
    """

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int, drop: float, norm: NormLayer):
        super().__init__()
        inner = channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvNormAct(channels, inner, 1, norm=norm, act=nn.ReLU6))
        layers += [
            ConvNormAct(inner, inner, kernel, stride, groups=inner, norm=norm, act=nn.ReLU6, same=stride > 1),
            ConvNormAct(inner, out, 1, norm=norm, act=None),
        ]
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop)
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → [N, out, ⌈H / stride⌉, ⌈W / stride⌉]."""
        return x + self.stochastic_depth(self.block(x)) if self.adds else self.block(x)


class EfficientNetLite(Network):
    """Stem, seven stages of `LiteBlock`, 1×1 convolution to 1280 channels, pooling, fully connected layer.

    Args:
        width: width multiplier of the stages, a factor on their channel counts.
        depth: factor on the repeats of the stages, rounded up, except for the first and the last stage.
        dropout: dropout probability before the last layer.
        num_classes: outputs of the last layer.
        in_channels: number of channels of the image.
        norm: normalisation layer.
        drop: probability of stochastic depth that the last block would have but one; it grows linearly from 0.
    """

    def __init__(
        self,
        width: float,
        depth: float,
        dropout: float,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = _PUBLISHED_NORM,
        drop: float = 0.2,
    ):
        super().__init__()
        parts: list[nn.Module] = [ConvNormAct(in_channels, _STEM, 3, 2, norm=norm, act=nn.ReLU6, same=True)]
        ends = (0, len(STAGES) - 1)
        repeats = [n if i in ends else math.ceil(n * depth) for i, (*_, n) in enumerate(STAGES)]
        channels, blocks_so_far, stride_so_far, last_at = _STEM, 0, 2, {}
        for (expansion, kernel, s, c, _), count in zip(STAGES, repeats, strict=True):
            out, blocks = make_divisible(c * width), []
            for position in range(count):
                stride, at = s if position == 0 else 1, drop * blocks_so_far / sum(repeats)
                blocks.append(LiteBlock(channels, out, kernel, stride, expansion, at, norm))
                channels, blocks_so_far = out, blocks_so_far + 1
            stride_so_far *= s
            parts.append(nn.Sequential(*blocks))
            last_at[stride_so_far] = (len(parts) - 1, out)  # the last stage at each stride carries the map
        self.last_channels = _LAST
        parts.append(ConvNormAct(channels, _LAST, 1, norm=norm, act=nn.ReLU6))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(_LAST, num_classes))
        self.stages = [Stage(str(index), out, stride) for stride, (index, out) in last_at.items()]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return dict(self.features.named_children())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        x = F.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(x, 1))


def efficientnet_lite0(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = _PUBLISHED_NORM
) -> EfficientNetLite:
    """Lite0 for images of 224 pixels: 4,652,008 parameters with 1000 classes."""
    return EfficientNetLite(1.0, 1.0, 0.2, num_classes, in_channels=in_channels, norm=norm)


def efficientnet_lite1(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = _PUBLISHED_NORM
) -> EfficientNetLite:
    """Lite1 for images of 240 pixels: 5,416,680 parameters with 1000 classes."""
    return EfficientNetLite(1.0, 1.1, 0.2, num_classes, in_channels=in_channels, norm=norm)


def efficientnet_lite2(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = _PUBLISHED_NORM
) -> EfficientNetLite:
    """Lite2 for images of 260 pixels: 6,092,072 parameters with 1000 classes."""
    return EfficientNetLite(1.1, 1.2, 0.3, num_classes, in_channels=in_channels, norm=norm)


def from_published(state: dict[str, Tensor], mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """Published weights with the keys of this module, for images normalised by other means and deviations.

    The published network takes (x − 127) / 128. The difference between the two normalisations is folded into the first
    convolution and the running mean of its normalisation layer, so that one preprocessing serves all backbones. The
    result is the same, except for pixels whose window reaches into the padding, which has the colour `mean` instead of
    127.

    Args:
        state: published state dict.
        mean, std: of each channel, for images in [0, 1]; any shape of three values.

    Returns:
        The state dict of an `EfficientNetLite`.
    """
    blocks: dict[int, tuple[int, int]] = {}  # the blocks are numbered through all stages
    count = 1 + max(int(m[1]) for k in state if (m := re.match(r"_blocks\.(\d+)\.", k)))
    channels = [state[f"_blocks.{i}._project_conv.weight"].shape[0] for i in range(count)]
    stage = within = 0
    for i in range(count):
        within += 1
        if i == 0 or channels[i] != channels[i - 1]:
            stage, within = stage + 1, 0
        blocks[i] = (stage, within)
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        renamed[_renamed(key, blocks, stage + 1)] = value
    weight = state["_conv_stem.weight"].double()
    factor = (std.double().flatten() / FILE_STD)[None, :, None, None]
    offset = ((mean.double().flatten() - FILE_MEAN) / FILE_STD)[None, :, None, None]
    shift = (weight * offset).sum((1, 2, 3))
    renamed["features.0.0.weight"] = (weight * factor).to(state["_conv_stem.weight"].dtype)
    running = renamed["features.0.1.running_mean"]
    renamed["features.0.1.running_mean"] = (running.double() - shift).to(running.dtype)
    return renamed


def is_published(state: dict[str, Tensor]) -> bool:
    """Whether a state dict has the keys of the published files."""
    return "_conv_stem.weight" in state and "_blocks.0._depthwise_conv.weight" in state


def _renamed(key: str, blocks: dict[int, tuple[int, int]], last: int) -> str:
    """The key of this module for a key of the published files."""
    top = {"_conv_stem": "features.0.0", "_bn0": "features.0.1", "_fc": "classifier.1"}
    top |= {"_conv_head": f"features.{last}.0", "_bn1": f"features.{last}.1"}
    layer, _, entry = key.rpartition(".")
    if layer in top:
        return f"{top[layer]}.{entry}"
    _, number, name = layer.split(".")
    stage, within = blocks[int(number)]
    expanded = 1 if int(number) else 0  # only the first block has no expansion
    place = {
        "_expand_conv": "0.0",
        "_bn0": "0.1",
        "_depthwise_conv": f"{expanded}.0",
        "_bn1": f"{expanded}.1",
        "_project_conv": f"{expanded + 1}.0",
        "_bn2": f"{expanded + 1}.1",
    }[name]
    return f"features.{stage}.{within}.block.{place}.{entry}"

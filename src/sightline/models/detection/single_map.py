"""Backbones of detectors that look at one or two maps of stride 16, and the parts put together.

Lin et al. 2017 replaced them by pyramids; the papers before that, and those whose heads are cheap, use these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from sightline.errors import InputError
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.nn.backbones.dilation import dilate
from sightline.nn.backbones.features import FeatureMaps, Stage
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.resnet import ResNet
from sightline.nn.backbones.vgg import VGG
from sightline.nn.layers import FrozenBatchNorm2d, NormLayer

Norm = Literal["batch", "frozen"]


def vgg_body(net: VGG, trainable_layers: int) -> FeatureMaps:
    """The convolutions of a VGG up to the fifth pooling: one map of stride 16. It has five parts, its blocks."""
    body = FeatureMaps(net.layers(), [net.stages[4]])
    starts = [0, *(int(stage.layer) + 2 for stage in net.stages[:4])]
    return _freeze(body, [str(i) for i in starts], trainable_layers)


def mobilenet_v2_body(in_channels: int, norm: Norm, trainable_layers: int) -> tuple[nn.Module, FeatureMaps]:
    """MobileNet v2 and its map of stride 16, 96 channels, layer "13". It has seven parts.

    Args:
        in_channels: channels of the images.
        norm: "batch" learns the normalisation, "frozen" keeps it.
        trainable_layers: how many parts learn, counted from the end.
    """
    net = mobilenet_v2(in_channels=in_channels, norm=_norm(norm))
    body = FeatureMaps(net.layers(), [Stage("13", 96, 16)])
    return net, _freeze(body, ["0", "1", "2", "4", "7", "11", "13"], trainable_layers)


def dilated_resnet_body(
    build: Callable[..., ResNet], in_channels: int, norm: Norm, trainable_layers: int
) -> tuple[nn.Module, FeatureMaps]:
    """A ResNet with its last stage at stride 16 (R-FCN, section 2): maps "layer3" and "layer4". It has five parts."""
    net = build(in_channels=in_channels, norm=_norm(norm))
    dilate(net.get_submodule("layer4"))
    before, after = net.stages[2:]
    body = FeatureMaps(net.layers(), [before, Stage(after.layer, after.channels, 16)])
    return net, _freeze(body, ["conv1", "layer1", "layer2", "layer3", "layer4"], trainable_layers)


def imagenet_preprocess(in_channels: int, min_size: int, max_size: int) -> Preprocess:
    """Images normalised as for the backbones' published weights, their sides multiples of 32."""
    mean, std = for_channels(IMAGENET_MEAN, in_channels), for_channels(IMAGENET_STD, in_channels)
    return Preprocess(mean, std, min_size=min_size, max_size=max_size)


def _norm(norm: Norm) -> NormLayer:
    if norm not in ("batch", "frozen"):
        raise InputError(
            f"norm is {norm!r}, but must be 'batch' (learns) or 'frozen' (keeps the pretrained statistics)"
        )
    return FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d


def _freeze(body: FeatureMaps, parts: Sequence[str], trainable: int) -> FeatureMaps:
    """Leave the last `trainable` of `parts` (names of their first layers) learning."""
    if not 0 <= trainable <= len(parts):
        raise InputError(f"trainable_layers is {trainable}, but this backbone has {len(parts)} parts: give 0 to that")
    for name in list(body)[: list(body).index(parts[-trainable]) if trainable else len(body)]:
        body[name].requires_grad_(False)
    return body

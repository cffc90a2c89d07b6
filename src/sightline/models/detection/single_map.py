"""Backbones of detectors that look at one or two maps of stride 16, and the parts put together.

Lin et al. 2017 replaced them by pyramids; the papers before that, and those whose heads are cheap, use these.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from sightline.nn.backbones.dilation import dilate
from sightline.nn.backbones.features import FeatureMaps, Stage
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.resnet import ResNet
from sightline.nn.backbones.vgg import VGG
from sightline.nn.layers import Norm, norm_maker


def vgg_body(net: VGG, trainable_layers: int) -> FeatureMaps:
    """The convolutions of a VGG up to the fifth pooling: one map of stride 16. It has five parts, its blocks."""
    body = FeatureMaps(net.layers(), [net.stages[4]])
    return body.train_last(trainable_layers, net.parts)


def mobilenet_v2_body(in_channels: int, norm: Norm, trainable_layers: int) -> tuple[nn.Module, FeatureMaps]:
    """MobileNet v2 and its map of stride 16, 96 channels, layer "13". It has seven parts.

    Args:
        in_channels: channels of the images.
        norm: "batch" learns the normalisation, "frozen" keeps it.
        trainable_layers: how many parts learn, counted from the end.
    """
    net = mobilenet_v2(in_channels=in_channels, norm=norm_maker(norm))
    body = FeatureMaps(net.layers(), [Stage("13", 96, 16)])
    return net, body.train_last(trainable_layers, ["0", "1", "2", "4", "7", "11", "13"])


def dilated_resnet_body(
    build: Callable[..., ResNet], in_channels: int, norm: Norm, trainable_layers: int
) -> tuple[nn.Module, FeatureMaps]:
    """A ResNet with its last stage at stride 16 (R-FCN, section 2): maps "layer3" and "layer4". It has five parts."""
    net = build(in_channels=in_channels, norm=norm_maker(norm))
    dilate(net.get_submodule("layer4"))
    before, after = net.stages[2:]
    body = FeatureMaps(net.layers(), [before, Stage(after.layer, after.channels, 16)])
    return net, body.train_last(trainable_layers, net.parts)

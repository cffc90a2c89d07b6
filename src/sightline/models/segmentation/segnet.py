"""SegNet: Badrinarayanan, Kendall, Cipolla, "SegNet: a deep convolutional encoder-decoder architecture for image
segmentation", PAMI 2017.

VGG-16's convolutions and their mirror image (figure 2): unpooling to the positions of the maxima, then learnt
convolutions; no dense layers, so that it is small, and no skips but the positions.

Departures: images are normalised as for ImageNet's published classifiers, not by their local contrast; classes are not
balanced by their median frequency unless `losses=PixelLosses(class_weights=…)` says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from sightline.errors import InputError
from sightline.models.entry import Entry
from sightline.models.segmentation.deconvnet import MirroredVGG, Unpooled, _unpooled, normalised
from sightline.nn.backbones.vgg import vgg16_bn
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.structures import Classes


def segnet(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    width: int = 64,
    image_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Unpooled:
    """SegNet on VGG-16 with batch normalisation: 29,449,355 parameters with CamVid's 11 classes.

    Args:
        classes: names of the classes; the background is one.
        in_channels: number of channels of the images.
        width: channels of VGG's first block; 64 as published, and no other takes published weights.
        image_size: length in pixels that the shorter side is resized to; None keeps the size.
        losses: the loss, a weighted sum of per-pixel losses.
    """
    if width < 1:
        raise InputError(f"width is {width}, but must be at least 1")
    names = Classes(classes)
    net = vgg16_bn(1, in_channels=in_channels, hidden=1, width=width)
    return _unpooled(
        names, in_channels, image_size, net, MirroredVGG(net, len(names), convolution, last=1, score=3), losses
    )


def convolution(channels: int, out: int) -> nn.Sequential:
    """A 3×3 convolution that keeps the size, normalised."""
    return nn.Sequential(*normalised(nn.Conv2d(channels, out, 3, padding=1)))


ENTRIES = (
    Entry(
        name="segnet",
        builder=segnet,
        task="segmentation",
        paper="Badrinarayanan et al. 2017, SegNet",
        backbone="vgg16_bn",
    ),
)

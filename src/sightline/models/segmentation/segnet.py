"""SegNet: Badrinarayanan, Kendall, Cipolla, "SegNet: a deep convolutional encoder-decoder architecture for image
segmentation", PAMI 2017.

VGG-16's convolutions as the encoder and their mirror image as the decoder (figure 2): max unpooling to the positions of
the maxima, followed by convolutions. There are no fully connected layers, and no skips except for the positions.

Departures: images are normalised as for ImageNet classifiers, not by local contrast; classes are not balanced by median
frequency (use `losses=PixelLosses(class_weights=…)`).
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
        classes: names of the classes, including the background.
        in_channels: number of channels of the images.
        width: number of channels of VGG's first block; 64 as published, which published weights need.
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
    """A 3×3 convolution with padding and normalisation."""
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

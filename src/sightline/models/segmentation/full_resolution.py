"""A fully convolutional network that never makes the image smaller: the plainest answer, and a dear one.

Its context grows by two pixels per layer, or, with convolutions whose taps are 1, 2, 4, … pixels apart, doubles with
each: Yu and Koltun, "Multi-scale context aggregation by dilated convolutions", ICLR 2016, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from sightline.errors import InputError
from sightline.models.entry import Entry
from sightline.models.keep_size import segmenter_preprocess
from sightline.models.segmentation.segmenter import Segmenter
from sightline.nn.layers import ConvNormAct
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.structures import Classes


class FullResolution(Segmenter):
    """A stack of convolutions of stride 1 as a segmenter."""

    class_layers = r"^network\.score\."


class FullResolutionNetwork(nn.Sequential):
    """3×3 convolutions, normalised, at the image's own size, and 1×1 scores.

    Args:
        in_channels: C of the image.
        outputs: K.
        width: channels of every layer.
        layers: how many.
        dilated: taps are 1, 1, 2, 4, 8, … pixels apart, else 1.

    Attributes:
        sees: side of the square of pixels that one answer depends on.
    """

    def __init__(self, in_channels: int, outputs: int, *, width: int = 32, layers: int = 8, dilated: bool = True):
        super().__init__()
        rates = [2 ** max(0, number - 1) if dilated else 1 for number in range(layers)]
        self.sees = 1 + 2 * sum(rates)
        for number, rate in enumerate(rates):
            channels = in_channels if number == 0 else width
            self.add_module(f"layer{number}", ConvNormAct(channels, width, 3, dilation=rate))
        self.add_module("score", nn.Conv2d(width, outputs, 1))


def full_resolution_net(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    width: int = 32,
    layers: int = 8,
    dilated: bool = True,
    image_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> FullResolution:
    """A network without down-sampling.

    What it costs, with the numbers given: 65,376 + 32 K multiplications a PIXEL, for 640×480 and 3 classes 20.1 · 10⁹,
    where a U-Net on MobileNet v2 with 40 times the parameters takes 8.5; and in training about 24 maps of 32 channels
    at full size, 3 KB a pixel, 0.9 GB an image of 640×480. One answer depends on 257×257 pixels with dilation, on
    17×17 without.

    Args:
        classes: names of the classes; the background is one.
        in_channels: number of channels of the images.
        width: channels of every layer; multiplications grow with its square.
        layers: how many 3×3 convolutions.
        dilated: taps further apart from layer to layer, at no cost.
        image_size: length in pixels that the shorter side is resized to; None keeps the size.
        losses: the loss, a weighted sum of per-pixel losses.
    """
    if width < 1 or not 1 <= layers <= 12:
        raise InputError(f"width is {width} and layers {layers}, but width ≥ 1 and 1 ≤ layers ≤ 12 must hold")
    names = Classes(classes)
    network = FullResolutionNetwork(in_channels, len(names), width=width, layers=layers, dilated=dilated)
    return FullResolution(names, segmenter_preprocess(in_channels, image_size), network, loss=losses)


ENTRIES = (
    Entry(
        name="full_resolution_net",
        builder=full_resolution_net,
        task="segmentation",
        paper="Yu and Koltun 2016, Multi-scale context aggregation by dilated convolutions",
    ),
)

"""A fully convolutional network without downsampling: the simplest approach, but an expensive one.

The receptive field grows by two pixels per layer, or doubles with each layer with dilations of 1, 2, 4, …: Yu and
Koltun, "Multi-scale context aggregation by dilated convolutions", ICLR 2016, section 3.
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
    """A segmentation model with a stack of convolutions of stride 1."""

    class_layers = r"^network\.score\."


class FullResolutionNetwork(nn.Sequential):
    """3×3 convolutions with normalisation at the size of the image, and a 1×1 convolution for the scores.

    Args:
        in_channels: number of channels of the image.
        outputs: number of outputs K.
        width: number of channels of every layer.
        layers: number of layers.
        dilated: whether the dilations are 1, 1, 2, 4, 8, …; otherwise all are 1.

    Attributes:
        sees: size of the receptive field in pixels.
    """

    def __init__(self, in_channels: int, outputs: int, *, width: int = 32, layers: int = 8, dilated: bool = True):
        super().__init__()
        rates = [2 ** max(0, number - 1) if dilated else 1 for number in range(layers)]
        self.sees = 1 + 2 * sum(rates)
        for number, rate in enumerate(rates):
            channels = in_channels if number == 0 else width
            self.add_module(f"layer{number}", ConvNormAct(channels, width, 3, dilation=rate))
        self.add_module("score", nn.Conv2d(width, outputs, 1))

    def map_layers(self) -> list[nn.Module]:
        """The layer before the scores."""
        return [self[-2]]


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
    """A network without downsampling.

    With default settings it takes 65,376 + 32 K multiplications per pixel: 20.1 · 10⁹ for 640×480 pixels and 3 classes,
    where a U-Net on MobileNet v2 with 40 times the parameters takes 8.5 · 10⁹. Training stores about 24 maps of 32
    channels at full size: 3 KB per pixel, or 0.9 GB for an image of 640×480. The receptive field is 257×257 pixels with
    dilation, 17×17 without.

    Args:
        classes: names of the classes, including the background.
        in_channels: number of channels of the images.
        width: number of channels of every layer; the cost is proportional to its square.
        layers: number of 3×3 convolutions.
        dilated: whether the dilation doubles from layer to layer, at no additional cost.
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

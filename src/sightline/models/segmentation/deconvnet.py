"""DeconvNet: Noh, Hong, Han, "Learning deconvolution network for semantic segmentation", ICCV 2015.

VGG-16 as the encoder and its mirror image as the decoder: unpooling restores the positions of the maxima, transposed
convolutions densify the maps (figure 2).

Departures: whole images are segmented, while the paper combines the maps of object proposals; there is no conditional
random field; training has one stage.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.entry import Entry
from sightline.models.keep_size import segmenter_preprocess
from sightline.models.segmentation.fcn import dense_as_convolutions
from sightline.models.segmentation.segmenter import Segmenter
from sightline.models.weights import shared_keys
from sightline.nn.backbones.vgg import VGG, vgg16_bn
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.ops.upsampling import max_pool_positions, max_unpool
from sightline.structures import Classes


class Unpooled(Segmenter):
    """A segmentation model with a mirrored network."""

    class_layers = r"^network\.score\."


class MirroredVGG(nn.Module):
    """VGG's blocks as the encoder, and the same blocks in reverse as the decoder, with max unpooling.

    Args:
        net: the classifier with normalisation layers, whose convolutions are used.
        outputs: number of outputs K.
        layer: function (channels, out) → a decoder layer, which keeps the size.
        middle: layers between encoder and decoder, which keep size and channels.
        last: number of decoder layers in the finest block, before the scores.
        score: kernel size of the scoring convolution.
        least: minimum side of the input; smaller images are padded, and the padding is removed from the output.
    """

    def __init__(
        self,
        net: VGG,
        outputs: int,
        layer: Callable[[int, int], nn.Module],
        *,
        middle: nn.Module | None = None,
        last: int,
        score: int,
        least: int = 1,
    ):
        super().__init__()
        self.encoder = nn.ModuleList(blocks(net))
        self.middle = middle or nn.Identity()
        self.decoder = nn.ModuleList()
        widths = [stage.channels for stage in net.stages[:-1]]
        for number, width in reversed(list(enumerate(widths))):
            depth = sum(isinstance(part, nn.Conv2d) for part in self.encoder[number].children()) if number else last
            ends = [*[width] * depth, widths[max(0, number - 1)]]
            self.decoder.append(nn.Sequential(*(layer(a, b) for a, b in itertools.pairwise(ends))))
        self.score = nn.Conv2d(widths[0], outputs, score, padding=score // 2)
        self.least = least

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W], sides that are multiples of 32 → logits [N, K, H, W]."""
        height, width = images.shape[-2:]
        x = F.pad(images, (0, max(0, self.least - width), 0, max(0, self.least - height)))
        places = []
        for block in self.encoder:
            x = block(x)
            size = x.shape[-2], x.shape[-1]
            x, positions = max_pool_positions(x)
            places.append((positions, size))
        x = self.middle(x)
        for block, (positions, size) in zip(self.decoder, reversed(places), strict=True):
            x = block(max_unpool(x, positions, size))
        return self.score(x)[..., :height, :width]

    def map_layers(self) -> list[nn.Module]:
        """The last block of the encoder, before its pooling."""
        return [self.encoder[-1]]


def blocks(net: VGG) -> list[nn.Sequential]:
    """VGG's convolutions block by block, without the poolings."""
    found: list[list[nn.Module]] = [[]]
    for layer in net.features:
        if isinstance(layer, nn.MaxPool2d):
            found.append([])
        else:
            found[-1].append(layer)
    return [nn.Sequential(*block) for block in found[:-1]]


def deconvnet(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    window: int = 7,
    hidden: int = 4096,
    width: int = 64,
    image_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Unpooled:
    """DeconvNet on VGG-16: 251,805,653 parameters with 21 classes.

    Args:
        classes: names of the classes, including the background.
        in_channels: number of channels of the images.
        window: kernel size of the first of the two convolutions that replace VGG's fully connected layers: 7 as
            published, which needs images of at least 224 pixels; smaller images are padded.
        hidden: number of channels of these convolutions.
        width: number of channels of VGG's first block; 64 as published, which published weights need.
        image_size: length in pixels that the shorter side is resized to; None keeps the size.
        losses: the loss, a weighted sum of per-pixel losses.
    """
    if min(window, hidden, width) < 1:
        raise InputError(f"window is {window}, hidden {hidden} and width {width}, but all must be at least 1")
    names = Classes(classes)
    net = vgg16_bn(1, in_channels=in_channels, hidden=1, width=width)
    deep = 8 * width
    middle = nn.Sequential(
        *normalised(nn.Conv2d(deep, hidden, window)),
        *normalised(nn.Conv2d(hidden, hidden, 1)),
        *normalised(nn.ConvTranspose2d(hidden, deep, window)),
    )
    network = MirroredVGG(net, len(names), transposed, middle=middle, last=2, score=1, least=32 * window)
    model = _unpooled(names, in_channels, image_size, net, network, losses)
    if window == 7:
        for layer, ours in ((0, 0), (3, 3)):
            for kind in ("weight", "bias"):
                model.backbone_keys[f"classifier.{layer}.{kind}"] = f"network.middle.{ours}.{kind}"
        model.from_classifier = partial(dense_as_convolutions, hidden=hidden)
    return model


def _unpooled(
    names: Classes, in_channels: int, image_size: int | None, net: VGG, network: MirroredVGG, losses: PixelLosses
) -> Unpooled:
    for module in (network.middle, network.decoder, network.score):
        he_start(module)
    model = Unpooled(names, segmenter_preprocess(in_channels, image_size, divisor=32), network, loss=losses)
    model.recipe_defaults = model.recipe_defaults | {"lr": 1e-3}
    model.backbone_keys = shared_keys(net, model)
    return model


def normalised(layer: nn.Conv2d | nn.ConvTranspose2d) -> Sequence[nn.Module]:
    """The layer, batch normalisation, ReLU."""
    return layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU(inplace=True)


def transposed(channels: int, out: int) -> nn.Sequential:
    """A 3×3 transposed convolution that keeps the size, normalised."""
    return nn.Sequential(*normalised(nn.ConvTranspose2d(channels, out, 3, padding=1)))


def he_start(module: nn.Module) -> None:
    """Kaiming initialisation (He et al. 2015, fan-in) of layers followed by ReLU; biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            # the weight of a transposed convolution is [in, out, k, k], so PyTorch's "fan_out" is its fan-in
            mode: Literal["fan_in", "fan_out"] = "fan_out" if isinstance(layer, nn.ConvTranspose2d) else "fan_in"
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


ENTRIES = (
    Entry(
        name="deconvnet",
        builder=deconvnet,
        task="segmentation",
        paper="Noh et al. 2015, Learning deconvolution network for semantic segmentation",
        backbone="vgg16_bn",
    ),
)

"""FCN-32s, 16s and 8s: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015.

A classifier whose fully connected layers are converted to convolutions gives coarse scores. Transposed convolutions
upsample them to the size of the image, and scores of finer maps are added on the way (figure 3). Training has stages
(section 4.2): start a 16s from the weights of a 32s, and an 8s from those of a 16s (of the same widths). New layers are
initialised to zero, so that the model initially predicts the same as the one before.

Departures: skips are added without scaling, as in the paper but not in its later "at once" version; images are
normalised as for ImageNet classifiers; networks other than VGG pad their convolutions instead of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.class_outputs import Output
from sightline.models.entry import Entry
from sightline.models.keep_size import segmenter_preprocess
from sightline.models.model import State
from sightline.models.segmentation.segmenter import Segmenter
from sightline.models.weights import shared_keys
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.named import PyramidName, build_backbone
from sightline.nn.backbones.vgg import VGG, vgg16
from sightline.nn.layers.fully_convolutional import subsampled_convolution
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.ops.upsampling import bilinear_kernel
from sightline.structures import Classes, Size


class FCN(Segmenter):
    """A segmentation model with a skip network."""

    class_layers = r"^network\.(scores|ups|last)\."

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """One output per class; for the upsampling between scores, the inputs also belong to the classes."""
        found = super().class_outputs(key, shape)
        return found if key.startswith("network.scores.") else found * 2


class SkipNetwork(nn.Module):
    """Scores of the coarsest map, upsampled by 2 and added to those of the next finer map, until the last upsampling.

    Upsampling layers are initialised to bilinear interpolation; the last one is fixed, the others are trained (section
    4.3). Scoring layers are initialised to zero (sections 4.2 and 4.3).

    Args:
        encoder: images → maps, from fine to coarse, each half the size of the one before.
        channels: number of channels of each map.
        strides: stride of each map in pixels.
        outputs: number of outputs K.
        offsets: crop offsets for each skip and for the last upsampling, for encoders that pad the image. None if sizes
            double exactly.
    """

    def __init__(
        self,
        encoder: nn.Module,
        channels: Sequence[int],
        strides: Sequence[int],
        outputs: int,
        offsets: Sequence[int] | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.scores = nn.ModuleList(nn.Conv2d(c, outputs, 1) for c in reversed(channels))
        self.ups = nn.ModuleList(upsampling(outputs, 2, padded=offsets is None) for _ in channels[1:])
        self.last = upsampling(outputs, strides[0], padded=offsets is None).requires_grad_(False)
        self.offsets = [0] * len(channels) if offsets is None else list(offsets)
        for score in self.scores:
            nn.init.zeros_(score.weight)  # type: ignore[arg-type]
            nn.init.zeros_(score.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, K, H, W]."""
        found = self.encoder(images)
        coarsest, *finer = reversed(list(found.values() if isinstance(found, Mapping) else found))
        x = self.scores[0](coarsest)
        for score, up, skip, offset in zip(self.scores[1:], self.ups, finer, self.offsets[:-1], strict=True):
            x = up(x)
            x = x + cut(score(skip), offset, x.shape[-2:])
        return cut(self.last(x), self.offsets[-1], images.shape[-2:])

    def map_layers(self) -> list[nn.Module]:
        """Those of the encoder."""
        return map_layers(self.encoder)


class ConvolutionalVGG(nn.Module):
    """VGG-16 with its first two fully connected layers as convolutions, on an image padded by 100 pixels.

    The padding is that of the authors' published prototxt files; the paper does not mention it. It allows images of any
    size for the unpadded 7×7 convolution. Sizes after pooling are rounded up.

    Args:
        net: the classifier, whose convolutions are used.
        hidden: number of channels of the two layers.
        skips: poolings (3 and 4) whose maps are returned in addition to the last map.
    """

    def __init__(self, net: VGG, hidden: int, skips: Sequence[int] = ()):
        super().__init__()
        self.features = net.features
        first = self.features[0]
        assert isinstance(first, nn.Conv2d)
        first.padding = (100, 100)
        poolings = [layer for layer in self.features if isinstance(layer, nn.MaxPool2d)]
        for pooling in poolings:
            pooling.ceil_mode = True
        self.taken = [list(self.features).index(poolings[number - 1]) for number in skips]
        widths = [stage.channels for stage in net.stages]
        self.channels = [*(widths[number - 1] for number in skips), hidden]
        self.dense = nn.Sequential(
            nn.Conv2d(widths[-1], hidden, 7),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(),
        )
        for layer in self.dense:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, C, H, W] → maps of the chosen poolings and of the last layer, from fine to coarse."""
        maps = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taken:
                maps.append(x)
        return [*maps, self.dense(x)]

    def map_layers(self) -> list[nn.Module]:
        """The fully connected layers, whose map is the last."""
        return [self.dense]


def upsampling(channels: int, factor: int, *, padded: bool) -> nn.ConvTranspose2d:
    """A transposed convolution of kernel size 2 · factor, initialised to bilinear interpolation (section 3.3).

    Args:
        channels: number of channels K.
        factor: upsampling factor, an even number.
        padded: whether half of `factor` is cropped from each border, so that the output is exactly `factor` times as
            large.
    """
    layer = nn.ConvTranspose2d(channels, channels, 2 * factor, factor, padding=factor // 2 if padded else 0, bias=False)
    with torch.no_grad():
        layer.weight.copy_(bilinear_kernel(channels, factor))
    return layer


def cut(x: Tensor, offset: int, size: Size | torch.Size) -> Tensor:
    """Crop [..., h, w] of a map, starting `offset` cells from its top-left corner."""
    return x[..., offset : offset + size[0], offset : offset + size[1]]


def dense_as_convolutions(state: State, hidden: int, cells: int = 7) -> State:
    """The state dict of a VGG classifier with its first two fully connected layers reshaped to convolutions.

    For fewer than the published 4096 outputs, evenly spaced outputs are used, as in DeepLab. Layers that are NaN, as in
    files with only the convolutions, are omitted.
    """
    state = dict(state)
    for layer, side in (("classifier.0", cells), ("classifier.3", 1)):
        weight, bias = state.pop(f"{layer}.weight", None), state.pop(f"{layer}.bias", None)
        if weight is None or bias is None or not (weight.isfinite().all() and bias.isfinite().all()):
            continue
        whole = weight.ndim == 2 and weight.shape[0] % hidden == 0 and weight.shape[1] % side**2 == 0
        inputs = 0 if not whole else weight.shape[1] // side**2 if side > 1 else hidden
        if whole and (side > 1 or weight.shape[1] % hidden == 0):  # otherwise its shape raises an error later
            step = weight.shape[0] // hidden
            weight, bias = subsampled_convolution(weight, side, (hidden, inputs, side, side)), bias[::step]
        state |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
    return state


_SKIPS: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {
    1: ((), (19,)),
    2: ((4,), (5, 27)),
    3: ((3, 4), (5, 9, 31)),
}
"""For each number of maps: the poolings whose scores are added, and the crop offsets that align the scores. The offsets
follow from the padding of 100 pixels: cell i of the last map is centred at pixel 32 i + 12.5 of the image, cell i of
the fourth pooling at 16 i − 91.5, cell i of the third pooling at 8 i − 95.5."""


def fcn_vgg16(
    classes: Iterable[str],
    *,
    maps: Literal[1, 2, 3] = 3,
    in_channels: int = 3,
    hidden: int = 4096,
    width: int = 64,
    image_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> FCN:
    """FCN on VGG-16, with padding around the image as in the authors' networks.

    Args:
        classes: names of the classes, including the background.
        maps: number of maps with scores: 1 for FCN-32s, 2 for 16s, 3 for 8s.
        in_channels: number of channels of the images.
        hidden: number of channels of the two convolutions that replace fully connected layers; 4096 as published.
        width: number of channels of VGG's first block; 64 as published, which published weights need.
        image_size: length in pixels that the shorter side is resized to; None keeps the size.
        losses: the loss, a weighted sum of per-pixel losses.
    """
    if hidden < 1 or width < 1:
        raise InputError(f"hidden is {hidden} and width {width}, but both must be at least 1")
    names, (skips, offsets) = Classes(classes), _SKIPS[maps]
    net = vgg16(1, in_channels=in_channels, hidden=1, width=width)  # its fully connected layers are replaced
    encoder = ConvolutionalVGG(net, hidden, skips)
    strides = [*(2**number for number in skips), 32]
    network = SkipNetwork(encoder, encoder.channels, strides, len(names), offsets)
    model = FCN(names, segmenter_preprocess(in_channels, image_size, divisor=32), network, loss=losses)
    model.recipe_defaults = model.recipe_defaults | {"lr": 1e-4}  # there are no normalisation layers
    model.backbone_keys = shared_keys(net, model)
    for layer in (0, 3):
        for kind in ("weight", "bias"):
            model.backbone_keys[f"classifier.{layer}.{kind}"] = f"network.encoder.dense.{layer}.{kind}"
    model.from_classifier = partial(dense_as_convolutions, hidden=hidden)
    return model


def fcn_skips(
    classes: Iterable[str],
    *,
    encoder: PyramidName = "mobilenet_v2",
    maps: Literal[1, 2, 3] = 3,
    in_channels: int = 3,
    image_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> FCN:
    """FCN on any encoder, whose last map replaces that of the fully connected layers.

    Args:
        classes: names of the classes, including the background.
        encoder: name of the classification network used as the encoder.
        maps: number of maps with scores: 1 for FCN-32s, 2 for 16s, 3 for 8s.
        in_channels: number of channels of the images.
        image_size: length in pixels that the shorter side is resized to; None keeps the size.
        losses: the loss, a weighted sum of per-pixel losses.
    """
    names, net = Classes(classes), build_backbone(encoder, in_channels, num_classes=1, known=PyramidName)
    finer = [stage for stage in net.stages if stage.stride in (8, 16)[3 - maps :]]
    body = net.maps_of([*finer, net.last_map])
    network = SkipNetwork(body, body.channels, body.strides, len(names))
    model = FCN(names, segmenter_preprocess(in_channels, image_size, divisor=32), network, loss=losses)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Long et al. 2015, Fully convolutional networks"


def _entry(stride: int, maps: int, encoder: str, net: str) -> Entry:
    vgg = encoder == "vgg16"
    return Entry(
        name=f"fcn{stride}s_{encoder}",
        builder=fcn_vgg16 if vgg else fcn_skips,
        task="segmentation",
        paper=_PAPER,
        summary=f"FCN-{stride}s on {net}" + (": 134,489,759 parameters with 21 classes." if vgg and maps == 3 else "."),
        backbone=encoder,
        fixed={"maps": maps} if vgg else {"maps": maps, "encoder": encoder},
    )


ENTRIES = (
    *(
        Entry(name=f"fcn{stride}s", builder=fcn_skips, task="segmentation", paper=_PAPER, fixed={"maps": maps})
        for stride, maps in ((32, 1), (16, 2), (8, 3))
    ),
    *(
        _entry(stride, maps, encoder, net)
        for encoder, net in (("vgg16", "VGG-16"), ("mobilenet_v2", "MobileNet v2"))
        for stride, maps in ((32, 1), (16, 2), (8, 3))
    ),
)

"""U-Net: Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015.

An encoder captures context, a decoder recovers resolution, and skip connections concatenate the encoder's maps to the
decoder's on each level (figure 1). `unet` without an encoder is the paper's network: its convolutions are not padded,
and the image is padded by reflection instead (figure 2, "overlap-tile"). The others have padded convolutions and batch
normalisation: `unet_small`, and `unet` with a classification network as the encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.entry import Entry
from sightline.models.keep_size import segmenter_preprocess
from sightline.models.segmentation.deconvnet import he_start
from sightline.models.segmentation.plan import plan
from sightline.models.segmentation.segmenter import Segmenter
from sightline.models.weights import shared_keys
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, PyramidName, build_backbone
from sightline.nn.layers import ConvNormAct, NormLayer
from sightline.ops.padding import mirror_pad
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.structures import Classes, Size


class UNet(Segmenter):
    """A segmentation model with a network whose last layer is called `score`."""

    class_layers = r"^network\.score\."


class UNetwork(nn.Module):
    """Figure 1: two 3×3 convolutions per level, 2×2 max pooling, and 2×2 transposed convolutions.

    Args:
        in_channels: number of channels of the image.
        outputs: number of outputs K.
        width: number of channels of the first level; each additional level has twice as many.
        depth: number of poolings.
        valid: whether convolutions are unpadded; the image is then padded by reflection, so that the output covers it.
            Otherwise height and width must be multiples of 2 ** depth.
        norm: normalisation layer after each convolution; None in the paper.
        dropout: dropout probability at the lowest level.
    """

    def __init__(
        self,
        in_channels: int,
        outputs: int,
        *,
        width: int = 64,
        depth: int = 4,
        valid: bool = True,
        norm: NormLayer | None = None,
        dropout: float = 0.5,
    ):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        inputs = [in_channels, *widths]
        self.valid, self.depth = valid, depth
        self.down = nn.ModuleList(
            _twice(a, b, valid, norm) for a, b in zip(inputs[:depth], widths[:depth], strict=True)
        )
        self.bottom = nn.Sequential(_twice(inputs[depth], widths[depth], valid, norm), nn.Dropout(dropout))
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in steps)
        self.blocks = nn.ModuleList(_twice(2 * b, b, valid, norm) for _, b in steps)
        self.score = nn.Conv2d(width, outputs, 1)
        he_start(self)

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, K, H, W]."""
        height, width = images.shape[-2:]
        x = images
        if self.valid:
            down, across = self.tile((height, width))
            margin = self.margin
            x = mirror_pad(x, margin, down - height - margin, margin, across - width - margin)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, block, skip in zip(self.ups, self.blocks, reversed(skips), strict=True):
            x = up(x)
            x = block(torch.cat([centre(skip, x.shape[-2:]), x], 1))
        return self.score(x)[..., :height, :width]

    def map_layers(self) -> list[nn.Module]:
        """The lowest level."""
        return [self.bottom]

    @property
    def margin(self) -> int:
        """Number of pixels by which the unpadded network's output is smaller on each side: 92 with four levels."""
        return 6 * 2**self.depth - 4

    def tile(self, size: Size) -> Size:
        """The smallest input whose output covers an image of size `size`: 572×572 for 388×388.

        Sizes must be even before every pooling (section 2).
        """
        step = 2**self.depth
        # rounded up without negative numbers, whose quotients ONNX rounds towards zero
        height, width = ((side + 9 * step - 5) // step * step + 4 * step - 4 for side in size)
        return height, width


class BackboneUNet(nn.Module):
    """A classification network as the encoder, and a decoder with nearest-neighbour upsampling and skip connections.

    Args:
        encoder: images → maps of strides 2, 4, 8, …, from fine to coarse.
        channels: number of channels of each step of the decoder. Each step doubles the resolution; the fifth from
            stride 32 has that of the image.
        outputs: number of outputs K.
        separable: decode with `SeparableBlock`, which is faster on CPUs, instead of two 3×3 convolutions.
        direct: add to the decoder's logits those of a 1×1 convolution of each map of stride 8 and more, as in FCN-8s
            (Long et al. 2015, section 4.2). Pretrained features then reach the logits from the first step, not through
            a decoder that starts from random numbers.
    """

    def __init__(
        self,
        encoder: FeatureMaps,
        channels: Sequence[int],
        outputs: int,
        *,
        separable: bool = False,
        direct: bool = False,
    ):
        super().__init__()
        self.encoder = encoder
        *skips, coarsest = encoder.channels
        inputs = [coarsest, *channels]
        # there is no skip at the size of the image, and none of stride 2 in networks that begin with stride 4
        beside = [*reversed(skips), *[0] * len(channels)][: len(channels)]
        block = SeparableBlock if separable else _padded_pair
        self.blocks = nn.ModuleList(
            block(a + skip, b) for a, skip, b in zip(inputs[:-1], beside, channels, strict=True)
        )
        self.score = nn.Conv2d(channels[-1], outputs, 1)
        he_start(self.blocks)
        he_start(self.score)  # a smaller initialisation takes hundreds of steps to reach confident scores
        scored = [c for c, stride in zip(encoder.channels, encoder.strides, strict=True) if stride >= _SCORED]
        self.direct = nn.ModuleList(nn.Conv2d(c, outputs, 1) for c in (scored if direct else ()))
        for layer in self.direct.parameters():
            nn.init.zeros_(layer)

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W], sides that are multiples of the coarsest stride → logits [N, K, H / s, W / s].

        The stride s is the coarsest one divided by 2 for each step of the decoder.
        """
        maps = list(self.encoder(images).values())
        x, *skips = reversed(maps)
        for block, skip in zip_longest(self.blocks, skips[: len(self.blocks)]):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x if skip is None else torch.cat([skip, x], 1))
        logits = self.score(x)
        for layer, features in zip(self.direct, maps[len(maps) - len(self.direct) :], strict=True):
            size = logits.shape[-2:]
            logits = logits + F.interpolate(layer(features), size, mode="bilinear", align_corners=False)
        return logits

    def map_layers(self) -> list[nn.Module]:
        """Those of the encoder."""
        return self.encoder.map_layers()


_SCORED = 8
"""Stride from which maps are scored directly: finer maps hold edges and colours, not classes."""


class SeparableBlock(nn.Sequential):
    """1×1 convolution, 3×3 depthwise convolution, 1×1 convolution, each with batch normalisation and ReLU.

    The first convolution reduces the concatenated maps before the depthwise one, whose time on a CPU depends on the
    number of values, not of operations.
    """

    def __init__(self, channels: int, out: int):
        super().__init__(ConvNormAct(channels, out, 1), ConvNormAct(out, out, 3, groups=out), ConvNormAct(out, out, 1))


def _padded_pair(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(ConvNormAct(channels, out), ConvNormAct(out, out))


def centre(x: Tensor, size: Size | torch.Size) -> Tensor:
    """The centre crop [..., h, w] of a map; a map of that size is returned unchanged."""
    top, left = (x.shape[-2] - size[0]) // 2, (x.shape[-1] - size[1]) // 2
    return x[..., top : top + size[0], left : left + size[1]]


def _twice(channels: int, out: int, valid: bool, norm: NormLayer | None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (channels, out):
        layers.append(nn.Conv2d(inputs, out, 3, padding=0 if valid else 1, bias=norm is None))
        if norm is not None:
            layers.append(norm(out))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def unet(
    classes: Iterable[str],
    *,
    encoder: PyramidName | None = None,
    in_channels: int = 3,
    width: int = 64,
    depth: int | None = None,
    channels: Sequence[int] = (256, 128, 64, 32, 16),
    separable: bool = False,
    output_stride: Literal[1, 2, 4] = 1,
    direct: bool = False,
    image_size: int | None = None,
    options: BackboneOptions = OPTIONS,
    losses: PixelLosses = CROSS_ENTROPY,
) -> UNet:
    """The paper's U-Net, 31,030,658 parameters for one channel and two classes; or one on any encoder.

    Args:
        classes: names of the classes, including the background.
        encoder: name of the classification network used as the encoder; None for the paper's network.
        in_channels: number of channels of the images.
        width: number of channels of the first level, without an encoder.
        depth: number of poolings, by default 4; with an encoder, the number of its maps of strides 2, 4, 8, 16 and 32
            to use, from the finest, by default 5 (networks that begin with stride 4 have no map of stride 2).
        channels: number of channels of each step of the decoder from stride 32, with an encoder; with a smaller
            `depth`, only the last values are used.
        separable: the decoder has depthwise separable convolutions, with an encoder.
        output_stride: stride of the decoder's last map, with an encoder. Logits are upsampled bilinearly from it.
            `channels` has a value for each step from stride 32 to this stride.
        direct: the encoder's maps of stride 8 and more are scored directly too, with an encoder; see `BackboneUNet`.
        image_size: length in pixels that the shorter side is resized to; None keeps the size.
        losses: the loss, a weighted sum of per-pixel losses; `PixelLosses(boundary=10)` is the paper's.
    """
    names = Classes(classes)
    if encoder is None:
        depth = 4 if depth is None else depth
        _require(width, depth, 7)
        own = UNetwork(in_channels, len(names), width=width, depth=depth)
        preprocess = segmenter_preprocess(in_channels, image_size)  # padded by reflection in the network
        model = UNet(names, preprocess, own, loss=losses)
        model.recipe_defaults = model.recipe_defaults | {"lr": 1e-4}  # no layer normalises
        return model
    depth = 5 if depth is None else depth
    skipped = {1: 0, 2: 1, 4: 2}.get(output_stride)
    if skipped is None:
        raise InputError(f"output_stride is {output_stride}, but the decoder ends at 1, 2 or 4; give one of them")
    _require(1, depth, min(5, len(channels) + skipped), 1 + skipped)
    net = build_backbone(encoder, in_channels, options, num_classes=1, known=PyramidName)
    body = net.maps((2, 4, 8, 16, 32)[:depth], options.trainable_layers)
    network = BackboneUNet(body, list(channels)[skipped - depth :], len(names), separable=separable, direct=direct)
    preprocess = segmenter_preprocess(in_channels, image_size, divisor=body.strides[-1])
    model = UNet(names, preprocess, network, loss=losses)
    model.recipe_defaults = model.recipe_defaults | {"lr": 1e-3}
    model.backbone_keys = shared_keys(net, model)
    return model


def unet_small(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    width: int = 16,
    depth: int = 4,
    image_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> UNet:
    """A padded U-Net with batch normalisation, 1.9 million parameters. Arguments as for `unet`."""
    _require(width, depth, 7)
    names = Classes(classes)
    network = UNetwork(in_channels, len(names), width=width, depth=depth, valid=False, norm=nn.BatchNorm2d, dropout=0.0)
    model = UNet(names, segmenter_preprocess(in_channels, image_size, divisor=2**depth), network, loss=losses)
    model.recipe_defaults = model.recipe_defaults | {"lr": 1e-3}
    return model


def _require(width: int, depth: int, deepest: int, least: int = 1) -> None:
    if width < 1 or not least <= depth <= deepest:
        raise InputError(f"width is {width} and depth {depth}, but width ≥ 1 and {least} ≤ depth ≤ {deepest} must hold")


_PAPER = "Ronneberger et al. 2015, U-Net"

ENTRIES = (
    Entry(name="unet", builder=unet, task="segmentation", paper=_PAPER),
    Entry(name="unet_small", builder=unet_small, task="segmentation", paper=_PAPER),
    Entry(
        name="unet_mobilenet_v2",
        builder=unet,
        task="segmentation",
        paper=_PAPER,
        summary="A U-Net on MobileNet v2.",
        fixed={"encoder": "mobilenet_v2", "width": 64},
        defaults={"depth": 5, "channels": (128, 64, 48, 32, 16)},
    ),
    Entry(
        name="unet_lite0",
        builder=unet,
        task="segmentation",
        paper=_PAPER,
        summary="A U-Net on EfficientNet-Lite0 with a light decoder that ends at stride 2: the default, fast on CPUs.",
        fixed={"encoder": "efficientnet_lite0", "width": 64},
        defaults={"depth": 5, "channels": (128, 64, 48, 32), "separable": True, "output_stride": 2, "direct": True},
        start={"norm": "frozen"},
        recipe={"lr": 3e-3},
        plan=plan,
    ),
    Entry(
        name="unet_resnet18",
        builder=unet,
        task="segmentation",
        paper=_PAPER,
        summary="A U-Net on ResNet-18; the map of stride 2 is that of its stem.",
        fixed={"encoder": "resnet18", "width": 64},
        defaults={"depth": 5},
    ),
)

"""U-Net: Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015.

A way down that gathers context, a way up that regains place, and on each level what was seen on the way down laid
beside what comes up (figure 1). `unet` is the paper's, whose convolutions pad nothing and whose image is mirrored
around instead (figure 2, "overlap-tile"); the others pad inside, with batch normalisation, `unet_small` with layers of
its own and the rest on a classifier's (`encoder`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.entry import Entry
from sightline.models.keep_size import segmenter_preprocess
from sightline.models.segmentation.deconvnet import he_start
from sightline.models.segmentation.segmenter import Segmenter
from sightline.models.weights import shared_keys
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.named import PyramidName, build_backbone
from sightline.nn.layers import ConvNormAct, NormLayer
from sightline.ops.padding import mirror_pad
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.structures import Classes, Size


class UNet(Segmenter):
    """A network whose last layer, `score`, gives the logits, as a segmenter."""

    class_layers = r"^network\.score\."


class UNetwork(nn.Module):
    """Figure 1: on each level two 3×3 convolutions, halved by max pooling, doubled by 2×2 transposed convolutions.

    Args:
        in_channels: C of the image.
        outputs: K.
        width: channels of the first level; every level down has twice as many.
        depth: how often the image is halved.
        valid: convolutions without padding, which take two pixels off each side of every level's map; the image is
            mirrored around so that the output covers it. Else they pad, and sides must be multiples of 2 ** depth.
        norm: normalisation layer after each convolution; None in the paper.
        dropout: at the bottom.
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

    @property
    def margin(self) -> int:
        """Pixels that the unpadded network takes off each side: 92 with four levels."""
        return 6 * 2**self.depth - 4

    def tile(self, size: Size) -> Size:
        """The smallest input whose output covers an image of `size`: 572×572 for 388×388.

        Every pooling must halve exactly (section 2), so that inputs are 2^depth apart.
        """
        step = 2**self.depth
        height, width = (-(-(side + 8 * step - 4) // step) * step + 4 * step - 4 for side in size)
        return height, width


class BackboneUNet(nn.Module):
    """A classifier as the way down, and a way up that doubles by copying, with every map laid beside.

    Args:
        encoder: images → maps of strides 2, 4, 8, …, from fine to coarse.
        channels: of each step of the way up, the last at the image's own size.
        outputs: K.
    """

    def __init__(self, encoder: FeatureMaps, channels: Sequence[int], outputs: int):
        super().__init__()
        self.encoder = encoder
        *skips, coarsest = encoder.channels
        inputs = [coarsest, *channels]
        beside = [*reversed(skips), 0]  # nothing lies beside at the image's own size
        self.blocks = nn.ModuleList(
            nn.Sequential(ConvNormAct(a + skip, b), ConvNormAct(b, b))
            for a, skip, b in zip(inputs[:-1], beside, channels, strict=True)
        )
        self.score = nn.Conv2d(channels[-1], outputs, 1)
        he_start(self.blocks)
        he_start(self.score)  # from nearly 0, sixteen channels would take hundreds of steps to say anything surely

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W], sides that are multiples of the coarsest stride → logits [N, K, H, W]."""
        x, *skips = reversed(self.encoder(images).values())
        for block, skip in zip(self.blocks, [*skips, None], strict=True):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x if skip is None else torch.cat([skip, x], 1))
        return self.score(x)


def centre(x: Tensor, size: Size | torch.Size) -> Tensor:
    """The middle [..., h, w] of a map; the map itself where it has that size."""
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
    image_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> UNet:
    """The paper's U-Net, 31,030,658 parameters for one channel and two classes; or one on any encoder.

    Args:
        classes: names of the classes; the background is one.
        encoder: name of the classification network that is the way down; None for the paper's own.
        in_channels: number of channels of the images.
        width: channels of the first level, of the paper's.
        depth: how often the image is halved, by default 4; on an encoder, how many of its maps of strides 2, 4, 8, 16
            and 32 are used, from the finest, by default 5.
        channels: on an encoder, of each step of the way up from stride 32; the last `depth` of them are used.
        image_size: length in pixels that the shorter side is resized to; None keeps the size.
        losses: the loss, a weighted sum of per-pixel losses. The paper's weighs boundaries: `PixelLosses(boundary=10)`.
    """
    names = Classes(classes)
    if encoder is None:
        depth = 4 if depth is None else depth
        _require(width, depth, 7)
        own = UNetwork(in_channels, len(names), width=width, depth=depth)
        preprocess = segmenter_preprocess(in_channels, image_size)  # mirrored at the image's own border
        model = UNet(names, preprocess, own, loss=losses)
        model.recipe_defaults = model.recipe_defaults | {"lr": 1e-4}  # no layer normalises
        return model
    depth = 5 if depth is None else depth
    _require(1, depth, min(5, len(channels)))
    net = build_backbone(encoder, in_channels, num_classes=1, known=PyramidName)
    body = net.maps((2, 4, 8, 16, 32)[:depth])
    network = BackboneUNet(body, list(channels)[-depth:], len(names))
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


def _require(width: int, depth: int, deepest: int) -> None:
    if width < 1 or not 1 <= depth <= deepest:
        raise InputError(f"width is {width} and depth {depth}, but width ≥ 1 and 1 ≤ depth ≤ {deepest} must hold")


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
        name="unet_resnet18",
        builder=unet,
        task="segmentation",
        paper=_PAPER,
        summary="A U-Net on ResNet-18, whose stem's map is that of stride 2.",
        fixed={"encoder": "resnet18", "width": 64},
        defaults={"depth": 5},
    ),
)

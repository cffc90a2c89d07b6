"""DeepLab v3: Chen, Papandreou, Schroff, Adam, "Rethinking atrous convolution for semantic image segmentation", 2017.

The published form: rates 12, 24 and 36 at every stride, and a 3×3 convolution between the pyramid and the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models.segmentation.fcn_resnet import DilatedNetwork, FCNHead, dilated_resnet, with_heads
from sightline.models.segmentation.segmenter import Segmenter
from sightline.nn.backbones.dilation import dilate
from sightline.nn.backbones.features import FeatureMaps, Stage
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.mobilenet_v3 import MobileNetV3, mobilenet_v3_large
from sightline.nn.backbones.resnet import ResNet, resnet50, resnet101
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.structures import Classes


class PooledNorm(nn.BatchNorm2d):
    """Batch normalisation of values pooled over the image.

    Of a batch of one image there is one value a channel: no statistics, so the running ones serve, in training, too.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class ImagePooling(nn.Sequential):
    """The mean of the whole map, its channels mixed, at every cell: [N, C, h, w] → [N, out, h, w] (section 3.3)."""

    def __init__(self, channels: int, out: int):
        super().__init__(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, out, 1, bias=False), PooledNorm(out), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return pooled.expand(-1, -1, *x.shape[-2:])  # as resized: there is one value


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling: a map seen at several spacings side by side (section 3.3, figure 5).

    Args:
        channels: C of the map.
        rates: dilation of each 3×3 convolution.
        out: channels of each branch and of the result.
        dropout: on the result.
    """

    def __init__(self, channels: int, rates: Sequence[int], out: int = 256, dropout: float = 0.5):
        super().__init__()
        kernels = [nn.Conv2d(channels, out, 1, bias=False)]
        kernels += [nn.Conv2d(channels, out, 3, padding=r, dilation=r, bias=False) for r in rates]
        branches = [nn.Sequential(kernel, nn.BatchNorm2d(out), nn.ReLU(inplace=True)) for kernel in kernels]
        self.convs = nn.ModuleList([*branches, ImagePooling(channels, out)])
        self.project = nn.Sequential(
            nn.Conv2d(len(self.convs) * out, out, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] → [N, out, h, w]."""
        return self.project(torch.cat([branch(x) for branch in self.convs], 1))


class DeepLabHead(nn.Sequential):
    """The pyramid, a 3×3 convolution, and the classes: [N, C, h, w] → [N, K, h, w]."""

    def __init__(self, channels: int, classes: int, rates: Sequence[int] = (12, 24, 36), width: int = 256):
        super().__init__(
            AtrousPyramid(channels, rates, width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, 1),
        )


def deeplabv3_resnet50(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    aux: bool = True,
    min_size: int | None = None,
    max_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Segmenter:
    """DeepLab v3 on ResNet-50 of stride 8: 42,004,074 parameters with 21 classes.

    Args:
        classes: names of the classes, the background among them.
        in_channels: channels of the images.
        aux: whether there is an auxiliary head, whose loss counts half.
        min_size, max_size: the images' sides inside the network: the shorter becomes `min_size` pixels, unless the
            longer would pass `max_size`; None for the image's own size, and for no limit. Published weights were
            measured at 520, without a limit.
        losses: what it learns by.
    """
    return _on_resnet(resnet50, classes, in_channels, aux, min_size, max_size, losses)


def deeplabv3_resnet101(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    aux: bool = True,
    min_size: int | None = None,
    max_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Segmenter:
    """DeepLab v3 on ResNet-101 of stride 8: 60,996,202 parameters with 21 classes.

    Arguments as for `deeplabv3_resnet50`.
    """
    return _on_resnet(resnet101, classes, in_channels, aux, min_size, max_size, losses)


def deeplabv3_mobilenet_v3_large(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    aux: bool = True,
    min_size: int | None = None,
    max_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Segmenter:
    """DeepLab v3 on MobileNet v3 of stride 16: 11,029,328 parameters with 21 classes.

    Arguments as for `deeplabv3_resnet50`.
    """
    names = Classes(classes)
    net, body = dilated_mobilenet_v3(in_channels)
    aux_head = FCNHead(body.channels[0], len(names)) if aux else None
    network = DilatedNetwork(body, DeepLabHead(body.channels[1], len(names)), aux_head)
    return with_heads(names, net, network, in_channels, min_size, max_size, losses)


def deeplabv3_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    aux: bool = False,
    width: int = 128,
    rates: Sequence[int] = (6, 12, 18),
    min_size: int | None = None,
    max_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Segmenter:
    """DeepLab v3 on MobileNet v2 of stride 16, for a few cores (Sandler et al. 2018, section 6.3).

    The paper's rates for that stride, and a narrow pyramid on the map of 320 channels. Other arguments as for
    `deeplabv3_resnet50`.

    Args:
        classes: names of the classes, the background among them.
        in_channels: channels of the images.
        aux: whether there is an auxiliary head.
        width: channels of the pyramid; 256 in the paper.
        rates: its spacings, in cells.
        min_size, max_size: the images' sides inside the network.
        losses: what it learns by.
    """
    names = Classes(classes)
    net = mobilenet_v2(in_channels=in_channels)
    dilate(nn.Sequential(*list(net.features)[14:18]))
    body = FeatureMaps(net.layers(), [Stage("6", 32, 8), Stage("17", 320, 16)])
    aux_head = FCNHead(body.channels[0], len(names)) if aux else None
    network = DilatedNetwork(body, DeepLabHead(body.channels[1], len(names), rates, width), aux_head)
    return with_heads(names, net, network, in_channels, min_size, max_size, losses)


def dilated_mobilenet_v3(in_channels: int) -> tuple[MobileNetV3, FeatureMaps]:
    """MobileNet v3 large with its last stage at stride 16, and its maps of 40 channels at stride 8 and of 960 at 16.

    All kernels of the last stage have holes of 2, the first one, too, and the map of stride 8 is the first of three
    blocks', as published.
    """
    net = mobilenet_v3_large(in_channels=in_channels)
    dilate(nn.Sequential(*list(net.features)[13:16]), rate=2)
    return net, FeatureMaps(net.layers(), [Stage("4", 40, 8), Stage("16", net.last_channels, 16)])


def _on_resnet(
    build: Callable[..., ResNet],
    classes: Iterable[str],
    in_channels: int,
    aux: bool,
    min_size: int | None,
    max_size: int | None,
    losses: PixelLosses,
) -> Segmenter:
    names = Classes(classes)
    net, body = dilated_resnet(build, in_channels)
    aux_head = FCNHead(body.channels[0], len(names)) if aux else None
    network = DilatedNetwork(body, DeepLabHead(body.channels[1], len(names)), aux_head)
    return with_heads(names, net, network, in_channels, min_size, max_size, losses)

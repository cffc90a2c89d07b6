"""DeepLab v3: Chen, Papandreou, Schroff, Adam, "Rethinking atrous convolution for semantic image segmentation", 2017.

The published form: rates 12, 24 and 36 at every stride, and a 3×3 convolution between the pyramid and the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models.entry import Entry
from sightline.models.segmentation.fcn_resnet import DilatedNetwork, FCNHead, encoder_maps, with_heads
from sightline.models.segmentation.segmenter import Segmenter
from sightline.nn.backbones.named import StridedName, build_backbone
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.structures import Classes


class PooledNorm(nn.BatchNorm2d):
    """Batch normalisation of globally pooled values.

    A batch of one image has a single value per channel, so the running statistics are used for it also in training.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class ImagePooling(nn.Sequential):
    """Global average pooling and a 1×1 convolution, at every cell: [N, C, h, w] → [N, out, h, w] (section 3.3)."""

    in_order = True  # for `fuse`

    def __init__(self, channels: int, out: int):
        super().__init__(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, out, 1, bias=False), PooledNorm(out), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return pooled.expand(-1, -1, *x.shape[-2:])  # same as resizing, since there is one value


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling: parallel convolutions with different dilations (section 3.3, figure 5).

    Args:
        channels: number of input channels.
        rates: dilation of each 3×3 convolution.
        out: number of channels of each branch and of the output.
        dropout: dropout probability on the output.
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


def deeplabv3(
    classes: Iterable[str],
    *,
    encoder: StridedName = "resnet50",
    in_channels: int = 3,
    output_stride: Literal[8, 16] = 8,
    aux: bool = True,
    width: int = 256,
    rates: Sequence[int] = (12, 24, 36),
    min_size: int | None = None,
    max_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Segmenter:
    """DeepLab v3 on any encoder that can be dilated.

    Args:
        classes: names of the classes, including the background.
        encoder: name of the classification network used as the encoder.
        in_channels: number of channels of the images.
        output_stride: stride of the last map in pixels.
        aux: whether there is an auxiliary head; its loss has a weight of 0.5.
        width: number of channels of the pyramid.
        rates: dilations of the pyramid; (6, 12, 18) in the paper for stride 16.
        min_size, max_size: the shorter side is resized to `min_size` pixels, unless the longer side would exceed
            `max_size`. `min_size` None keeps the size; `max_size` None sets no limit. Published weights were evaluated
            with a `min_size` of 520 and no limit.
        losses: the loss, a weighted sum of per-pixel losses.
    """
    names, net = Classes(classes), build_backbone(encoder, in_channels, known=StridedName)
    body = encoder_maps(net, output_stride, low=16 if output_stride == 8 else 8)
    aux_head = FCNHead(body.channels[0], len(names)) if aux else None
    network = DilatedNetwork(body, DeepLabHead(body.channels[1], len(names), rates, width), aux_head)
    return with_heads(names, net, network, in_channels, min_size, max_size, losses)


_PAPER = "Chen et al. 2017, Rethinking atrous convolution"

ENTRIES = (
    Entry(name="deeplabv3", builder=deeplabv3, task="segmentation", paper=_PAPER),
    Entry(
        name="deeplabv3_resnet50",
        builder=deeplabv3,
        task="segmentation",
        paper=_PAPER,
        summary="DeepLab v3 on ResNet-50 of stride 8: 42,004,074 parameters with 21 classes.",
        fixed={"encoder": "resnet50", "output_stride": 8},
    ),
    Entry(
        name="deeplabv3_resnet101",
        builder=deeplabv3,
        task="segmentation",
        paper=_PAPER,
        summary="DeepLab v3 on ResNet-101 of stride 8: 60,996,202 parameters with 21 classes.",
        fixed={"encoder": "resnet101", "output_stride": 8},
    ),
    Entry(
        name="deeplabv3_mobilenet_v3_large",
        builder=deeplabv3,
        task="segmentation",
        paper=f"{_PAPER}; Howard et al. 2019",
        summary="DeepLab v3 on MobileNet v3 of stride 16: 11,029,328 parameters with 21 classes.",
        fixed={"encoder": "mobilenet_v3_large", "output_stride": 16},
    ),
    Entry(
        name="deeplabv3_mobilenet_v2",
        builder=deeplabv3,
        task="segmentation",
        paper=f"{_PAPER}; Sandler et al. 2018",
        summary="DeepLab v3 on MobileNet v2 of stride 16, for CPUs (Sandler et al. 2018, section 6.3): the paper's "
        "rates for that stride, and a narrow pyramid on the map of 320 channels.",
        fixed={"encoder": "mobilenet_v2", "output_stride": 16},
        defaults={"aux": False, "width": 128, "rates": (6, 12, 18)},
    ),
)

"""Inception v3: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the inception architecture for computer vision",
CVPR 2016.

The layers are those of the published weights, which differ from table 1 in the stem. Departures: on maps smaller than
17×17, the auxiliary head pools adaptively to 5×5 cells, so that smaller images can be learned from; weights are
initialised after He et al. 2015.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.backbones.aux_heads import AuxHead, NetworkWithHeads
from sightline.nn.backbones.features import Stage
from sightline.nn.backbones.googlenet import Convolution, conv_norm_relu, init_convolutions
from sightline.nn.layers import Attention, NormLayer, Renormalise, batch_norm

_PUBLISHED_NORM = batch_norm(eps=1e-3)


class Mixed(nn.Module):
    """Branches side by side, whose outputs are concatenated, and then `se` if there is attention."""

    def __init__(self) -> None:
        super().__init__()
        self.se: nn.Module | None = None

    def branches(self, x: Tensor) -> list[Tensor]:
        """The outputs of the branches, from left to right."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat(self.branches(x), 1)
        return y if self.se is None else self.se(y)


class MixedA(Mixed):
    """Figure 5: the 5×5 of GoogLeNet beside two 3×3: [N, channels, H, W] → [N, 224 + pooled, H, W]."""

    def __init__(self, channels: int, pooled: int, conv: Convolution):
        super().__init__()
        self.branch1x1 = conv(channels, 64, 1)
        self.branch5x5_1 = conv(channels, 48, 1)
        self.branch5x5_2 = conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = conv(channels, 64, 1)
        self.branch3x3dbl_2 = conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = conv(96, 96, 3, padding=1)
        self.branch_pool = conv(channels, pooled, 1)

    def branches(self, x: Tensor) -> list[Tensor]:
        five, double = self.branch5x5_2(self.branch5x5_1(x)), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return [self.branch1x1(x), five, self.branch3x3dbl_3(double), self.branch_pool(F.avg_pool2d(x, 3, 1, 1))]


class MixedB(Mixed):
    """Figure 10: a map of half the size: [N, channels, H, W] → [N, 480 + channels, H / 2, W / 2]."""

    def __init__(self, channels: int, padding: int, conv: Convolution):
        super().__init__()
        self.padding = padding
        self.branch3x3 = conv(channels, 384, 3, 2, padding)
        self.branch3x3dbl_1 = conv(channels, 64, 1)
        self.branch3x3dbl_2 = conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = conv(96, 96, 3, 2, padding)

    def branches(self, x: Tensor) -> list[Tensor]:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return [self.branch3x3(x), double, F.max_pool2d(x, 3, 2, self.padding)]


class MixedC(Mixed):
    """Figure 6 with n = 7: 7×7 convolutions as 1×7 and 7×1: [N, channels, H, W] → [N, 768, H, W]."""

    def __init__(self, channels: int, width: int, conv: Convolution):
        super().__init__()
        across, down = partial(conv, kernel=(1, 7), padding=(0, 3)), partial(conv, kernel=(7, 1), padding=(3, 0))
        self.branch1x1 = conv(channels, 192, 1)
        self.branch7x7_1 = conv(channels, width, 1)
        self.branch7x7_2 = across(width, width)
        self.branch7x7_3 = down(width, 192)
        self.branch7x7dbl_1 = conv(channels, width, 1)
        self.branch7x7dbl_2 = down(width, width)
        self.branch7x7dbl_3 = across(width, width)
        self.branch7x7dbl_4 = down(width, width)
        self.branch7x7dbl_5 = across(width, 192)
        self.branch_pool = conv(channels, 192, 1)

    def branches(self, x: Tensor) -> list[Tensor]:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return [self.branch1x1(x), single, double, self.branch_pool(F.avg_pool2d(x, 3, 1, 1))]


class MixedD(Mixed):
    """A map of half the size again: [N, channels, H, W] → [N, 512 + channels, H / 2, W / 2]."""

    def __init__(self, channels: int, padding: int, conv: Convolution):
        super().__init__()
        self.padding = padding
        self.branch3x3_1 = conv(channels, 192, 1)
        self.branch3x3_2 = conv(192, 320, 3, 2, padding)
        self.branch7x7x3_1 = conv(channels, 192, 1)
        self.branch7x7x3_2 = conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = conv(192, 192, 3, 2, padding)

    def branches(self, x: Tensor) -> list[Tensor]:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return [self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2, self.padding)]


class MixedE(Mixed):
    """Figure 7: branches that end in 1×3 beside 3×1: [N, channels, H, W] → [N, 2048, H, W]."""

    def __init__(self, channels: int, conv: Convolution):
        super().__init__()
        across, down = partial(conv, kernel=(1, 3), padding=(0, 1)), partial(conv, kernel=(3, 1), padding=(1, 0))
        self.branch1x1 = conv(channels, 320, 1)
        self.branch3x3_1 = conv(channels, 384, 1)
        self.branch3x3_2a = across(384, 384)
        self.branch3x3_2b = down(384, 384)
        self.branch3x3dbl_1 = conv(channels, 448, 1)
        self.branch3x3dbl_2 = conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = across(384, 384)
        self.branch3x3dbl_3b = down(384, 384)
        self.branch_pool = conv(channels, 192, 1)

    def branches(self, x: Tensor) -> list[Tensor]:
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        forks = [self.branch3x3_2a(single), self.branch3x3_2b(single)]
        forks += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return [self.branch1x1(x), *forks, self.branch_pool(F.avg_pool2d(x, 3, 1, 1))]


class AuxiliaryHead(nn.Module):
    """The auxiliary classifier on the last map of stride 16 (section 4; figure 8)."""

    def __init__(self, channels: int, num_classes: int, conv: Convolution):
        super().__init__()
        self.conv0 = conv(channels, 128, 1)
        self.conv1 = conv(128, 768, 5)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → logits [N, num_classes]."""
        x = F.avg_pool2d(x, 5, 3) if min(x.shape[-2:]) >= 17 else F.adaptive_avg_pool2d(x, 5)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.conv1(self.conv0(x)), 1), 1))


class InceptionV3(NetworkWithHeads):
    """A stem, eleven modules of five kinds, average pooling and one dense layer (table 1).

    Images have at least 75×75 pixels, unless the network is padded.

    Args:
        num_classes: number of outputs.
        in_channels: number of channels of the image.
        norm: normalisation layer.
        aux_heads: whether there is an auxiliary head. Only `outputs` computes it.
        transform_input: whether images, normalised for ImageNet, are converted to −1 … 1 (`Renormalise`), for which the
            published weights were trained.
        padded: whether all convolutions and poolings have padding, so that maps have the size of the image divided by
            their stride. The published network's first layers and those that halve a map have none.
        dropout: dropout probability before the last layer.
        attention: layer after each module, such as `SqueezeExcitation` (Hu et al. 2018, figure 2); None in the paper.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = _PUBLISHED_NORM,
        aux_heads: bool = True,
        transform_input: bool = False,
        padded: bool = False,
        dropout: float = 0.5,
        attention: Attention = None,
    ):
        super().__init__()
        conv: Convolution = partial(conv_norm_relu, norm=norm)
        pad = 1 if padded else 0
        if transform_input:
            self.rescale = Renormalise(in_channels)
        self.Conv2d_1a_3x3 = conv(in_channels, 32, 3, 2, pad)
        self.Conv2d_2a_3x3 = conv(32, 32, 3, padding=pad)
        self.Conv2d_2b_3x3 = conv(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2, pad)
        self.Conv2d_3b_1x1 = conv(64, 80, 1)
        self.Conv2d_4a_3x3 = conv(80, 192, 3, padding=pad)
        self.maxpool2 = nn.MaxPool2d(3, 2, pad)
        modules: tuple[tuple[str, Mixed, int], ...] = (
            ("Mixed_5b", MixedA(192, 32, conv), 256),
            ("Mixed_5c", MixedA(256, 64, conv), 288),
            ("Mixed_5d", MixedA(288, 64, conv), 288),
            ("Mixed_6a", MixedB(288, pad, conv), 768),
            ("Mixed_6b", MixedC(768, 128, conv), 768),
            ("Mixed_6c", MixedC(768, 160, conv), 768),
            ("Mixed_6d", MixedC(768, 160, conv), 768),
            ("Mixed_6e", MixedC(768, 192, conv), 768),
            ("Mixed_7a", MixedD(768, pad, conv), 1280),
            ("Mixed_7b", MixedE(1280, conv), 2048),
            ("Mixed_7c", MixedE(2048, conv), 2048),
        )
        for name, module, out in modules:
            module.se = None if attention is None else attention(out)
            self.add_module(name, module)
        if aux_heads:
            self.aux_heads = (AuxHead("aux", "AuxLogits", "Mixed_6e"),)
            self.AuxLogits = AuxiliaryHead(768, num_classes, conv)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, num_classes)
        self.stem_stage = Stage("Conv2d_2b_3x3", 64, 2)
        ends = (("Conv2d_4a_3x3", 192), ("Mixed_5d", 288), ("Mixed_6e", 768), ("Mixed_7c", 2048))
        self.stages = [Stage(name, width, 4 * 2**i) for i, (name, width) in enumerate(ends)]
        init_convolutions(self)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return {n: child for n, child in self.named_children() if n not in ("AuxLogits", "dropout", "fc")}

    def classify(self, x: Tensor) -> Tensor:
        """[N, 2048, H / 32, W / 32] → logits [N, num_classes]."""
        return self.fc(self.dropout(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)))


def inception_v3(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    norm: NormLayer = _PUBLISHED_NORM,
    aux_heads: bool = True,
    transform_input: bool = True,
    padded: bool = False,
    attention: Attention = None,
) -> InceptionV3:
    """Inception v3 for images of 299 pixels: 23,834,568 parameters with 1000 classes, 27,161,264 with `aux_heads`."""
    return InceptionV3(
        num_classes,
        in_channels=in_channels,
        norm=norm,
        aux_heads=aux_heads,
        transform_input=transform_input,
        padded=padded,
        attention=attention,
    )

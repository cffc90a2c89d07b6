"""GoogLeNet: Szegedy et al., "Going deeper with convolutions", CVPR 2015.

`googlenet_lrn` is the paper's network. `googlenet` is the later network of the published weights: batch normalisation
(Ioffe and Szegedy 2015) after every convolution and no local response normalisation, 3×3 instead of 5×5 convolutions,
2×2 instead of 3×3 pooling before the last stage.

Departures: the auxiliary heads pool adaptively to 4×4 cells, so that images may have other sizes than 224×224; weights
are initialised after He et al. 2015, which trains without batch normalisation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.backbones.aux_heads import AuxHead, NetworkWithHeads
from sightline.nn.backbones.features import Stage
from sightline.nn.layers import Attention, NormLayer, Renormalise, batch_norm, local_response_norm

# table 1: outputs of the 1×1, of the 3×3 and its reduction, of the 5×5 and its reduction, and after pooling
_MODULES = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "maxpool3": None,
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "maxpool4": None,
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
_HEADS = (AuxHead("aux1", "aux1", "inception4a"), AuxHead("aux2", "aux2", "inception4d"))
_PUBLISHED_NORM = batch_norm(eps=1e-3)
Convolution = Callable[..., nn.Sequential]


def conv_norm_relu(
    channels: int,
    out: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    *,
    norm: NormLayer | None,
) -> nn.Sequential:
    """Convolution, normalisation and ReLU under the names of the published weights; without `norm`, it has a bias."""
    layers = OrderedDict[str, nn.Module](conv=nn.Conv2d(channels, out, kernel, stride, padding, bias=norm is None))
    if norm is not None:
        layers["bn"] = norm(out)
    layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


def init_convolutions(network: nn.Module) -> None:
    """Initialise convolutions such that activations keep their variance (He et al. 2015), with biases of 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Inception(nn.Module):
    """Four branches side by side, whose outputs are concatenated (figure 2b).

    Args:
        channels: number of input channels.
        widths: numbers of channels, a row of table 1.
        conv: function that makes a convolution.
        kernel: kernel size of the third branch.
        attention: layer after the concatenation, or None.
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, int, int, int, int, int],
        conv: Convolution,
        kernel: int,
        attention: Attention,
    ):
        super().__init__()
        one, reduce_3, three, reduce_5, five, pooled = widths
        self.branch1 = conv(channels, one, 1)
        self.branch2 = nn.Sequential(conv(channels, reduce_3, 1), conv(reduce_3, three, 3, padding=1))
        self.branch3 = nn.Sequential(
            conv(channels, reduce_5, 1), conv(reduce_5, five, kernel, padding=(kernel - 1) // 2)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(channels, pooled, 1))
        self.out_channels = one + three + five + pooled
        self.se = None if attention is None else attention(self.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → [N, out_channels, H, W]."""
        y = torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)
        return y if self.se is None else self.se(y)


class AuxiliaryHead(nn.Module):
    """Average pooling, 1×1 convolution and two dense layers on an earlier map (section 5)."""

    def __init__(self, channels: int, num_classes: int, conv: Convolution, dropout: float = 0.7):
        super().__init__()
        self.conv = conv(channels, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → logits [N, num_classes]."""
        x = torch.flatten(self.conv(F.adaptive_avg_pool2d(x, 4)), 1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class GoogLeNet(NetworkWithHeads):
    """A stem, nine Inception modules, average pooling and one dense layer (table 1; figure 3).

    Args:
        num_classes: number of outputs.
        in_channels: number of channels of the image.
        norm: normalisation layer after each convolution; None for local response normalisation in the stem.
        kernel: kernel size of the larger convolution of each module.
        last_pooling: kernel size of the pooling before the last stage.
        dropout: dropout probability before the last layer.
        aux_heads: whether there are auxiliary heads. Only `outputs` computes them.
        transform_input: whether images, normalised for ImageNet, are converted to −1 … 1 (`Renormalise`).
        attention: layer after each module, such as `SqueezeExcitation` (Hu et al. 2018, figure 2); None in the paper.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer | None = None,
        kernel: int = 5,
        last_pooling: int = 3,
        dropout: float = 0.4,
        aux_heads: bool = True,
        transform_input: bool = False,
        attention: Attention = None,
    ):
        super().__init__()
        conv: Convolution = partial(conv_norm_relu, norm=norm)
        if transform_input:
            self.rescale = Renormalise(in_channels)
        self.conv1 = conv(in_channels, 64, 7, 2, 3)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm1 = local_response_norm() if norm is None else nn.Identity()
        self.conv2 = conv(64, 64, 1)
        self.conv3 = conv(64, 192, 3, padding=1)
        self.norm2 = local_response_norm() if norm is None else nn.Identity()
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        channels, widths_of = 192, {}
        for name, widths in _MODULES.items():
            if widths is None:
                size = 3 if name == "maxpool3" else last_pooling
                self.add_module(name, nn.MaxPool2d(size, 2, ceil_mode=True))
                continue
            module = Inception(channels, widths, conv, kernel, attention)
            channels = widths_of[name] = module.out_channels
            self.add_module(name, module)
        if aux_heads:
            self.aux_heads = _HEADS
            for head in _HEADS:
                self.add_module(head.module, AuxiliaryHead(widths_of[head.layer], num_classes, conv))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        self.stem_stage = Stage("conv1", 64, 2)
        ends = (("norm2", 192), ("inception3b", 480), ("inception4e", 832), ("inception5b", channels))
        self.stages = [Stage(name, width, 4 * 2**i) for i, (name, width) in enumerate(ends)]
        init_convolutions(self)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return {n: child for n, child in self.named_children() if n not in ("aux1", "aux2", "dropout", "fc")}

    def classify(self, x: Tensor) -> Tensor:
        """[N, 1024, H / 32, W / 32] → logits [N, num_classes]."""
        return self.fc(self.dropout(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)))


def googlenet(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    norm: NormLayer = _PUBLISHED_NORM,
    aux_heads: bool = True,
    transform_input: bool = True,
    attention: Attention = None,
) -> GoogLeNet:
    """The network of the published weights: 6,624,904 parameters with 1000 classes, 13,004,888 with auxiliary heads.

    The weights were trained for images in −1 … 1, hence `transform_input`. Their auxiliary heads are random numbers.
    """
    return GoogLeNet(
        num_classes,
        in_channels=in_channels,
        norm=norm,
        kernel=3,
        last_pooling=2,
        dropout=0.2,
        aux_heads=aux_heads,
        transform_input=transform_input,
        attention=attention,
    )


def googlenet_lrn(
    num_classes: int = 1000, *, in_channels: int = 3, aux_heads: bool = True, attention: Attention = None
) -> GoogLeNet:
    """The paper's network: 6,998,552 parameters with 1000 classes, 13,378,280 with auxiliary heads."""
    return GoogLeNet(num_classes, in_channels=in_channels, aux_heads=aux_heads, attention=attention)

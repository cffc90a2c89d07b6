"""Xception: Chollet, "Xception: deep learning with depthwise separable convolutions", CVPR 2017."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import NormLayer

# channels and stride of the twelve modules, and number of separable convolutions (figure 5)
_TABLE = ((128, 2, 2), (256, 2, 2), (728, 2, 2), *((728, 1, 3),) * 8, (1024, 2, 2))


class SeparableConv(nn.Sequential):
    """3×3 depthwise and 1×1 convolution without anything in between (section 2): [N, C, H, W] → [N, out, H, W]."""

    def __init__(self, channels: int, out: int):
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        super().__init__(OrderedDict(conv1=depthwise, pointwise=nn.Conv2d(channels, out, 1, bias=False)))


class Module(nn.Module):
    """ReLU, separable convolution and normalisation, several times, with a shortcut (figure 5).

    Args:
        channels, out: number of input and output channels.
        stride: with 2, a 3×3 max pooling follows, and the shortcut is a 1×1 convolution.
        count: number of separable convolutions.
        norm: normalisation layer.
        starts_with_relu: whether a ReLU comes first; not in the first module, whose input has passed one.
        widens_first: whether the first separable convolution widens the map, or the last (exit flow).
    """

    in_order = (("skip", "skipbn"),)  # for `fuse`

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int,
        count: int,
        norm: NormLayer,
        *,
        starts_with_relu: bool = True,
        widens_first: bool = True,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(count):
            inputs = out if widens_first and i else channels
            outputs = out if widens_first or i == count - 1 else channels
            layers += [nn.ReLU(), SeparableConv(inputs, outputs), norm(outputs)]
        if stride > 1:
            layers.append(nn.MaxPool2d(3, stride, 1))
        self.rep = nn.Sequential(*layers[0 if starts_with_relu else 1 :])
        self.skip = nn.Conv2d(channels, out, 1, stride, bias=False) if stride > 1 else nn.Identity()
        self.skipbn = norm(out) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → [N, out, ⌈H / stride⌉, ⌈W / stride⌉]."""
        return self.rep(x) + self.skipbn(self.skip(x))


class Xception(Network):
    """Entry, middle and exit flow of depthwise separable convolutions, pooling, one dense layer (figure 5).

    The published network's first two convolutions have no padding, so its maps have fewer than H / stride cells.

    Args:
        num_classes: outputs of the last layer.
        in_channels: number of channels of the image.
        norm: normalisation layer.
        padded: whether the image is padded with zeros, so that maps have H / stride cells.
        dropout: dropout probability before the last layer (section 4.4).
    """

    in_order = True  # for `fuse`

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = nn.BatchNorm2d,
        padded: bool = False,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.pad = nn.ZeroPad2d((2, 3, 2, 3)) if padded else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, 32, 3, 2, bias=False)
        self.bn1 = norm(32)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = norm(64)
        self.act2 = nn.ReLU(inplace=True)
        channels, stride_so_far = 64, 2
        ends = {2: ("act2", 64)}
        for number, (out, stride, count) in enumerate(_TABLE, 1):
            first, last = number == 1, number == len(_TABLE)
            part = Module(channels, out, stride, count, norm, starts_with_relu=not first, widens_first=not last)
            self.add_module(f"block{number}", part)
            channels, stride_so_far = out, stride_so_far * stride
            ends[stride_so_far] = (f"block{number}", out)  # the last module at each stride carries the map
        for number, out in ((3, 1536), (4, 2048)):
            self.add_module(f"conv{number}", SeparableConv(channels, out))
            self.add_module(f"bn{number}", norm(out))
            self.add_module(f"act{number}", nn.ReLU(inplace=True))
            channels = out
        ends[stride_so_far] = ("act4", channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        self.stages = [Stage(layer, out, stride) for stride, (layer, out) in ends.items()]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return {name: child for name, child in self.named_children() if name not in ("dropout", "fc")}

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], height and width at least 7 → logits [N, num_classes]."""
        for layer in self.layers().values():
            x = layer(x)
        return self.fc(self.dropout(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)))


def xception(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, padded: bool = False
) -> Xception:
    """Xception for images of 299 pixels: 22,855,952 parameters with 1000 classes."""
    return Xception(num_classes, in_channels=in_channels, norm=norm, padded=padded)

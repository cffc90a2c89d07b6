"""Convolution blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.layers.convolution import Geometry, convolve
from sightline.nn.layers.norm import FrozenBatchNorm2d, NormLayer

Attention = Callable[[int], nn.Module] | None
"""Function from a number of channels C to a layer that weights a map [N, C, H, W], such as `SqueezeExcitation`; or None
for no layer."""


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value`, never more than 10 % below it.

    Rounds numbers of channels as in the published MobileNets.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


class ConvNormAct(nn.Sequential):
    """Convolution → normalisation → activation, each of the last two optional; size-preserving padding at stride 1.

    Args:
        in_channels, out_channels: number of input and output channels.
        kernel: kernel size.
        stride, groups, dilation: arguments of the convolution.
        norm: normalisation layer, or None (the convolution then has a bias).
        act: activation, called with `inplace=True`, or None.
        bias: whether the convolution has a bias; by default only without a normalisation layer.
        same: whether the convolution is a `SameConv2d`, for weights that were trained with TensorFlow.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        norm: NormLayer | None = nn.BatchNorm2d,
        act: Callable[..., nn.Module] | None = nn.ReLU,
        bias: bool | None = None,
        same: bool = False,
    ):
        padding = 0 if same else (kernel - 1) // 2 * dilation
        with_bias = norm is None if bias is None else bias
        convolution = SameConv2d if same else Conv2d
        layers: list[nn.Module] = [
            convolution(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=with_bias)
        ]
        if norm is not None:
            layers.append(norm(out_channels))
        if act is not None:
            layers.append(act(inplace=True))
        super().__init__(*layers)
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] → [N, out_channels, H', W'].

        A frozen normalisation layer is folded into the convolution, in training too: it changes the weights instead of
        the map, which is much larger.
        """
        convolution, *others = self
        norm = others[0] if others else None
        if isinstance(norm, FrozenBatchNorm2d) and isinstance(convolution, Conv2d):
            scale, shift = norm.scale_and_shift()
            weight = convolution.weight * scale[:, None, None, None]
            bias = shift if convolution.bias is None else shift + convolution.bias * scale
            return convolution.with_act(x, weight, bias, others[1] if len(others) > 1 else None)
        x = convolution(x)
        for layer in others:
            x = layer(x)
        return x


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, computed by `convolve`."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.with_act(x, weight, bias, None)

    def with_act(self, x: Tensor, weight: Tensor, bias: Tensor | None, act: nn.Module | None) -> Tensor:
        """[N, C, H, W] → [N, C', H', W'], with these weights instead of the layer's own, and an activation."""
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            y = super()._conv_forward(x, weight, bias)
            return y if act is None else act(y)
        return convolve(x, weight, bias, Geometry(self.stride, self.padding, self.dilation, self.groups), act)


class SameConv2d(Conv2d):
    """A strided convolution with TensorFlow's padding "same": an odd pixel of padding is right and bottom.

    The output has ⌈H / stride⌉ × ⌈W / stride⌉ cells. Arguments as for `nn.Conv2d`, without `padding`.

    The map itself is never padded, since copying it takes longer than the convolution. Instead of one more pixel after
    the last one, the kernel gets a first row or column of zeros; both sides are then padded alike.
    """

    def with_act(self, x: Tensor, weight: Tensor, bias: Tensor | None, act: nn.Module | None) -> Tensor:
        """As of `Conv2d`."""
        if torch.compiler.is_exporting():  # other runtimes join the padding of the map and the convolution
            x = F.pad(x, self.sides(x.shape[-2:]))
            y = F.conv2d(x, weight, bias, self.stride, 0, self.dilation, self.groups)
            return y if act is None else act(y)
        padding, leading = self.both_sides(x.shape[-2:])
        return convolve(x, weight, bias, Geometry(self.stride, padding, self.dilation, self.groups, leading), act)

    def missing(self, size: Sequence[int]) -> list[int]:
        """The pixels of padding of each axis, both sides together, for a map of size (height, width)."""
        return [missing_pixels(*axis) for axis in zip(size, self.kernel_size, self.stride, strict=True)]

    def sides(self, size: Sequence[int]) -> tuple[int, int, int, int]:
        """The padding left, right, top and bottom, as in `F.pad`."""
        height, width = self.missing(size)
        return width // 2, width - width // 2, height // 2, height - height // 2

    def both_sides(self, size: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Padding of both sides of each axis, and zeros before the kernel, for a map of size (height, width)."""
        height, width = self.missing(size)
        return ((height + 1) // 2, (width + 1) // 2), (height % 2, width % 2)

    def symmetric(self, size: Sequence[int], weight: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The kernel and the padding of both sides of each axis, for a map of size (height, width)."""
        padding, leading = self.both_sides(size)
        return Geometry(self.stride, padding, self.dilation, self.groups, leading).kernel(weight), padding


def missing_pixels(side: int, kernel: int, stride: int) -> int:
    """The pixels of padding that an axis of `side` pixels needs, on both sides together."""
    if not isinstance(side, int):  # a symbol, while a model is exported
        from torch.fx.experimental.symbolic_shapes import statically_known_true

        if statically_known_true(side % stride == 0):
            return max(kernel - stride, 0)
    # rounded up without negative numbers, whose quotients ONNX rounds towards zero
    return max(((side + stride - 1) // stride - 1) * stride + kernel - side, 0)


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation: scales each channel by a factor computed from the pooled map (Hu et al. 2018, section 3).

    Args:
        channels: number of channels C of the map [N, C, H, W].
        squeezed: number of channels of the bottleneck; None for a sixteenth of C, as in the paper.
        scale: activation of the factors: sigmoid in the paper, hard sigmoid in MobileNet v3.
        act: activation of the bottleneck: ReLU in the paper, SiLU in EfficientNet.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int | None = None,
        scale: Callable[[], nn.Module] = nn.Sigmoid,
        act: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        squeezed = max(1, channels // 16) if squeezed is None else squeezed
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = act()
        self.scale_activation = scale()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))

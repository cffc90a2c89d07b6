"""Darknet's layers, each with darknet's own rules of padding and order."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.structures import Size

_SLOPE = 0.1  # of darknet's leaky
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "leaky": lambda: nn.LeakyReLU(_SLOPE, inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "mish": lambda: nn.Mish(inplace=True),
    "swish": lambda: nn.SiLU(inplace=True),
}
"""Activation by darknet's name."""


class Weighted(nn.Sequential):
    """Layers of which a `.weights` file holds numbers."""

    def in_file(self) -> list[tuple[str, Tensor]]:
        """Names and tensors in the order of the file."""
        raise NotImplementedError


class Convolution(Weighted):
    """Convolution → batch normalisation (optional) → activation.

    Args:
        in_channels, out_channels, kernel, stride, padding, groups: of the convolution.
        normalize: with batch normalisation, and so without a bias of the convolution. Its ε is 1e-5, as in darknet on
            a GPU.
        activation: key of `ACTIVATIONS`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        padding: int,
        groups: int,
        normalize: bool,
        activation: str,
    ):
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=not normalize)
        nn.init.kaiming_normal_(conv.weight, _SLOPE)
        parts: dict[str, nn.Module] = {"conv": conv}
        if normalize:
            parts["norm"] = nn.BatchNorm2d(out_channels)
        else:
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        super().__init__(OrderedDict(parts | {"act": ACTIVATIONS[activation]()}))

    def in_file(self) -> list[tuple[str, Tensor]]:
        """Biases, then scales, means and variances of the normalisation, then weights [out, in / groups, k, k]."""
        parts = dict(self.named_children())
        conv, norm = parts["conv"], parts.get("norm")
        if norm is None:
            return [("biases", conv.bias), ("weights", conv.weight)]  # type: ignore[list-item]
        return [("biases", norm.bias), *_statistics(norm), ("weights", conv.weight)]  # type: ignore[list-item]


class Connected(Weighted):
    """Dense layer over the whole map [N, C, H, W] → [N, out, 1, 1], batch normalisation (optional), activation."""

    def __init__(self, inputs: int, outputs: int, normalize: bool, activation: str):
        dense = nn.Linear(inputs, outputs, bias=not normalize)
        parts: dict[str, nn.Module] = {"flat": nn.Flatten(), "dense": dense}
        if normalize:
            parts["norm"] = nn.BatchNorm1d(outputs)
        parts["act"] = ACTIVATIONS[activation]()
        parts["map"] = nn.Unflatten(1, (outputs, 1, 1))
        super().__init__(OrderedDict(parts))

    def in_file(self) -> list[tuple[str, Tensor]]:
        """Biases, weights [out, in], then scales, means and variances of the normalisation."""
        parts = dict(self.named_children())
        dense, norm = parts["dense"], parts.get("norm")
        bias = dense.bias if norm is None else norm.bias
        found = [("biases", bias), ("weights", dense.weight), *([] if norm is None else _statistics(norm))]
        return found  # type: ignore[return-value]


class LocallyConnected(nn.Module):
    """A convolution with separate weights at each position of the output: [N, C, H, W] → [N, out, h, w]."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int, size: Size):
        super().__init__()
        self.kernel, self.stride, self.padding, self.size = kernel, stride, padding, size
        fan_in = in_channels * kernel**2
        self.weight = nn.Parameter(torch.randn(size[0] * size[1], out_channels, fan_in) * math.sqrt(2 / fan_in))
        self.bias = nn.Parameter(torch.zeros(out_channels, *size))

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, self.kernel, padding=self.padding, stride=self.stride)  # [N, C·k·k, h·w]
        return torch.einsum("nfl,lof->nol", patches, self.weight).unflatten(-1, self.size) + self.bias


class Local(Weighted):
    """Locally connected layer → activation."""

    def __init__(self, local: LocallyConnected, activation: str):
        super().__init__(OrderedDict({"local": local, "act": ACTIVATIONS[activation]()}))

    def in_file(self) -> list[tuple[str, Tensor]]:
        """Biases [out, h, w], weights [h·w, out, in · k · k]."""
        local = self[0]
        return [("biases", local.bias), ("weights", local.weight)]  # type: ignore[list-item]


class MaxPool(nn.Module):
    """Maximum of each window. Of the padding the smaller half is on the left and at the top; the last window may reach
    beyond the map: darknet pads size − 1 in all, and so a stride of 1 keeps the map's size with any window.
    """

    def __init__(self, size: int, stride: int, padding: int):
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def output(self, side: int) -> int:
        """Cells of the output along a side of the map."""
        return (side + self.padding - self.size) // self.stride + 1

    def forward(self, x: Tensor) -> Tensor:
        before = self.padding // 2
        after = [max(0, (self.output(n) - 1) * self.stride + self.size - n - before) for n in x.shape[-2:]]
        if before or any(after):
            x = F.pad(x, (before, after[1], before, after[0]), value=-math.inf)
        return F.max_pool2d(x, self.size, self.stride)


class Route(nn.Module):
    """Maps one behind another as channels; of each map one of `groups` equal parts."""

    def __init__(self, groups: int = 1, group: int = 0):
        super().__init__()
        self.groups, self.group = groups, group

    def forward(self, *maps: Tensor) -> Tensor:
        parts = [m if self.groups == 1 else m.chunk(self.groups, 1)[self.group] for m in maps]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class Shortcut(nn.Module):
    """Sum of two maps, then an activation. Of an earlier map that is larger by a whole factor every such cell is taken;
    channels that one of them alone has are those of the first, or are left out.
    """

    def __init__(self, activation: str):
        super().__init__()
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        step = earlier.shape[-1] // x.shape[-1]
        if step > 1:
            earlier = earlier[..., ::step, ::step]
        missing = x.shape[1] - earlier.shape[1]
        if missing < 0:
            earlier = earlier[:, : x.shape[1]]
        elif missing:
            earlier = F.pad(earlier, (0, 0, 0, 0, 0, missing))
        return self.act(x + earlier)


class Upsample(nn.Module):
    """Each cell s × s times, times `scale`."""

    def __init__(self, stride: int, scale: float = 1.0):
        super().__init__()
        self.stride, self.scale = stride, scale

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=float(self.stride), mode="nearest")
        return x if self.scale == 1 else x * self.scale


class ReverseReorg(nn.Module):
    """darknet's reorg with reverse=1: [N, C, H, W] → [N, C / s², H·s, W·s]. It does not undo `DarknetReorg`, whose
    cells it orders otherwise."""

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        s = self.factor
        blocks = x.reshape(n, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return blocks.reshape(n, c // s**2, h * s, w * s)


class Crop(nn.Module):
    """The middle of the image; unless `adjust` is False, from [0, 1] to [−1, 1]."""

    def __init__(self, size: Size, adjust: bool):
        super().__init__()
        self.size, self.adjust = size, adjust

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.size
        top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
        x = x[..., top : top + height, left : left + width]
        return 2 * x - 1 if self.adjust else x


class Softmax(nn.Module):
    """Softmax over all values of an image, for each group."""

    def __init__(self, groups: int, temperature: float):
        super().__init__()
        self.groups, self.temperature = groups, temperature

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.flatten(1).unflatten(1, (self.groups, -1)) / self.temperature
        return grouped.softmax(-1).reshape(x.shape)


class Divide(nn.Module):
    """Numbers over a temperature: what a last softmax leaves to the scores."""

    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        return x if self.temperature == 1 else x / self.temperature


def _statistics(norm: nn.Module) -> list[tuple[str, Tensor]]:
    return [("scales", norm.weight), ("means", norm.running_mean), ("variances", norm.running_var)]  # type: ignore[list-item]

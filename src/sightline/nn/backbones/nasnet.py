"""NASNet-A: Zoph, Vasudevan, Shlens, Le, "Learning transferable architectures for scalable image recognition", CVPR
2018. Its cells were found by a search on small images; NASNet-A (N @ P) repeats the normal cell N times per stage.

Padding is TensorFlow's "same", as in the original. Departure: neither auxiliary head nor scheduled drop path.
"""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.nn.backbones.features import Branch, Network, Stage
from sightline.nn.layers import NormLayer, batch_norm
from sightline.nn.layers.conv import SameConv2d
from sightline.nn.layers.fuse import folded, is_foldable

Table = tuple[tuple[tuple[str, str | int], tuple[str, str | int]], ...]
"""Five combinations of two operands, which are added (figure 4): each an operation ("" is the identity) and what it
reads: "h", the cell's input, "p", that of the cell before, or the number of a combination."""
NORMAL: Table = (
    (("separable 5", "h"), ("separable 3", "p")),
    (("separable 5", "p"), ("separable 3", "p")),
    (("average 3", "h"), ("", "p")),
    (("average 3", "p"), ("average 3", "p")),
    (("separable 3", "h"), ("", "h")),
)
REDUCTION: Table = (
    (("separable 5", "h"), ("separable 7", "p")),
    (("maximum 3", "h"), ("separable 7", "p")),
    (("average 3", "h"), ("separable 5", "p")),
    (("", 1), ("average 3", 0)),
    (("separable 3", 0), ("maximum 3", "h")),
)
_NORM = batch_norm(eps=1e-3)


class Pool(nn.Module):
    """3×3 pooling with padding "same": the maximum, or the mean of the cells inside the map."""

    def __init__(self, kind: str, stride: int):
        super().__init__()
        self.kind, self.stride = kind, stride

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, ⌈H / stride⌉, ⌈W / stride⌉]."""
        # with stride 2, a map of even size has its missing row at the end, which `ceil_mode` adds
        padding = [1 if self.stride == 1 else side % 2 for side in x.shape[-2:]]
        if self.kind == "maximum":
            return F.max_pool2d(x, 3, self.stride, padding, ceil_mode=True)
        return F.avg_pool2d(x, 3, self.stride, padding, ceil_mode=True, count_include_pad=False)


class Separable(nn.Sequential):
    """ReLU, depthwise and 1×1 convolution, normalisation, all twice; only the first has the stride (appendix A.4)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, norm: NormLayer):
        layers: dict[str, nn.Module] = {}
        for i, (inputs, step) in enumerate(((channels, stride), (out, 1)), 1):
            convolutions = {
                "depthwise_conv2d": SameConv2d(inputs, inputs, kernel, step, groups=inputs, bias=False),
                "pointwise_conv2d": nn.Conv2d(inputs, out, 1, bias=False),
            }
            layers[f"act_{i}"] = nn.ReLU()
            layers[f"separable_{i}"] = nn.Sequential(OrderedDict(convolutions))
            layers[f"bn_sep_{i}"] = norm(out)
        super().__init__(OrderedDict(layers))


class Pointwise(nn.Sequential):
    """ReLU, 1×1 convolution, normalisation."""

    def __init__(self, channels: int, out: int, norm: NormLayer):
        super().__init__(OrderedDict(act=nn.ReLU(), conv=nn.Conv2d(channels, out, 1, bias=False), bn=norm(out)))


class Cell(nn.Module):
    """A normal or a reduction cell (figure 4).

    Args:
        table: `NORMAL` or `REDUCTION`, which halves the size.
        channels: number of channels of each combination.
        current, previous: number of channels of the cell's input, and of that of the cell before.
        adapts: how the previous input gets the size and channels of the cell: "halved" (two 1×1 convolutions of stride
            2, the second on the odd cells), "mixed" (a 1×1 convolution), or "kept" (the first cell).
        norm: normalisation layer.
        skips: the next cell reads this one's previous input instead of its current one.
    """

    def __init__(
        self,
        table: Table,
        channels: int,
        current: int,
        previous: int,
        adapts: str,
        norm: NormLayer,
        skips: bool = False,
    ):
        super().__init__()
        self.table, self.adapts, self.skips = table, adapts, skips
        if adapts == "halved":
            for path in ("path_1", "path_2"):
                self.add_module(path, nn.Sequential())
                self.get_submodule(path).add_module("conv", nn.Conv2d(previous, channels // 2, 1, 2, bias=False))
            self.final_path_bn = norm(channels)
        elif adapts == "mixed":
            self.conv_prev_1x1 = Pointwise(previous, channels, norm)
        self.conv_1x1 = Pointwise(current, channels, norm)
        for i, operands in enumerate(table):
            for side, (operation, source) in zip(("left", "right"), operands, strict=True):
                kind, _, size = operation.partition(" ")
                stride = 2 if table == REDUCTION and isinstance(source, str) else 1
                layer: nn.Module = nn.Identity()
                if kind == "separable":
                    inputs = previous if adapts == "kept" and source == "p" else channels
                    layer = Separable(inputs, channels, int(size), stride, norm)
                elif kind:
                    layer = Pool(kind, stride)
                self.add_module(f"comb_iter_{i}_{side}", layer)

    def forward(self, maps: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """This cell's input and that of the cell before → this cell's output, and the next cell's previous input."""
        current, previous = maps if isinstance(maps, tuple) else (maps, maps)
        p = self.adapt(previous)
        read: dict[str | int, Tensor] = {"h": self.conv_1x1(current), "p": p}
        for i, ((_, left), (_, right)) in enumerate(self.table):
            added = self.get_submodule(f"comb_iter_{i}_left")(read[left])
            read[i] = added + self.get_submodule(f"comb_iter_{i}_right")(read[right])
        found = [read[i] for i in range(len(self.table))]  # a reduction cell's first is read by others only
        out = torch.cat([p, *found] if self.table == NORMAL else found[1:], 1)
        return out, previous if self.skips else current

    def fused(self) -> Cell:
        """The same cell for inference; see `fuse`: the norm of the joined halves is folded into their convolutions."""
        cell = copy.deepcopy(self)
        if self.adapts == "halved" and is_foldable(self.final_path_bn):
            first = self.get_submodule("path_1.conv")
            second = self.get_submodule("path_2.conv")
            middle = first.out_channels
            cell.get_submodule("path_1").conv = folded(first, self.final_path_bn, slice(None, middle))
            cell.get_submodule("path_2").conv = folded(second, self.final_path_bn, slice(middle, None))
            cell.final_path_bn = nn.Identity()
        return cell

    def adapt(self, previous: Tensor) -> Tensor:
        """The previous input in the size and channels that the combinations read."""
        if self.adapts == "mixed":
            return self.conv_prev_1x1(previous)
        if self.adapts == "kept":
            return previous
        even = previous.relu()
        odd = F.pad(even, (-1, 1, -1, 1))  # the path's stride takes every second cell, of this the odd ones
        return self.final_path_bn(torch.cat([self.get_submodule("path_1")(even), self.get_submodule("path_2")(odd)], 1))


class Current(nn.Module):
    """The output of a cell after ReLU, without the map that it passes on."""

    def forward(self, maps: tuple[Tensor, Tensor]) -> Tensor:
        return maps[0].relu()


class NASNet(Network):
    """Stem, three stages of normal cells with reduction cells between them, pooling, one dense layer (figure 2, right).

    The published network's first convolution has no padding, so its maps may have fewer than H / stride cells.

    Args:
        repeats: number of normal cells of each stage (N).
        filters: channels of the last map (P), a multiple of 96.
        stem: channels of the first convolution.
        num_classes, in_channels, norm: outputs of the last layer, channels of the image, and normalisation layer.
        skips: after a reduction, the previous input is that of the reduction cell, as in the large network.
        padded: whether the image is padded with zeros, so that maps have H / stride cells.
    """

    def __init__(
        self,
        repeats: int,
        filters: int,
        stem: int,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = _NORM,
        skips: bool = False,
        padded: bool = False,
    ):
        super().__init__()
        if repeats < 1 or filters < 96 or filters % 96:
            raise InputError(f"repeats is {repeats} and filters {filters}; give repeats ≥ 1 and a multiple of 96")
        width = filters // 24
        self.pad = nn.ZeroPad2d((0, 1, 0, 1)) if padded else nn.Identity()
        self.conv0 = nn.Sequential(OrderedDict(conv=nn.Conv2d(in_channels, stem, 3, 2, bias=False), bn=norm(stem)))
        self.cell_stem_0 = Cell(REDUCTION, width // 4, stem, stem, "kept", norm)
        self.cell_stem_1 = Cell(REDUCTION, width // 2, width, stem, "halved", norm)
        self.stages = [Stage("conv0", stem, 2), Stage("map4", width, 4)]
        self.sources = {"cell_stem_0": "map4"}
        current, previous, adapts = 2 * width, width, "halved"
        for stage in range(3):
            channels = width * 2**stage
            if stage:
                cell = Cell(REDUCTION, channels, current, previous, "mixed", norm, skips)
                self.add_module(f"reduction_cell_{stage - 1}", cell)
                previous, current, adapts = previous if skips else current, 4 * channels, "halved"
            for i in range(repeats):
                name = f"cell_{stage * max(repeats, 6) + i}"  # numbered as in the published networks, of four or six
                self.add_module(name, Cell(NORMAL, channels, current, previous, adapts, norm))
                previous, current, adapts = current, 6 * channels, "mixed"
            if stage < 2:
                self.sources[name] = f"map{8 * 2**stage}"
            self.stages.append(Stage(self.sources.get(name, "act"), current, 8 * 2**stage))
        self.act = Current()
        self.dropout = nn.Dropout(0.5)
        self.last_linear = nn.Linear(current, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order; cells pass on pairs of maps."""
        found: dict[str, nn.Module] = {}
        for name, layer in self.named_children():
            if name not in ("dropout", "last_linear"):
                found[name] = layer
            if name in self.sources:
                found[self.sources[name]] = Branch(Current())
        return found

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        for layer in self.layers().values():
            x = x if isinstance(layer, Branch) else layer(x)
        return self.last_linear(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))


def nasnet_large(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    norm: NormLayer = _NORM,
    padded: bool = False,
    repeats: int = 6,
    filters: int = 4032,
) -> NASNet:
    """NASNet-A (6 @ 4032) for images of 331 pixels: 88,753,150 parameters with 1000 classes."""
    return NASNet(repeats, filters, 96, num_classes, in_channels=in_channels, norm=norm, skips=True, padded=padded)


def nasnet_mobile(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    norm: NormLayer = _NORM,
    padded: bool = False,
    repeats: int = 4,
    filters: int = 1056,
) -> NASNet:
    """NASNet-A (4 @ 1056) for images of 224 pixels: 5,289,978 parameters with 1000 classes."""
    return NASNet(repeats, filters, 32, num_classes, in_channels=in_channels, norm=norm, padded=padded)

"""Where in the image the cells of a map lie, found by following the operations that made the map.

A 3×3 convolution with stride 2 and padding 1 centres its first cell on the first pixel, not on the middle of the first
two: after five of them, the cells of a map of 7×7 lie half a cell, 16 pixels, further to the top left than those of a
grid over the 224×224 pixels. A map that is simply resized to the image is therefore displaced by that much. Here the
centre and the distance of the cells are computed, as in Dumoulin & Visin, "A guide to convolution arithmetic for deep
learning" (2016), and Araujo, Norris & Sim, "Computing receptive fields of convolutional neural networks" (2019), for
the operations that PyTorch really carries out: convolution, pooling, padding, cropping, enlarging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from sightline.structures import Size


@dataclass(frozen=True)
class Axis:
    """The cells along one axis: cell i has its centre at `first` + i · `step`, in pixels.

    0 is the centre of the first pixel.
    """

    first: float = 0.0
    step: float = 1.0

    def window(self, size: int, stride: int, padding: int, dilation: int = 1) -> Axis:
        """The cells of a convolution or pooling of these cells."""
        return Axis(self.first + ((size - 1) * dilation / 2 - padding) * self.step, self.step * stride)

    def transposed(self, size: int, stride: int, padding: int, dilation: int = 1) -> Axis:
        """The cells of a transposed convolution of these cells."""
        step = self.step / stride
        return Axis(self.first - ((size - 1) * dilation / 2 - padding) * step, step)

    def resized(self, before: int, after: int, align_corners: bool = False) -> Axis:
        """The cells of a map of `before` cells that was resized to `after`."""
        if align_corners:
            return Axis(self.first, self.step * (before - 1) / max(1, after - 1))
        factor = before / after
        return Axis(self.first + (factor / 2 - 0.5) * self.step, self.step * factor)

    def sliced(self, start: float, every: int = 1) -> Axis:
        """Every `every`th cell from `start` on; a negative start is padding."""
        return Axis(self.first + start * self.step, self.step * every)


@dataclass(frozen=True)
class Cells:
    """The places of a map's cells.

    Attributes:
        y: the rows.
        x: the columns.
        resolution: the largest distance of cells on the way to this map, in pixels; larger than that of its own cells
            after a coarser map was enlarged.
    """

    y: Axis = Axis()
    x: Axis = Axis()
    resolution: float = 1.0

    def along(self, y: Axis, x: Axis) -> Cells:
        """The cells of a map that was computed from this one."""
        return Cells(y, x, max(self.resolution, y.step, x.step))

    def rectangle(self, size: Size) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2) of what a map of `size` (h, w) covers, in pixels of the batch; a cell is a step wide."""
        (y1, y2), (x1, x2) = (
            (axis.first + 0.5 - axis.step / 2, axis.first + 0.5 + axis.step * (count - 0.5))
            for axis, count in zip((self.y, self.x), size, strict=True)
        )
        return x1, y1, x2, y2


class Placement(TorchDispatchMode):
    """Context in which the places of the cells of all maps are followed from the batch on.

    Where several maps meet, as at the end of a residual block, the mean of their places counts; where a coarse map was
    enlarged to meet a finer one, as in a feature pyramid, that of the finer one. Nothing is known of the cells after
    operations that are not followed, such as the tokens of a vision transformer.

    Args:
        inputs: the batch, [N, C, H, W].
    """

    def __init__(self, inputs: Tensor):
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = WeakTensorKeyDictionary()
        self._known[inputs] = Cells()
        self._zeros = WeakTensorKeyDictionary()  # kernels → the columns and rows of zeros before them

    def cells(self, values: Tensor) -> Cells | None:
        """The places of the cells of a map [N, C, h, w] that was computed in this context; None if not known."""
        return self._known.get(values)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        values = func(*args, **(kwargs or {}))
        made = list(_maps((values,)))
        if made:
            given = _named(func, args, kwargs or {})
            for part in made:
                cells = self._followed(func, given, part)
                if cells is not None:
                    self._known[part] = cells
        return values

    def _followed(self, func: Any, given: dict[str, Any], made: Tensor) -> Cells | None:
        places = ((source, self._known.get(source)) for source in _maps(given.values()))
        known = [(source, cells) for source, cells in places if cells is not None]
        if not known:
            if func.overloadpacket.__name__ == "constant_pad_nd":
                self._zeros[made] = given["pad"]
            return None
        source, cells = known[0]
        name = func.overloadpacket.__name__
        axes = (cells.y, cells.x)
        if name in _WINDOWS:
            zeros = self._zeros.get(given["weight"]) if "weight" in given else None
            return cells.along(*_windows(axes, given, zeros))
        if name in _RESIZED:
            corners = bool(given.get("align_corners"))
            sides = zip(axes, source.shape[-2:], made.shape[-2:], strict=True)
            return cells.along(*(axis.resized(before, after, corners) for axis, before, after in sides))
        if name in _PADDED:
            left, _, top, _ = (*given.get("pad", given.get("padding", ())), 0, 0, 0)[:4]
            return cells.along(cells.y.sliced(-top), cells.x.sliced(-left))
        if name in ("slice", "index_select"):
            return _taken(cells, given, source)
        if name in ("permute", "transpose") and not _keeps_axes(given, source.ndim):
            return None
        same = [own for other, own in known if other.shape[-2:] == made.shape[-2:]]
        return _mean(same) if same else None


_WINDOWS = ("convolution", "_convolution_pointwise", "max_pool2d_with_indices", "max_pool2d", "avg_pool2d")
_RESIZED = (
    "upsample_nearest2d",
    "_upsample_nearest_exact2d",
    "upsample_bilinear2d",
    "_upsample_bilinear2d_aa",
    "upsample_bicubic2d",
    "_upsample_bicubic2d_aa",
    "max_unpool2d",
)
_PADDED = ("constant_pad_nd", "reflection_pad2d", "replication_pad2d")


def _named(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operation by the names of its schema; defaults are left out."""
    return dict(zip(_names(func), args, strict=False)) | kwargs


@cache
def _names(func: Any) -> list[str]:
    names = [argument.name for argument in func._schema.arguments]
    return ["weight" if name == "W" else name for name in names]  # of oneDNN's convolutions


def _maps(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors with at least three axes among values and lists of values."""
    for value in values:
        if isinstance(value, Tensor):
            if value.ndim >= 3:
                yield value
        elif isinstance(value, list | tuple):
            yield from (part for part in value if isinstance(part, Tensor) and part.ndim >= 3)


def _pair(value: Any, default: int) -> tuple[int, int]:
    own = [default] if value is None or len(value) == 0 else list(value)
    return own[0], own[-1]


def _windows(axes: tuple[Axis, Axis], given: dict[str, Any], zeros: Sequence[int] | None) -> list[Axis]:
    """The cells of a convolution or pooling.

    Args:
        axes: those of its input.
        given: its arguments.
        zeros: the padding (left, right, top, bottom) of a kernel that was enlarged by zeros, as in `SameConv2d`.
    """
    weight = given.get("weight")
    sizes = tuple(weight.shape[-2:]) if weight is not None else _pair(given["kernel_size"], 1)
    strides = sizes if weight is None and not given.get("stride") else _pair(given.get("stride"), 1)
    paddings, dilations = _pair(given.get("padding"), 0), _pair(given.get("dilation"), 1)
    windows = zip(sizes, strides, paddings, dilations, strict=True)
    turned = bool(given.get("transposed"))
    if zeros is not None:
        left, right, top, bottom = (*zeros, 0, 0)[:4]
        axes = axes[0].sliced((top - bottom) / 2), axes[1].sliced((left - right) / 2)
    return [
        axis.transposed(*window) if turned else axis.window(*window) for axis, window in zip(axes, windows, strict=True)
    ]


def _taken(cells: Cells, given: dict[str, Any], source: Tensor) -> Cells | None:
    """The cells of some rows or columns; of mirrored ones those in the middle count. None if none are taken."""
    dim = int(given.get("dim", 0)) % source.ndim
    if dim < source.ndim - 2:
        return cells
    if "index" in given:
        if len(given["index"]) == 0:
            return None
        middle = (len(given["index"]) - 1) // 2
        low, *high = given["index"][middle : middle + 2].tolist()
        every = high[0] - low if high else 1
        start = low - middle * every
    else:
        start, every = given.get("start") or 0, given.get("step", 1)
        start = min(max(0, start + source.shape[dim] if start < 0 else start), source.shape[dim])
    if dim == source.ndim - 1:
        return cells.along(cells.y, cells.x.sliced(start, every))
    return cells.along(cells.y.sliced(start, every), cells.x)


def _keeps_axes(given: dict[str, Any], ndim: int) -> bool:
    """Whether the last two axes stay the last two."""
    if "dims" in given:
        return [dim % ndim for dim in given["dims"]][-2:] == [ndim - 2, ndim - 1]
    return max(given["dim0"] % ndim, given["dim1"] % ndim) < ndim - 2


def _mean(cells: list[Cells]) -> Cells | None:
    """The mean place of the finest of the maps that meet; None if their cells have different distances."""
    finest = min(own.resolution for own in cells)
    cells = [own for own in cells if own.resolution == finest]
    if len({(own.y.step, own.x.step) for own in cells}) > 1:
        return None
    y = sum(own.y.first for own in cells) / len(cells)
    x = sum(own.x.first for own in cells) / len(cells)
    return Cells(Axis(y, cells[0].y.step), Axis(x, cells[0].x.step), finest)

"""The largest value in rectangles of a map: what RoI pooling needs.

Four windows whose sides are powers of two cover a rectangle (they overlap, which a maximum does not mind), and the
maxima of all windows of one size follow from those of half the size by one comparison per cell (a sparse table: Bender
and Farach-Colton 2000, in two dimensions). So the cost of a rectangle does not depend on its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CACHE = 1 << 18  # number of bin values processed at once, so that they stay in the CPU's cache
_TABLE = 1 << 20  # number of values of a table of windows; a few tables are held at once
_LOW = (1 << 32) - 1


def largest_in_bins(features: Tensor, image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The largest cell of each bin; of equal ones the first, row by row, receives the gradient.

    Args:
        features: [B, C, H, W] float32 or float64.
        image: [K] int64, the map that each of K regions lies on.
        rows, columns: [K, height, 2] and [K, width, 2] int64, first and last (exclusive) cell of each bin, possibly
            outside of the map. Along an axis, a region's longest bin may be one cell longer than its shortest, and
            twice as long where that is more.

    Returns:
        [K, C, height, width], differentiable in `features`; a bin that holds no cell is 0.
    """
    result: Tensor = _LargestInBins.apply(features, image, rows, columns)  # type: ignore[no-untyped-call]
    return result


class _LargestInBins(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        traced = ctx.needs_input_grad[0]
        bins = rows.shape[1] * columns.shape[1]
        result = features.new_empty(len(image), channels, bins)
        filled = ((_length(rows, height) > 0)[:, :, None] & (_length(columns, width) > 0)[:, None]).flatten(1)
        winners = torch.empty_like(result, dtype=torch.int32) if traced else None
        ctx.shape, ctx.winners = features.shape, winners
        ctx.save_for_backward(image, filled)
        if not len(image):
            return result.view(0, channels, rows.shape[1], columns.shape[1])

        level_y, y, pad_y = _windows(rows, height)
        level_x, x, pad_x = _windows(columns, width)
        order = (level_y * 64 + level_x).argsort()
        levels, counts = torch.stack([level_y, level_x], 1)[order].unique_consecutive(dim=0, return_counts=True)
        groups = order.split(counts.tolist())  # regions with windows of the same size
        top, left, whole = torch.stack([pad_y, pad_x, filled.all()]).tolist()
        y = (y + top + image[:, None, None] * (height + top)) * (width + left)
        x = x + left

        cpu = features.device.type == "cpu"
        step_c = max(_TABLE // (batch * height * width) // 16 * 16, 16) if cpu else channels
        step_k = max(_CACHE // (bins * min(step_c, channels)), 1) if cpu else len(image)
        for c in range(0, channels, step_c):
            table = features[:, c : c + step_c].permute(0, 2, 3, 1).contiguous()
            table, values = _traceable(table) if traced else (table, None)
            if top or left:
                lowest = torch.iinfo(torch.int64).min if traced else -math.inf
                padded = table.new_full((batch, height + top, width + left, table.shape[3]), lowest)
                padded[:, top:, left:] = table
                table = padded
            for group, windows in zip(groups, _tables(table, levels.tolist()), strict=True):
                for ids in group.split(step_k):
                    best = None
                    for i in (0, 1):
                        for j in (0, 1):
                            at = (y[ids, :, None, i] + x[ids, None, :, j]).flatten()
                            one = windows.index_select(0, at)
                            best = one if best is None else torch.maximum(best, one, out=best)
                    assert best is not None
                    best = best.view(len(ids), bins, -1)
                    if winners is not None:
                        winners[ids, c : c + step_c] = (_LOW - best).int().transpose(1, 2)
                        best = _value(best, values)
                    if not whole:
                        best = best.where(filled[ids, :, None], 0)
                    result[ids, c : c + step_c] = best.transpose(1, 2)
        return result.view(len(image), channels, rows.shape[1], columns.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        image, filled = ctx.saved_tensors
        batch, channels, height, width = ctx.shape
        grad = grad.flatten(2)
        result = grad.new_zeros(batch * channels * height * width)
        plane = torch.arange(channels, device=grad.device) * (height * width)
        step = max(_CACHE // (channels * grad.shape[2]), 1) if grad.device.type == "cpu" else max(len(image), 1)
        for begin in range(0, len(image), step):
            at = slice(begin, begin + step)
            start = image[at, None] * (channels * height * width) + plane
            place = (ctx.winners[at] + start[:, :, None]).where(filled[at, None], 0)
            result.scatter_add_(0, place.flatten(), grad[at].where(filled[at, None], 0).flatten())
        return result.view(ctx.shape), None, None, None


def _length(bins: Tensor, limit: int) -> Tensor:
    """Cells of each bin [..., 2] on an axis of `limit` cells."""
    bins = bins.clamp(0, limit)
    return bins[..., 1] - bins[..., 0]


def _windows(bins: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis, the windows that cover the bins of each region.

    Returns:
        level [K], the windows are of 2^level cells; start [K, n, 2] of each bin's two windows, possibly below 0;
        how far below 0 they go, a scalar.
    """
    shortest = (bins[..., 1] - bins[..., 0]).amin(1).clamp(1, 2 ** math.ceil(math.log2(limit)))
    level = torch.frexp(shortest.float()).exponent.long() - 1
    side = (2**level)[:, None]
    clipped = bins.clamp(0, limit)
    start, last = clipped[..., 0], clipped[..., 1] - side
    # A bin cut by the border may be shorter than the windows; those then reach over that border, to nothing.
    cut = bins[..., 0] < 0
    first = last.clamp(max=0).where(cut, start)
    second = last.where(cut, torch.maximum(start, last))
    start = torch.stack([first, second], -1).where((clipped[..., 1] > clipped[..., 0])[..., None], 0)
    return level, start.clamp(max=limit - 1), (-start.amin()).clamp(min=0)


def _tables(table: Tensor, levels: list[list[int]]) -> Iterator[Tensor]:
    """For each (level along y, along x), in ascending order, the maxima of all windows of that size.

    Args:
        table: [B, H, W, C], the maxima of windows of one cell.

    Yields:
        [B·H·W, C]; the row of a cell is of the window that begins there, which ends at the border at the latest.
    """
    tall, tallness = table, 0
    wide, wideness = table, 0
    for y, x in levels:
        if y > tallness:
            for level in range(tallness, y):
                tall = _doubled(tall, 1, level)
            tallness, wide, wideness = y, tall, 0
        for level in range(wideness, x):
            wide = _doubled(wide, 2, level)
        wideness = x
        yield wide.view(-1, wide.shape[3])


def _doubled(windows: Tensor, axis: int, level: int) -> Tensor:
    """From maxima of windows of 2^level cells along `axis` those of twice the length."""
    half = min(2**level, windows.shape[axis])
    result = torch.empty_like(windows)
    size = windows.shape[axis] - half
    first, rest = windows.narrow(axis, 0, size), windows.narrow(axis, half, size)
    torch.maximum(first, rest, out=result.narrow(axis, 0, size))
    result.narrow(axis, size, half).copy_(windows.narrow(axis, size, half))
    return result


def _traceable(table: Tensor) -> tuple[Tensor, Tensor | None]:
    """int64 numbers that sort as the values of `table` [B, H, W, C] do and also say where they stand.

    The upper half is the value, or its rank in the sorted values given back with it; the lower half is the larger the
    earlier the cell stands in its map.
    """
    values: Tensor | None = None
    if table.dtype == torch.float32:
        # Read as integers, positive floats sort rightly and negative ones in reverse; nan, once positive, above all.
        upper = (table.where(table == table, math.nan) + 0.0).view(torch.int32)
        upper ^= (upper >> 31) & 0x7FFFFFFF
    else:
        values, upper = table.unique(return_inverse=True)
    place = _LOW - torch.arange(table.shape[1] * table.shape[2], device=table.device)
    return (upper.long() << 32) + place.view(table.shape[1], table.shape[2], 1), values


def _value(traceable: Tensor, values: Tensor | None) -> Tensor:
    upper = traceable >> 32
    if values is not None:
        return values[upper]
    bits = upper.int()
    bits ^= (bits >> 31) & 0x7FFFFFFF
    return bits.view(torch.float32)

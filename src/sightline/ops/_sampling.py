"""Reading maps at regular points inside regions: what RoI align and its position-sensitive form share.

A map becomes a table with a row of channels for each cell. A bin of a region is then a weighted sum of a few rows (an
embedding bag), and so is the gradient of a cell: a weighted sum of the bins that read it. Both directions are gathers,
so results are deterministic, also on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sightline.structures import Size


@dataclass(frozen=True)
class SampleGrid:
    """Where the bilinear samples of K regions lie.

    Attributes:
        start: [K, 2] x, y of each region's corner, in cells of its map; cell (0, 0) has its value at (0, 0).
        bin_size: [K, 2] width and height of its bins in cells.
        samples: [K, 2] samples per bin along x and y: whole numbers ≥ 0, in the boxes' dtype.
        size: [K, 2] int64 width and height of its map.
        first: [K, 1, 1] int64, table row of its map's cell (0, 0); [K, height, width] where each bin has its own map.
        level: [K] int64, the number of the table its map is in, or None where there is but one.
        bins: (height, width) of the grid of bins.
        fixed: samples a bin in each direction where they are the same for all regions, else None.
    """

    start: Tensor
    bin_size: Tensor
    samples: Tensor
    size: Tensor
    first: Tensor
    level: Tensor | None
    bins: Size
    fixed: int | None

    def __len__(self) -> int:
        return len(self.start)

    def blocks(self, limit: int) -> Iterator[tuple[Tensor, int, int]]:
        """Groups of regions that read at most about `limit` cells together, level by level.

        Regions with similar numbers of samples are grouped, because all regions of a group are padded to the same
        number, and neighbouring regions are grouped, because the CPU's cache then contains the cells that they share.

        Yields:
            Ids of the regions, the number of samples per bin they are padded to, their level.
        """
        middle = (self.start[:, 1] + self.bin_size[:, 1] * (self.bins[0] / 2)).nan_to_num().clamp(0, 1e6).long()
        order = (self.first[:, 0, 0] + middle * self.size[:, 0]).argsort(stable=True)
        if self.fixed is None:
            numbers = [1, *(n for power in range(30) for n in (2 << power, 3 << power))]  # 1, 2, 3, 4, 6, 8, 12, …
        else:
            numbers = [self.fixed**2]
        if self.fixed is not None and self.level is None:
            groups, kinds = [order], [0]
        else:
            kind = torch.searchsorted(self.start.new_tensor(numbers), self.samples.prod(1))
            if self.level is not None:
                kind = kind + self.level * len(numbers)
            kind, again = kind[order].sort(stable=True)
            kind, counts = kind.unique_consecutive(return_counts=True)
            groups, kinds = list(order[again].split(counts.tolist())), kind.tolist()
        cells = 4 * self.bins[0] * self.bins[1]
        for group, kind_of_group in zip(groups, kinds, strict=True):
            level, number = divmod(kind_of_group, len(numbers))
            for ids in group.split(max(limit // (cells * numbers[number]), 1)):
                if len(ids):
                    yield ids, numbers[number], level

    def part(self, ids: Tensor) -> SampleGrid:
        """The grid of the chosen regions."""
        columns = (self.start, self.bin_size, self.samples, self.size, self.first)
        start, bin_size, samples, size, first = (column[ids] for column in columns)
        level = None if self.level is None else self.level[ids]
        return SampleGrid(start, bin_size, samples, size, first, level, self.bins, self.fixed)

    def bags(self, most: int, limit: int, mean: bool) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """The cells that each bin reads and their weights, for a few regions at a time.

        Args:
            most: the largest number of samples a bin of these regions.
            limit: about as many cells are given at a time.
            mean: whether the weights of a bin sum to 1, or those of each sample's four cells.

        Yields:
            First region and the one after the last, n of them; cells: [n, height, width, most·4] int32 rows of the
            table; weights: of the same shape.
        """
        number = torch.arange(most, device=self.start.device, dtype=self.start.dtype)
        count = self.samples.prod(1, keepdim=True)
        share = (number < count) / count.clamp(min=1)
        number = torch.minimum(number, (count - 1).clamp(min=0))  # padding repeats a bin's last sample
        across = self.samples[:, :1].clamp(min=1)
        row = (number / across).floor()
        columns, column_weights = self._corners(0, number - row * across)
        rows, row_weights = self._corners(1, row)
        if mean:
            row_weights = row_weights * share[:, None, :, None]
        # All corners of a bin in the last dimension; 32 bits, because a table of 2^31 cells would not fit anyway.
        rows = rows * self.size[:, 0, None, None, None]
        first: Tensor | None = self.first[..., None]
        if self.first.shape[1:] == (1, 1):  # one map for all bins: added once instead of for each bin
            rows, first = rows + self.first[..., None], None
        rows = rows.int().repeat_interleave(2, 3).flatten(2)
        columns = columns.int().repeat(1, 1, 1, 2).flatten(2)
        row_weights = row_weights.repeat_interleave(2, 3).flatten(2)
        column_weights = column_weights.repeat(1, 1, 1, 2).flatten(2)
        step = max(limit // (self.bins[0] * self.bins[1] * 4 * most), 1)
        for begin in range(0, len(self), step):
            at = slice(begin, begin + step)
            cells = rows[at, :, None] + columns[at, None]
            if first is not None:
                cells += first[at]
            weights = row_weights[at, :, None] * column_weights[at, None]
            yield begin, min(begin + step, len(self)), cells, weights

    def _corners(self, axis: int, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Along one axis (0: x, 1: y), the cells on the two sides of each sample, and their weights.

        Args:
            sample: [K, S], the number of each sample along the axis within its bin.

        Returns:
            Two tensors [K, bins along the axis, S, 2]: places int64, weights.
        """
        bins = self.bins[1 - axis]
        bin_size, limit = self.bin_size[:, axis, None], self.size[:, axis, None, None]
        offset = (sample + 0.5) * (bin_size / self.samples[:, axis, None].clamp(min=1))
        which = torch.arange(bins, device=offset.device)
        at = self.start[:, axis, None, None] + (which * bin_size)[:, :, None] + offset[:, None]
        inside = (at >= -1) & (at <= limit)  # up to one cell outside is read as the border; beyond counts as 0
        at = torch.minimum(at.clamp(min=0), limit - 1).where(inside, 0)
        low = at.floor()
        upper = at - low
        places = low.to(torch.int64)
        return (
            torch.stack([places, torch.minimum(places + 1, limit - 1)], -1),
            torch.stack([(1 - upper) * inside, upper * inside], -1),
        )


_CELLS_IN_MEMORY = 1 << 21  # cells whose ids and weights are held at a time (8 bytes each)
_CACHE = 1 << 18  # number of values that fit into a CPU's level-2 cache together with other data


def read_samples(maps: Sequence[Tensor], grid: SampleGrid, largest: bool = False) -> Tensor:
    """The mean (or the largest) of the samples in each bin; a bin without samples is 0.

    Args:
        maps: one tensor per level, [..., C, H, W] float32 or float64. Its table has a row for each (..., y, x).
        grid: of K regions.
        largest: the largest sample instead of the mean; of equal ones the first receives the gradient.

    Returns:
        [K, C, height, width], differentiable in the maps.
    """
    result: Tensor = _Read.apply(grid, largest, *maps)  # type: ignore[no-untyped-call]
    return result


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grid: SampleGrid, largest: bool, *maps: Tensor) -> Tensor:
        channels, bins = maps[0].shape[-3], grid.bins[0] * grid.bins[1]
        winners: list[Tensor] | None = [] if largest and any(ctx.needs_input_grad) else None
        ctx.grid, ctx.largest, ctx.winners, ctx.shapes = grid, largest, winners, [m.shape for m in maps]
        result = maps[0].new_empty(len(grid), channels, bins)
        table, current = result, -1
        for ids, most, level in grid.blocks(_CELLS_IN_MEMORY):
            if level != current:
                table, current = maps[level].movedim(-3, -1).reshape(-1, channels).contiguous(), level
            limit = _CELLS_IN_MEMORY
            if table.device.type == "cpu":  # the rows of few regions at a time, for the cache's sake
                limit = min(_CACHE * 4 * (1 if largest else most) // channels, limit)
            for begin, end, cells, weights in grid.part(ids).bags(most, limit, mean=not largest):
                width = 4 if largest else 4 * most
                rows = F.embedding_bag(
                    cells.view(-1, width), table, per_sample_weights=weights.view(-1, width), mode="sum"
                )
                if largest:
                    samples = rows.view(-1, most, channels)
                    rows = samples.amax(1)
                    if winners is not None:
                        winners.append(_numbers(most, rows).where(samples == rows[:, None], most).amin(1))
                result[ids[begin:end]] = rows.view(-1, bins, channels).transpose(1, 2)
        if largest and grid.fixed is None:
            result *= (grid.samples.prod(1) > 0)[:, None, None]
        return result.view(len(grid), channels, *grid.bins)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grid, largest, channels, bins = ctx.grid, ctx.largest, grad.shape[1], grad.shape[2] * grad.shape[3]
        tables = [grad.new_zeros(*shape[:-3], *shape[-2:], channels) for shape in ctx.shapes]
        grad = grad.flatten(2)
        if largest and grid.fixed is None:
            grad = grad * (grid.samples.prod(1) > 0)[:, None, None]
        winners = torch.cat(ctx.winners) if ctx.winners else grad
        done = 0
        for ids, most, level in grid.blocks(_CELLS_IN_MEMORY):
            table = tables[level].view(-1, channels)
            [(_, _, cells, weights)] = grid.part(ids).bags(most, 1 << 62, mean=not largest)
            # The transposed gather: for each cell the bins (or single samples) that read it.
            cells, order = cells.flatten().sort(stable=True)
            offsets = torch.searchsorted(cells, torch.arange(len(table), device=cells.device, dtype=cells.dtype))
            readers, weights = order // (4 if largest else 4 * most), weights.flatten()[order]
            step = channels
            if grad.device.type == "cpu":  # few channels at a time, for the cache's sake
                step = max(16 * _CACHE // (len(ids) * bins) // 16 * 16, 16)
            for begin in range(0, channels, step):
                at = slice(begin, begin + step)
                rows = grad[:, at].transpose(1, 2).index_select(0, ids).flatten(0, 1)
                if largest:
                    won = winners[done : done + len(rows), None, at] == _numbers(most, rows)
                    rows = rows[:, None].where(won, 0).flatten(0, 1)
                table[:, at] += F.embedding_bag(readers, rows, offsets, per_sample_weights=weights, mode="sum")
            done += len(ids) * bins
        return None, None, *(table.movedim(-1, -3) for table in tables)


def _numbers(count: int, like: Tensor) -> Tensor:
    """0 to `count` − 1 as a column of small integers."""
    return torch.arange(count, device=like.device, dtype=torch.int16 if count < 1 << 15 else torch.int32)[:, None]

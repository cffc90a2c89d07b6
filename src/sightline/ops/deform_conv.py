"""Deformable convolution: each tap of the kernel reads the map at a place that the network chose.

The map becomes a table with a row of channels for each cell. What a tap reads is then a weighted sum of four rows (an
embedding bag), and the convolution a matrix product with what its taps read. Neither pass holds more of that than a
few megabytes; the backward pass reads again what it needs. Both directions are gathers, so results do not depend on
the order in which threads run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sightline.errors import InputError
from sightline.ops._rois import wide
from sightline.structures import Size

_NUMBERS = 1 << 20  # number of values that the taps read at once on a CPU
_NUMBERS_ELSEWHERE = 1 << 26


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Size = 1,
    padding: int | Size = 0,
    dilation: int | Size = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Convolution whose taps are moved by `offset` and, in the second version, weighted by `mask`.

    Args:
        x: [N, C, H, W] float. Cells outside it are 0, as a convolution's padding.
        offset: [N, D·kh·kw·2, h, w] in cells of `x`: for each of D groups of channels and each tap, row by row, its
            shift down and its shift to the right.
        weight: [K, C / groups, kh, kw]; the number of groups follows from its shape.
        bias: [K], or None.
        stride, padding, dilation: as in `F.conv2d`, one number or (vertical, horizontal).
        mask: [N, D·kh·kw, h, w], factors on what each tap reads, or None: all 1.

    Returns:
        [N, K, h, w] in the dtype of `x`. Half precision is read in float32; under autocast the product with the kernel
        is in its precision. Differentiable in all tensors, once.

    Raises:
        InputError: shapes do not fit each other.

    Source: Dai et al., Deformable Convolutional Networks, ICCV 2017, equations 2 and 3; the mask: Zhu et al.,
    Deformable ConvNets v2, CVPR 2019, equation 1. Values and gradients equal torchvision's `deform_conv2d`.
    """
    kernel = (weight.shape[-2], weight.shape[-1])
    plan = _plan(x, offset, weight, bias, kernel, _pair(stride), _pair(padding), _pair(dilation), mask)
    differentiable = [t for t in (x, offset, weight, mask) if t is not None and t.requires_grad]
    convolve = _Convolve.apply if torch.is_grad_enabled() and differentiable else _convolve
    out: Tensor = convolve(plan, wide(x), wide(offset), wide(weight), None if mask is None else wide(mask))
    if bias is not None:
        out = out + bias.to(out.dtype)[:, None, None]
    return out.to(x.dtype)


@dataclass(frozen=True)
class _Plan:
    """The shape of one deformable convolution.

    Attributes:
        kernel, stride, padding, dilation: (vertical, horizontal).
        size, out: (height, width) of the map that comes in and of the one that goes out.
        groups, offset_groups: of the weights and of the offsets.
        channels: C of the map that comes in.
    """

    kernel: Size
    stride: Size
    padding: Size
    dilation: Size
    size: Size
    out: Size
    groups: int
    offset_groups: int
    channels: int

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    def table(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N·D·H·W, C / D]: a row for each image, group of channels and cell."""
        each = self.channels // self.offset_groups
        rows = len(x) * self.offset_groups * self.size[0] * self.size[1]
        split = x.reshape(len(x), self.offset_groups, each, *self.size)
        return split.permute(0, 1, 3, 4, 2).reshape(rows, each).contiguous()

    def from_table(self, table: Tensor) -> Tensor:
        """The inverse of `table`."""
        images = len(table) // (self.offset_groups * self.size[0] * self.size[1])
        split = table.view(images, self.offset_groups, *self.size, table.shape[1])
        return split.permute(0, 1, 4, 2, 3).reshape(images, self.channels, *self.size)

    def by_position(self, values: Tensor, numbers: int) -> Tensor:
        """[N, D·taps·numbers, h, w] → [N·h·w, taps, D, numbers]."""
        cells = self.out[0] * self.out[1]
        split = values.reshape(len(values), self.offset_groups, self.taps, numbers, cells)
        return split.permute(0, 4, 2, 1, 3).reshape(len(values) * cells, self.taps, self.offset_groups, numbers)

    def to_map(self, values: Tensor) -> Tensor:
        """The inverse of `by_position`."""
        cells, outputs = self.out[0] * self.out[1], values[0].numel()
        split = values.view(-1, cells, *values.shape[1:])
        return split.permute(0, 3, 2, 4, 1).reshape(-1, outputs, *self.out)

    def matrices(self, weight: Tensor) -> Tensor:
        """[K, C / G, kh, kw] → [G, taps·C / G, K / G]."""
        split = weight.reshape(self.groups, -1, weight.shape[1], self.taps)
        return split.permute(0, 3, 2, 1).reshape(self.groups, self.taps * weight.shape[1], -1).contiguous()

    def pieces(self, positions: int, device: torch.device) -> Iterator[slice]:
        """Runs of output positions whose taps' reads together are few enough."""
        limit = _NUMBERS if device.type == "cpu" else _NUMBERS_ELSEWHERE
        step = max(limit // (self.taps * self.channels), 1)
        return (slice(begin, min(begin + step, positions)) for begin in range(0, positions, step))

    def corners(self, at: slice, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The four cells around the place where each tap of some positions reads.

        Args:
            at: positions, counted over images, rows and columns.
            offset: [P, taps, D, 2] of these positions, downwards first.

        Returns:
            Rows of the table [P, taps, D, 4] int32, upper left, upper right, lower left, lower right; and the weights
            along each axis, [P, taps, D, 2 (down, right), 2 (before, after)], 0 for cells outside; and whether those
            cells are inside, of the same shape, as numbers.
        """
        device, dtype = offset.device, offset.dtype
        position = torch.arange(at.start, at.stop, device=device)
        image, cell = position // (self.out[0] * self.out[1]), position % (self.out[0] * self.out[1])
        tap, group = torch.arange(self.taps, device=device), torch.arange(self.offset_groups, device=device)
        down = (cell // self.out[1] * self.stride[0] - self.padding[0])[:, None] + (
            tap // self.kernel[1] * self.dilation[0]
        )
        right = (cell % self.out[1] * self.stride[1] - self.padding[1])[:, None] + (
            tap % self.kernel[1] * self.dilation[1]
        )
        limits = offset.new_tensor(self.size)
        place = torch.stack([down, right], -1)[:, :, None].to(dtype) + offset
        # Two cells outside read as far ones: 0. It also keeps what is not finite from becoming a row of the table.
        place = torch.minimum(place.nan_to_num(-2.0).clamp(min=-2.0), limits + 1)
        low = place.floor()
        after = place - low
        both = torch.stack([low, low + 1], -1)  # [P, taps, D, 2, 2]
        inside = ((both >= 0) & (both < limits[:, None])).to(dtype)
        weights = torch.stack([1 - after, after], -1) * inside
        cells = torch.minimum(both.clamp(min=0), (limits - 1)[:, None]).int()
        first = (image[:, None, None] * self.offset_groups + group).int() * (self.size[0] * self.size[1])
        rows = cells[..., 0, :, None] * self.size[1] + cells[..., 1, None, :]
        return rows.flatten(-2) + first[..., None], weights, inside


def _read(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of four rows: [B, 4] and [B, 4] → [B, C / D]."""
    return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")


def _bilinear(weights: Tensor) -> Tensor:
    """Weights of the four corners [P, taps, D, 4] from those along the axes."""
    return (weights[..., 0, :, None] * weights[..., 1, None, :]).flatten(-2)


def _grouped(plan: _Plan, columns: Tensor, positions: int) -> Tensor:
    """What the taps read [P·taps·D, C / D] → [G, P, taps·C / G]."""
    if plan.groups == 1:
        return columns.view(1, positions, -1)
    split = columns.view(positions, plan.taps, plan.groups, -1)
    return split.permute(2, 0, 1, 3).reshape(plan.groups, positions, -1)


def _convolve(plan: _Plan, x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
    table, matrices = plan.table(x), plan.matrices(weight)
    offset = plan.by_position(offset, 2)
    mask = None if mask is None else plan.by_position(mask, 1)
    parts = []
    for at in plan.pieces(len(offset), x.device):
        rows, along, _ = plan.corners(at, offset[at])
        weights = _bilinear(along) if mask is None else _bilinear(along) * mask[at]
        columns = _grouped(plan, _read(table, rows.view(-1, 4), weights.view(-1, 4)), at.stop - at.start)
        parts.append(torch.bmm(columns, matrices).transpose(0, 1).flatten(1))
    out = torch.cat(parts) if parts else x.new_zeros(0, len(weight))
    return out.view(len(x), *plan.out, len(weight)).permute(0, 3, 1, 2)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(x, offset, weight, mask)
        return _convolve(plan, x, offset, weight, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        x, offset, weight, mask = ctx.saved_tensors
        table, matrices = plan.table(x), plan.matrices(weight)
        grad_table, grad_matrices = torch.zeros_like(table), torch.zeros_like(matrices)
        offsets = plan.by_position(offset, 2)
        masks = None if mask is None else plan.by_position(mask, 1)
        grad_offsets, grad_masks = [], []
        grad = grad.to(x.dtype).permute(0, 2, 3, 1).reshape(len(offsets), plan.groups, len(weight) // plan.groups)
        grad = grad.transpose(0, 1)
        for at in plan.pieces(len(offsets), x.device):
            count = at.stop - at.start
            rows, along, inside = plan.corners(at, offsets[at])
            plain = _bilinear(along)
            weights = (plain if masks is None else plain * masks[at]).view(-1, 4)
            if ctx.needs_input_grad[3]:
                columns = _grouped(plan, _read(table, rows.view(-1, 4), weights), count)
                grad_matrices.baddbmm_(columns.transpose(1, 2), grad[:, at])
            from_groups = torch.bmm(grad[:, at], matrices.transpose(1, 2))  # [G, P, taps·C / G]
            if plan.groups > 1:
                from_groups = from_groups.view(plan.groups, count, plan.taps, -1).permute(1, 2, 0, 3)
            read = from_groups.reshape(-1, table.shape[1])  # the gradient of each bag
            if ctx.needs_input_grad[1]:
                _add_transposed(grad_table, rows.view(-1), weights.reshape(-1), read)
            if ctx.needs_input_grad[2] or ctx.needs_input_grad[4]:
                corner = torch.stack(
                    [(table.index_select(0, cell) * read).sum(1) for cell in rows.view(-1, 4).unbind(1)], -1
                )
                corner = corner.view(*plain.shape[:-1], 2, 2)
                if masks is not None:
                    grad_masks.append((corner.flatten(-2) * plain).sum(-1, keepdim=True))
                    corner = corner * masks[at][..., None]
                down, right = along.unbind(-2)
                slope = inside * inside.new_tensor([-1.0, 1.0])  # of the weights along an axis
                by_row = (corner * right[..., None, :]).sum(-1) * slope[..., 0, :]
                by_column = (corner * down[..., :, None]).sum(-2) * slope[..., 1, :]
                grad_offsets.append(torch.stack([by_row.sum(-1), by_column.sum(-1)], -1))
        grad_weight = grad_matrices.view(plan.groups, plan.taps, weight.shape[1], -1).permute(0, 3, 2, 1)
        return (
            None,
            plan.from_table(grad_table),
            plan.to_map(torch.cat(grad_offsets)) if grad_offsets else None,
            grad_weight.reshape(weight.shape),
            plan.to_map(torch.cat(grad_masks)) if grad_masks else None,
        )


def _add_transposed(table: Tensor, rows: Tensor, weights: Tensor, values: Tensor) -> None:
    """Add to each row of the table what read it: `values` [B, C / D] times `weights` [4·B], by `rows` [4·B]."""
    rows, order = rows.sort(stable=True)
    low, high = (0, len(table)) if not len(rows) or rows.device.type != "cpu" else (int(rows[0]), int(rows[-1]) + 1)
    starts = torch.searchsorted(rows, torch.arange(low, high, device=rows.device, dtype=rows.dtype))
    table[low:high] += F.embedding_bag(
        order // 4, values, starts, per_sample_weights=weights.index_select(0, order), mode="sum"
    )


def _plan(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    kernel: Size,
    stride: Size,
    padding: Size,
    dilation: Size,
    mask: Tensor | None,
) -> _Plan:
    if x.ndim != 4 or weight.ndim != 4 or offset.ndim != 4:
        raise InputError(
            f"x {list(x.shape)}, offset {list(offset.shape)} and weight {list(weight.shape)} must each have 4 "
            "dimensions: [N, C, H, W], [N, D·kh·kw·2, h, w], [K, C / groups, kh, kw]"
        )
    channels, taps = x.shape[1], kernel[0] * kernel[1]
    groups = channels // max(weight.shape[1], 1)
    if groups * weight.shape[1] != channels or groups == 0 or weight.shape[0] % groups:
        raise InputError(
            f"a weight of shape {list(weight.shape)} does not fit {channels} channels; "
            "its second number must divide them, and the number of groups its first"
        )
    height, width = (
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, p, d, k, t in zip(x.shape[-2:], padding, dilation, kernel, stride, strict=True)
    )
    offset_groups = offset.shape[1] // (2 * taps)
    expected = (len(x), max(offset_groups, 1) * 2 * taps, height, width)
    if height < 1 or width < 1 or offset_groups == 0 or channels % offset_groups or offset.shape != expected:
        raise InputError(
            f"offset has shape {list(offset.shape)}, but for this convolution it must be [{len(x)}, D·{2 * taps}, "
            f"{height}, {width}], where D divides the {channels} channels"
        )
    if mask is not None and mask.shape != (len(x), offset_groups * taps, height, width):
        raise InputError(
            f"mask has shape {list(mask.shape)}, but the offset asks for "
            f"[{len(x)}, {offset_groups * taps}, {height}, {width}]"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InputError(f"bias has shape {list(bias.shape)}, but there are {len(weight)} outputs: must be [K]")
    size = (x.shape[-2], x.shape[-1])
    return _Plan(kernel, stride, padding, dilation, size, (height, width), groups, offset_groups, channels)


def _pair(value: int | Size) -> Size:
    return (value, value) if isinstance(value, int) else (value[0], value[1])

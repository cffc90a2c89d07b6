"""Masks of an image from values on grids: only the pixels that a grid reaches are computed and written."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.structures import Size

_PASTE_BYTES = 2**20  # of float32 held at once while pasting; more leaves the cache

Weights = Callable[[Tensor, int, int], Tensor]
"""(masks [n], axis, number P of pixels) → how much of each of M cells goes to each pixel, [n, P, M]. Axis 0 is x, axis
1 is y; pixels are counted from the first that the mask reaches."""


def paste_inside(grids: Tensor, first: Tensor, end: Tensor, weights: Weights, size: Size, level: float) -> Tensor:
    """Resize grids to the pixels that they reach, in chunks of similar size; outside of them there is no mask.

    Args:
        grids: [N, M, M] float.
        first, end: [N, 2] float, x and y of the first pixel that each grid reaches and of the one after the last, of
            any size; pixels outside the image are left out.
        weights: the interpolation along one axis.
        size: (height, width) of the image.
        level: values above it are inside the mask.

    Returns:
        [N, height, width] bool.
    """
    height, width = size
    limit = first.new_tensor([width, height])
    first = first.nan_to_num(0).clamp(min=0).minimum(limit)
    end = end.nan_to_num(0).clamp(min=0).minimum(limit).maximum(first)
    pixels = (end - first).long()
    corners, sides = first.long().tolist(), pixels.tolist()
    on_cpu = grids.device.type == "cpu"
    masks: Any  # small slices of NumPy's arrays are faster than of PyTorch's
    if on_cpu:
        masks = _blank(len(grids), height, width, sum(h for _, h in sides))
    else:
        masks = torch.zeros(len(grids), height, width, dtype=torch.bool, device=grids.device)
    # automatic mixed precision would compute these products in half precision
    with torch.autocast(grids.device.type, enabled=False):
        for ids in _chunks(pixels):
            columns, rows = pixels[ids].amax(0).tolist()
            inside = weights(ids, 1, rows) @ grids[ids].float() @ weights(ids, 0, columns).transpose(1, 2) > level
            for mask, number in zip(inside.numpy() if on_cpu else inside, ids.tolist(), strict=True):
                (left, top), (w, h) = corners[number], sides[number]
                masks[number, top : top + h, left : left + w] = mask[:h, :w]
    return torch.from_numpy(masks) if on_cpu else masks


def tents(place: Tensor, cells: int) -> Tensor:
    """Weights [N, P, M] of linear interpolation between M cells at places [N, P], where cell i is at i."""
    distance = (place[:, :, None] - torch.arange(cells, dtype=place.dtype, device=place.device)).abs_()
    return distance.neg_().add_(1).relu_()


def paste_around(masks: Tensor, boxes: Tensor, size: Size, threshold: float) -> Tensor:
    """`sightline.ops.masks.paste_masks` for masks [N, M, M] that are 0, and so not inside, away from their boxes."""
    cells = masks.shape[2]
    first, last = touched(boxes[:, :2], boxes[:, 2:], cells)
    start = first.clamp(min=0)

    def weights(ids: Tensor, axis: int, pixels: int) -> Tensor:
        pixel = start[ids, axis, None] + torch.arange(pixels)
        return border_weights(pixel, first[ids, axis], last[ids, axis], cells)

    return paste_inside(masks, first, last.maximum(first) + 1, weights, size, threshold)


def touched(low: Tensor, high: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """The first and the last pixel that a grid with a border of one cell touches, for sides low … high."""
    growth = (cells + 2) / cells
    centre, half = (high + low) * 0.5, (high - low) * 0.5 * growth
    return (centre - half).trunc(), (centre + half).trunc()


def border_weights(pixel: Tensor, first: Tensor, last: Tensor, cells: int) -> Tensor:
    """How much of each of M `cells` goes to each pixel along one axis: pixels [P] or [N, P] → [N, P, M].

    The grid with its border of one zero cell at either end is laid over the pixels from the first [N] to the last [N].
    A cell's weight falls from 1 at its centre to 0 at its neighbours' centres; the border's cells are zero and so need
    no column.
    """
    step = (cells + 2) / (last - first + 1).clamp(min=1)
    return tents((pixel - first[:, None] + 0.5) * step[:, None] - 1.5, cells)


def _blank(count: int, height: int, width: int, rows: int) -> np.ndarray:
    """Zeros, bool [count, height, width], of which `rows` rows will be written to.

    NumPy asks for pages of 2 MB for large arrays, and the system clears each of them when it is first written to, and
    may have to make room for it by moving other memory. Small pages leave the rest untouched.
    """
    size = count * height * width
    if size < 2**22 or 2 * rows > count * height or not hasattr(mmap, "MAP_PRIVATE"):
        return np.zeros((count, height, width), dtype=bool)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype=bool).reshape(count, height, width)


def _chunks(pixels: Tensor) -> list[Tensor]:
    """Groups of boxes ([N, 2] width, height in pixels) of similar size, limited in memory; none for empty boxes."""
    order = pixels.prod(1).argsort()
    order = order[pixels[order].amin(1) > 0]
    sizes, chunks, start = pixels[order].tolist(), [], 0
    while start < len(order):
        end, columns, rows = start, 0, 0
        while end < len(order):
            columns, rows = max(columns, sizes[end][0]), max(rows, sizes[end][1])
            if end > start and 4 * columns * rows * (end + 1 - start) > _PASTE_BYTES:
                break
            end += 1
        chunks.append(order[start:end])
        start = end
    return chunks

"""Masks on regular grids over boxes: the grid's points, targets at these points, and the way back into the image.

A grid of M × M points over a box divides it into M × M equal cells; the points are the centres of the cells. In the
image, as everywhere, (0, 0) is the outer corner of the top-left pixel, whose centre is (0.5, 0.5).
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Size

_PASTE_BYTES = 2 * 2**20  # of float32 held at once while pasting; more leaves the cache


def grid_coordinates(size: int, device: torch.device | str = "cpu") -> Tensor:
    """x and y of the points of a grid in units of half its box: [2, size, size] between −1 and 1."""
    line = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    return torch.stack([line.expand(size, size), line[:, None].expand(size, size)])


def grown_boxes(boxes: Tensor, margin: float) -> Tensor:
    """Boxes [N, 4] xyxy with `margin` times their width and height added on each side."""
    around = (boxes[:, 2:] - boxes[:, :2]) * margin
    return torch.cat([boxes[:, :2] - around, boxes[:, 2:] + around], 1)


@torch.no_grad()
def sample_masks(masks: Tensor, objects: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Values of masks at the points of grids over boxes, by bilinear interpolation between the centres of pixels.

    Args:
        masks: [N, H, W] bool.
        objects: [P] int64, the mask of each box.
        boxes: [P, 4] xyxy in pixels of the masks.
        size: number M of rows and columns of each grid.

    Returns:
        [P, M, M] float32 in [0, 1]. Pixels outside the image are 0.
    """
    height, width = masks.shape[1:]
    steps = (torch.arange(size, device=boxes.device, dtype=boxes.dtype) + 0.5) / size
    place = boxes[:, None, :2] + (boxes[:, None, 2:] - boxes[:, None, :2]) * steps[:, None] - 0.5  # [P, M, 2]
    first = place.floor()
    part = (place - first).float()
    values = torch.zeros(len(boxes), size, size, device=boxes.device)
    for down in (0, 1):
        row = first[..., 1].long() + down
        rows = (part[..., 1] if down else 1 - part[..., 1]) * ((row >= 0) & (row < height))
        for right in (0, 1):
            column = first[..., 0].long() + right
            columns = (part[..., 0] if right else 1 - part[..., 0]) * ((column >= 0) & (column < width))
            at = (row.clamp(0, height - 1) * width)[:, :, None] + column.clamp(0, width - 1)[:, None]
            inside = masks.reshape(-1)[at + (objects * (height * width))[:, None, None]]
            values += inside * rows[:, :, None] * columns[:, None]
    return values


@torch.no_grad()
def paste_grids(logits: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Masks of an image from logits on grids over boxes: bilinear between the points, above 0 inside the mask.

    Between the outermost points and the sides of the box, the value is that of the nearest point; outside the box there
    is no mask. Only pixels inside the boxes are computed, in chunks of boxes of similar size.

    Args:
        logits: [N, M, M] float.
        boxes: [N, 4] xyxy pixels of the image.
        size: (height, width) of the image.

    Returns:
        [N, height, width] bool.

    Raises:
        InputError: the numbers of grids and boxes differ, or grids are not square.
    """
    if logits.ndim != 3 or logits.shape[1] != logits.shape[2] or len(logits) != len(boxes):
        raise InputError(f"logits {list(logits.shape)} do not fit {len(boxes)} boxes; give [N, M, M], one per box")
    height, width = size
    on_cpu = logits.device.type == "cpu"
    masks: Any  # small slices of NumPy's arrays are faster than of PyTorch's
    if on_cpu:
        masks = _blank(len(logits), height, width)
    else:
        masks = torch.zeros(len(logits), height, width, dtype=torch.bool, device=logits.device)
    limit = boxes.new_tensor([width, height])
    # pixels whose centre is inside the box: first … end − 1
    first = (boxes[:, :2] - 0.5).ceil().clamp(min=0).minimum(limit)
    end = (boxes[:, 2:] - 0.5).ceil().clamp(min=0).minimum(limit).maximum(first)
    pixels = (end - first).long()
    corners = first.long().tolist()
    sides = pixels.tolist()
    with torch.autocast(logits.device.type, enabled=False):
        for ids in _chunks(pixels):
            columns, rows = pixels[ids].amax(0).tolist()
            own = boxes[ids].float()
            x = _weights(own[:, 0], own[:, 2], first[ids, 0].float(), columns, logits.shape[2])
            y = _weights(own[:, 1], own[:, 3], first[ids, 1].float(), rows, logits.shape[1])
            inside = y @ logits[ids].float() @ x.transpose(1, 2) > 0
            for mask, number in zip(inside.numpy() if on_cpu else inside, ids.tolist(), strict=True):
                (left, top), (w, h) = corners[number], sides[number]
                masks[number, top : top + h, left : left + w] = mask[:h, :w]
    return torch.from_numpy(masks) if on_cpu else masks


def _blank(count: int, height: int, width: int) -> np.ndarray:
    """Zeros, bool [count, height, width], that take no memory until they are written to.

    NumPy asks for pages of 2 MB for large arrays, of which a few rows of each mask would touch and clear nearly all.
    """
    size = count * height * width
    if size < 2**22:
        return np.zeros((count, height, width), dtype=bool)
    return np.frombuffer(mmap.mmap(-1, size), dtype=bool).reshape(count, height, width)


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


def _weights(low: Tensor, high: Tensor, first: Tensor, pixels: int, cells: int) -> Tensor:
    """Weights [N, pixels, cells] of linear interpolation between `cells` points over low … high [N].

    Pixels are counted from `first` [N]; pixels beyond the box have the weights of the outermost point.
    """
    centre = first[:, None] + torch.arange(pixels, device=low.device) + 0.5
    step = cells / (high - low).clamp(min=torch.finfo(low.dtype).tiny)
    position = ((centre - low[:, None]) * step[:, None] - 0.5).clamp(0, cells - 1)
    return (1 - (position[:, :, None] - torch.arange(cells, device=low.device)).abs()).relu_()

"""Masks on regular grids over boxes: the grid's points, targets at these points, and the way back into the image.

A grid of M × M points over a box divides it into M × M equal cells; the points are the centres of the cells. In the
image, as everywhere, (0, 0) is the outer corner of the top-left pixel, whose centre is (0.5, 0.5).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops._pasting import paste_inside, tents
from sightline.structures import Size
from sightline.structures.deferred import Deferred


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
    boxes = boxes.float()
    low, high = boxes[:, :2], boxes[:, 2:]
    # pixels whose centre is inside the box: first … end − 1
    first, end = (low - 0.5).ceil(), (high - 0.5).ceil()
    start = first.clamp(min=0)
    cells = logits.shape[2]
    step = cells / (high - low).clamp(min=torch.finfo(low.dtype).tiny)

    def weights(ids: Tensor, axis: int, pixels: int) -> Tensor:
        centre = start[ids, axis, None] + torch.arange(pixels, device=low.device) + 0.5
        place = (centre - low[ids, axis, None]) * step[ids, axis, None] - 0.5
        return tents(place.clamp_(0, cells - 1), cells)

    return paste_inside(logits, first, end, weights, size, 0.0)


def deferred_grids(logits: Tensor, boxes: Tensor, size: Size) -> Deferred:
    """`paste_grids` for a field of `Instances` that pastes when it is first read; arguments as there."""
    return Deferred(partial(paste_grids, size=size), (logits.detach(), boxes.detach().clone()))

"""The points of an anchor-free detector: the centres of the cells of its maps, and those inside each object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.structures import Size


class Points(NamedTuple):
    """The centres of the cells of all levels.

    Attributes:
        centres: [A, 2] (x, y) in pixels of the batch.
        strides: [A] stride of each cell's level in pixels.
    """

    centres: Tensor
    strides: Tensor


def cell_centres(size: Size, strides: Sequence[int], device: torch.device | str = "cpu") -> Points:
    """The centres of the cells of maps with these strides, for an image of size (height, width)."""
    centres, pixels = [], []
    for stride in strides:
        x = (torch.arange(size[1] // stride, device=device) + 0.5) * stride
        y = (torch.arange(size[0] // stride, device=device) + 0.5) * stride
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack([columns, rows], -1).reshape(-1, 2))
        pixels.append(torch.full_like(rows, stride).flatten())
    return Points(torch.cat(centres), torch.cat(pixels))


def points_inside(points: Points, boxes: Tensor) -> Tensor:
    """The points inside each box [G, 4]: bool [G, A].

    A box without any point of the finest level also gets the point of that level nearest to its centre, because points
    of coarser levels cannot represent such a small box. A box without area gets no points.
    """
    low = points.centres - boxes[:, None, :2]
    high = boxes[:, None, 2:] - points.centres
    inside = torch.minimum(low, high).amin(-1) > 0
    fine = points.strides == points.strides.amin()
    none = ~(inside & fine).any(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    if bool(none.any()):
        centre = (boxes[none, :2] + boxes[none, 2:]) / 2
        nearest = (points.centres - centre[:, None]).square().sum(-1).masked_fill(~fine, torch.inf).argmin(1)
        inside[none.nonzero().flatten(), nearest] = True
    return inside

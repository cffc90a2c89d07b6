"""What the functions on regions share: reading their arguments, and the snapped bins of RoI pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Size


def as_rois(features: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
    """Regions as [K, 5] (batch index, x1, y1, x2, y2), from that or from a list of [L_i, 4] for each image; checked."""
    if features.ndim != 4:
        raise InputError(f"features have shape {list(features.shape)}, but must be [B, C, H, W]")
    if isinstance(rois, Tensor):
        if rois.ndim != 2 or rois.shape[1] != 5:
            raise InputError(f"rois have shape {list(rois.shape)}, but must be [K, 5]: batch index, x1, y1, x2, y2")
        looked_at = rois.device.type == "cpu" and not torch.compiler.is_exporting()
        if looked_at and len(rois):  # elsewhere a look would stop the device's queue
            low, high = rois[:, 0].aminmax()
            if low < 0 or high >= len(features):
                wrong = int(low if low < 0 else high)
                raise InputError(
                    f"a region is of image {wrong}, but there are features of {len(features)}: count from 0"
                )
        return rois.detach()
    if len(rois) != len(features):
        raise InputError(f"there are boxes for {len(rois)} images, but features of {len(features)}")
    for image, boxes in enumerate(rois):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise InputError(f"the boxes of image {image} have shape {list(boxes.shape)}, but must be [L, 4]")
    if not len(rois):
        return features.new_zeros(0, 5)
    return torch.cat([torch.cat([torch.full_like(b[:, :1], i), b], 1) for i, b in enumerate(rois)]).detach()


def pair(output_size: int | Size) -> Size:
    """Bins (height, width) from that or from one number for both."""
    height, width = (output_size, output_size) if isinstance(output_size, int) else map(int, output_size)
    if height < 1 or width < 1:
        raise InputError(f"output_size is {output_size}, but a grid of bins has at least one row and one column")
    return height, width


def wide(x: Tensor) -> Tensor:
    """In a dtype to compute in: half precision as float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def snapped_bins(start: Tensor, end: Tensor, bins: int) -> Tensor:
    """Roughly equal bins of whole cells, which may share cells.

    Args:
        start, end: [K], first and last cell of each region, both included: whole numbers in a float dtype.
        bins: number of bins.

    Returns:
        [K, bins, 2] int64, first and last (exclusive) cell of each bin.
    """
    number = torch.arange(bins, device=start.device)
    size = ((end - start + 1).clamp(min=1) / bins)[:, None]
    borders = torch.stack([(number * size).floor(), ((number + 1) * size).ceil()], -1)
    return (borders + start[:, None, None]).to(torch.int64)


def to_cell(x: Tensor) -> Tensor:
    """To the nearest whole number, halves away from zero as C rounds (`Tensor.round` takes them to the even one)."""
    whole = x.trunc()
    return whole + x.sign() * ((x - whole).abs() >= 0.5)

"""Features of regions: from boxes of any size to a fixed grid of features each.

RoI align (Mask R-CNN, He et al. 2017, section 3), on one level or a pyramid (Feature Pyramid Networks, Lin et al. 2017,
section 4.2). Plain PyTorch, one implementation for every device, differentiable in the features; results equal torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Size

_BLOCK = 1 << 22  # cells read at a time (index and weight take 12 bytes each)


def roi_align(
    features: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int | Size,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    mode: str = "average",
) -> Tensor:
    """RoI align: bilinear samples at regular points of each bin, averaged (as in the paper) or the largest.

    Args:
        features: [B, C, H, W] float.
        rois: [K, 5] (batch index, x1, y1, x2, y2), or a list with [L_i, 4] boxes for each of the B images.
        output_size: bins (height, width), or one number for both.
        spatial_scale: feature cells per pixel of the boxes: 1 / stride.
        sampling_ratio: samples per bin in each direction; 0 or less: as many as the bin has cells, rounded up.
        aligned: shift by half a cell, so that a cell's value sits at its centre (Detectron2's correction); False is
            the form that published checkpoints were trained with, where a region is at least one cell large.
        mode: "average" or "max" of the samples of a bin.

    Returns:
        [K, C, height, width], of the features' dtype and device. Samples more than one cell outside count as 0.

    Raises:
        InputError: shapes do not fit or the mode is unknown.
    """
    rois = _as_rois(features, rois)
    level = torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
    return _align([features], rois, level, [spatial_scale], _pair(output_size), sampling_ratio, aligned, mode)


def multiscale_roi_align(
    features: Sequence[Tensor],
    boxes: Sequence[Tensor],
    image_size: Size,
    output_size: int | Size,
    sampling_ratio: int = 2,
    canonical_size: int = 224,
    canonical_level: int = 4,
    aligned: bool = False,
) -> Tensor:
    """RoI align from the pyramid level that fits each box's size.

    A box of `canonical_size` pixels is read from the level of stride 2^canonical_level, one of half the size from the
    level below, and so on (Feature Pyramid Networks, equation 1).

    Args:
        features: maps [B, C, H_l, W_l], finest first, each half as large as the one before; one level works too.
        boxes: [L_i, 4] boxes of each of the B images, (x1, y1, x2, y2) pixels of the batch.
        image_size: (height, width) of the padded batch in pixels; strides are found from it.
        output_size: bins (height, width), or one number for both.
        sampling_ratio, aligned: as for `roi_align`.
        canonical_size: in pixels.
        canonical_level: log2 of the stride.

    Returns:
        [sum of L_i, C, height, width], in the order of the boxes.

    Raises:
        InputError: shapes do not fit.
    """
    rois = _as_rois(features[0], boxes)
    scales = [2.0 ** round(math.log2(feature.shape[-2] / image_size[0])) for feature in features]
    lowest, highest = -math.log2(scales[0]), -math.log2(scales[-1])
    size = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt()
    # 1e-6 as torchvision adds it: a size that is exactly a power of two must not fall a level by rounding
    level = (canonical_level + torch.log2(size / canonical_size) + 1e-6).floor().clamp(lowest, highest)
    level = (level - lowest).to(torch.int64)
    return _align(features, rois, level, scales, _pair(output_size), sampling_ratio, aligned, "average")


def _align(
    features: Sequence[Tensor],
    rois: Tensor,
    level: Tensor,
    scales: Sequence[float],
    output_size: Size,
    sampling_ratio: int,
    aligned: bool,
    mode: str,
) -> Tensor:
    """RoI align of `rois` [K, 5], each from the map `level` [K] says."""
    if mode not in ("average", "max"):
        raise InputError(f"mode is {mode!r}, but must be 'average' or 'max'")
    channels, (out_h, out_w) = features[0].shape[1], output_size
    # One table with a row of channels for each cell of every level: one gather then serves all regions.
    table = torch.cat([feature.permute(0, 2, 3, 1).reshape(-1, channels) for feature in features])
    dtype = table.dtype
    if dtype not in (torch.float32, torch.float64):
        table = table.float()
    if len(rois) == 0:
        return table[:0].sum().to(dtype).expand(0, channels, out_h, out_w)
    rois = rois.detach().to(table.dtype)

    heights, widths, starts, start = [], [], [], 0
    for feature in features:
        heights.append(feature.shape[2])
        widths.append(feature.shape[3])
        starts.append(start)
        start += feature.shape[0] * feature.shape[2] * feature.shape[3]
    height, width, first = torch.tensor([heights, widths, starts], device=rois.device)[:, level]
    first = first + rois[:, 0].to(torch.int64) * height * width
    box = rois[:, 1:] * rois.new_tensor(scales)[level, None] - (0.5 if aligned else 0.0)
    extent = box[:, 2:] - box[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    bin_size = extent / rois.new_tensor([out_w, out_h])
    if sampling_ratio > 0:
        grid = torch.full_like(bin_size, sampling_ratio)
    else:
        grid = bin_size.ceil().clamp(min=0)
    count = (grid[:, 0] * grid[:, 1]).to(torch.int64)

    # Regions with like numbers of samples go together, padded to the largest: blocks bound the memory.
    if sampling_ratio > 0:
        order, most = None, [sampling_ratio**2] * len(rois)
    else:
        order = count.argsort()
        most = count[order].tolist()
    pieces = []
    stop = 0
    while stop < len(rois):
        begin = stop
        stop += 1
        while stop < len(rois) and (stop + 1 - begin) * max(most[stop], 1) * out_h * out_w * 4 <= _BLOCK:
            stop += 1
        ids = slice(begin, stop) if order is None else order[begin:stop]
        samples = torch.arange(max(most[stop - 1], 1), device=rois.device)
        inside = samples < count[ids, None]
        samples = torch.minimum(samples, (count[ids, None] - 1).clamp(min=0))
        columns = grid[ids, 0, None].clamp(min=1)
        ys = (samples / columns).floor()
        xs = samples - ys * columns
        y0, y1, wy = _corners(box[ids, 1], bin_size[ids, 1], grid[ids, 1], ys, height[ids], out_h)
        x0, x1, wx = _corners(box[ids, 0], bin_size[ids, 0], grid[ids, 0], xs, width[ids], out_w)
        rows = torch.stack([y0, y1], -1) * width[ids, None, None, None] + first[ids, None, None, None]
        cells = rows[:, :, None, :, :, None] + torch.stack([x0, x1], -1)[:, None, :, :, None, :]
        weight = wy[:, :, None, :, :, None] * wx[:, None, :, :, None, :]  # [k, out_h, out_w, samples, 2, 2]
        if mode == "average":
            share = inside / count[ids, None].clamp(min=1)
            weight = weight * share[:, None, None, :, None, None]
            value = F.embedding_bag(
                cells.reshape(-1, cells.shape[3] * 4),
                table,
                per_sample_weights=weight.reshape(-1, cells.shape[3] * 4).to(table.dtype),
                mode="sum",
            )
        else:
            value = F.embedding_bag(
                cells.reshape(-1, 4), table, per_sample_weights=weight.reshape(-1, 4).to(table.dtype), mode="sum"
            )
            value = value.view(-1, cells.shape[3], channels).max(1).values
            value = value * (count[ids] > 0).repeat_interleave(out_h * out_w)[:, None]
        pieces.append(value)
    result = torch.cat(pieces).view(len(rois), out_h, out_w, channels)
    if order is not None:
        result = torch.empty_like(result).index_copy(0, order, result)
    return result.permute(0, 3, 1, 2).contiguous().to(dtype)


def _corners(
    start: Tensor, bin_size: Tensor, grid: Tensor, samples: Tensor, limit: Tensor, bins: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: the two cells around each sample, and their weights.

    Args:
        start, bin_size, grid, limit: [k] of each region: its edge, its bins' length, samples per bin, the map's length.
        samples: [k, S] number of each sample inside its bin.
        bins: number of bins.

    Returns:
        low, high: [k, bins, S] int64; weights: [k, bins, S, 2].
    """
    which = torch.arange(bins, device=start.device)[:, None]
    offset = which * bin_size[:, None, None] + ((samples + 0.5) * (bin_size / grid.clamp(min=1))[:, None])[:, None]
    position = start[:, None, None] + offset
    limit = limit[:, None, None]
    valid = (position >= -1) & (position <= limit)
    position = torch.minimum(position.clamp(min=0), limit - 1)
    low = position.floor()
    part = position - low
    weights = torch.stack([1 - part, part], -1) * valid[..., None]
    high = torch.minimum(low + 1, limit - 1)
    return low.to(torch.int64), high.to(torch.int64), weights


def _as_rois(features: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
    """[K, 5] from either form, checked."""
    if features.ndim != 4:
        raise InputError(f"features have shape {list(features.shape)}, but must be [B, C, H, W]")
    if not isinstance(rois, Tensor):
        if len(rois) != len(features):
            raise InputError(f"there are boxes for {len(rois)} images, but features of {len(features)}")
        for image, boxes in enumerate(rois):
            if boxes.ndim != 2 or boxes.shape[1] != 4:
                raise InputError(f"the boxes of image {image} have shape {list(boxes.shape)}, but must be [L, 4]")
        index = [torch.full_like(boxes[:, :1], image) for image, boxes in enumerate(rois)]
        rois = torch.cat([torch.cat([i, boxes], 1) for i, boxes in zip(index, rois, strict=True)])
    if rois.ndim != 2 or rois.shape[1] != 5:
        raise InputError(f"rois have shape {list(rois.shape)}, but must be [K, 5]: batch index, x1, y1, x2, y2")
    return rois


def _pair(output_size: int | Size) -> Size:
    return (output_size, output_size) if isinstance(output_size, int) else (int(output_size[0]), int(output_size[1]))

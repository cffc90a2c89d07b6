"""RoI pooling and RoI align: fixed-size features of regions of any size.

RoI pooling (Fast R-CNN, Girshick 2015, section 2.1) and RoI align (Mask R-CNN, He et al. 2017, section 3), on one level
or a pyramid (Feature Pyramid Networks, Lin et al. 2017, section 4.2). Plain PyTorch, one implementation for every
device, differentiable in the features; results equal torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops._range_max import largest_in_bins
from sightline.ops._rois import as_rois, pair, snapped_bins, to_cell, wide
from sightline.ops._sampling import SampleGrid, read_samples
from sightline.structures import Size


def roi_pool(
    features: Tensor, rois: Tensor | Sequence[Tensor], output_size: int | Size, spatial_scale: float = 1.0
) -> Tensor:
    """RoI pooling (Fast R-CNN, section 2.1): the maximum of each bin, with regions rounded to whole cells.

    Args:
        features: [B, C, H, W] float.
        rois: [K, 5] (batch index, x1, y1, x2, y2), or a list with [L_i, 4] boxes for each of the B images.
        output_size: bins (height, width), or one number for both.
        spatial_scale: feature cells per pixel of the boxes: 1 / stride.

    Returns:
        [K, C, height, width], of the features' dtype and device. A bin outside of the map is 0. The gradient goes to
        the first largest cell of a bin.

    Raises:
        InputError: shapes do not fit.
    """
    rois = as_rois(features, rois)
    height, width = pair(output_size)
    box = to_cell(rois[:, 1:].to(wide(features).dtype) * spatial_scale)
    columns, rows = snapped_bins(box[:, 0], box[:, 2], width), snapped_bins(box[:, 1], box[:, 3], height)
    return largest_in_bins(wide(features), rois[:, 0].long(), rows, columns).to(features.dtype)


def roi_align(
    features: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int | Size,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    mode: str = "average",
) -> Tensor:
    """RoI align: the mean (as in the paper) or maximum of bilinear samples at regular points of each bin.

    Args:
        features: [B, C, H, W] float.
        rois: [K, 5] (batch index, x1, y1, x2, y2), or a list with [L_i, 4] boxes for each of the B images.
        output_size: bins (height, width), or one number for both.
        spatial_scale: feature cells per pixel of the boxes: 1 / stride.
        sampling_ratio: samples per bin in each direction; 0 or less: as many as the bin has cells, rounded up.
        aligned: whether boxes are shifted by half a cell, so that values are at the centres of cells (as in
            Detectron2). With False, as in the training of published checkpoints, regions are at least one cell large.
        mode: "average" or "max" of the samples in each bin.

    Returns:
        [K, C, height, width], of the features' dtype and device. Samples more than one cell outside count as 0.

    Raises:
        InputError: shapes do not fit or the mode is unknown.
    """
    rois = as_rois(features, rois)
    return _align([features], rois, None, [spatial_scale], pair(output_size), sampling_ratio, aligned, mode)


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
    """RoI align on the pyramid level that fits the size of each box.

    A box of `canonical_size` pixels uses the level of stride 2^canonical_level, a box of half the size the next finer
    level, and so on (Feature Pyramid Networks, equation 1).

    Args:
        features: maps [B, C, H_l, W_l], finest first, each half as large as the one before; one level works too.
        boxes: [L_i, 4] boxes of each of the B images, (x1, y1, x2, y2) pixels of the batch.
        image_size: (height, width) of the padded batch in pixels, from which strides are computed.
        output_size: bins (height, width), or one number for both.
        sampling_ratio, aligned: as for `roi_align`.
        canonical_size: in pixels.
        canonical_level: log2 of the stride.

    Returns:
        [sum of L_i, C, height, width], in the order of the boxes.

    Raises:
        InputError: shapes do not fit.
    """
    if not features:
        raise InputError("there are no feature maps, but regions need at least one level to read from")
    rois = as_rois(features[0], boxes)
    for number, feature in enumerate(features):
        if feature.ndim != 4 or feature.shape[:2] != features[0].shape[:2]:
            raise InputError(
                f"level {number} has features of shape {list(feature.shape)}, but all levels must be [B, C, H, W] with "
                f"the first one's batch and channels {list(features[0].shape[:2])}"
            )
    scales = pyramid_scales([feature.shape[-2] for feature in features], image_size[0])
    which = region_levels(rois[:, 1:], scales, canonical_size, canonical_level) if len(features) > 1 else None
    return _align(features, rois, which, scales, pair(output_size), sampling_ratio, aligned, "average")


def pyramid_scales(heights: Sequence[int], image_height: int) -> list[float]:
    """Cells per pixel of maps of these heights, powers of 2, for an image of `image_height` pixels."""
    return [2.0 ** round(math.log2(height / image_height)) for height in heights]


def region_levels(
    boxes: Tensor, scales: Sequence[float], canonical_size: int = 224, canonical_level: int = 4
) -> Tensor:
    """The pyramid level that fits the size of each box (Feature Pyramid Networks, equation 1).

    Args:
        boxes: [K, 4] xyxy in pixels.
        scales: cells per pixel of each level, powers of 2, from fine to coarse.
        canonical_size, canonical_level: as for `multiscale_roi_align`.

    Returns:
        [K] int64, index of the level.
    """
    lowest, highest = -math.log2(scales[0]), -math.log2(scales[-1])
    box = wide(boxes)
    size = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).sqrt().nan_to_num()
    # 1e-6 as torchvision adds it: a size that is exactly a power of two must not fall a level by rounding
    level = (canonical_level + torch.log2(size / canonical_size) + 1e-6).floor().clamp(lowest, highest)
    return (level - lowest).to(torch.int64)


def _align(
    features: Sequence[Tensor],
    rois: Tensor,
    level: Tensor | None,
    scales: Sequence[float],
    output_size: Size,
    sampling_ratio: int,
    aligned: bool,
    mode: str,
) -> Tensor:
    """RoI align of `rois` [K, 5], each from the map that `level` [K] says (or the one map)."""
    if mode not in ("average", "max"):
        raise InputError(f"mode is {mode!r}, but must be 'average' or 'max'")
    maps = [wide(feature) for feature in features]
    rois = rois.to(maps[0].dtype)
    own = torch.zeros_like(rois[:, 0], dtype=torch.int64) if level is None else level
    size = torch.tensor([(feature.shape[3], feature.shape[2]) for feature in features], device=rois.device)[own]
    box = rois[:, 1:] * rois.new_tensor(scales)[own, None] - (0.5 if aligned else 0.0)
    extent = box[:, 2:] - box[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    bin_size = extent / rois.new_tensor([output_size[1], output_size[0]])
    fixed = sampling_ratio if sampling_ratio > 0 else None
    samples = bin_size.ceil().clamp(min=0) if fixed is None else torch.full_like(bin_size, fixed)
    first = rois[:, 0].to(torch.int64) * size.prod(1)
    grid = SampleGrid(box[:, :2], bin_size, samples, size, first[:, None, None], level, output_size, fixed)
    return read_samples(maps, grid, largest=mode == "max").to(features[0].dtype)

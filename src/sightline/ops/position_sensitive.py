"""Position-sensitive RoI pooling and RoI align: each bin of a region uses separate channels.

R-FCN (Dai et al. 2016, section 2, "position-sensitive score maps & RoI pooling") averages whole cells; Light-Head R-CNN
(Li et al. 2017) samples bilinearly, as RoI align does. Plain PyTorch, differentiable in the features; results equal
torchvision's, whose channel order these have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import InputError
from sightline.ops._rois import as_rois, pair, snapped_bins, to_cell, wide
from sightline.ops._sampling import SampleGrid, read_samples
from sightline.structures import Size


def ps_roi_pool(
    features: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int | Size,
    spatial_scale: float = 1.0,
    whole_map: bool = False,
) -> Tensor:
    """Position-sensitive RoI pooling: the mean over the cells of each bin, from separate channels per bin.

    Args:
        features: [B, C·height·width, H, W] float; bin (i, j) of channel c reads channel (c·height + i)·width + j.
        rois: [K, 5] (batch index, x1, y1, x2, y2), or a list with [L_i, 4] boxes for each of the B images.
        output_size: bins (height, width), or one number for both.
        spatial_scale: feature cells per pixel of the boxes: 1 / stride.
        whole_map: whether the map's last row and column are used. Without it, as in torchvision, the value of a bin
            omits them, but its gradient includes them. This matches checkpoints, but training diverges, because values
            at the border receive gradients without having an effect.

    Returns:
        [K, C, height, width], of the features' dtype and device; a bin that holds no cell is 0.

    Raises:
        InputError: shapes do not fit, or the channels cannot be shared out among the bins.
    """
    rois = as_rois(features, rois)
    bins = pair(output_size)
    channels = _channels(features, bins)
    maps = wide(features)
    box = to_cell(rois[:, 1:].to(maps.dtype) * spatial_scale)
    columns = snapped_bins(box[:, 0], box[:, 2] - 1, bins[1])
    rows = snapped_bins(box[:, 1], box[:, 3] - 1, bins[0])

    # A sum over a rectangle is four corners of the summed map (Crow 1984), in float64 where the device has it.
    batch, _, height, width = maps.shape
    summed = F.pad(maps if maps.device.type == "mps" else maps.double(), (1, 0, 1, 0)).cumsum(2).cumsum(3)
    table = summed.view(batch, channels, bins[0] * bins[1], -1).permute(0, 2, 3, 1).reshape(-1, channels)
    first = _first_rows(rois, bins, (height + 1) * (width + 1))[..., None]
    sign = torch.tensor([1, -1, -1, 1], device=table.device, dtype=table.dtype)

    def means(below: int, right: int) -> Tensor:
        """[K·height·width, C], of bins that end before row `below` and column `right`."""
        y, x = rows.clamp(0, below), columns.clamp(0, right)
        corners = y[:, :, None, [0, 0, 1, 1]] * (width + 1) + x[:, None, :, [0, 1, 0, 1]] + first
        area = ((y[..., 1] - y[..., 0])[:, :, None] * (x[..., 1] - x[..., 0])[:, None]).view(-1, 1)
        weights = sign * (area > 0) / area.clamp(min=1)
        corners = corners.view(-1, 4)
        if torch.compiler.is_exporting():  # other runtimes have no bags
            return (table[corners] * weights[..., None]).sum(1)
        return F.embedding_bag(corners, table, per_sample_weights=weights, mode="sum")

    values = means(height, width) if whole_map else means(height - 1, width - 1)
    if table.requires_grad and not whole_map:
        whole = means(height, width)
        values = values.detach() + (whole - whole.detach())
    return values.view(rois.shape[0], *bins, channels).permute(0, 3, 1, 2).to(features.dtype).contiguous()


def ps_roi_align(
    features: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int | Size,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
) -> Tensor:
    """Position-sensitive RoI align: the mean of bilinear samples in each bin, from separate channels per bin.

    Args:
        features: [B, C·height·width, H, W] float; bin (i, j) of channel c reads channel (c·height + i)·width + j.
        rois: [K, 5] (batch index, x1, y1, x2, y2), or a list with [L_i, 4] boxes for each of the B images. They are
            shifted by half a cell, as `roi_align` does with aligned=True.
        output_size: bins (height, width), or one number for both.
        spatial_scale: feature cells per pixel of the boxes: 1 / stride.
        sampling_ratio: samples per bin in each direction; 0 or less: as many as the bin has cells, rounded up.

    Returns:
        [K, C, height, width], of the features' dtype and device. A bin without samples (of an empty region, with
        adaptive samples) is 0, where torchvision gives nan.

    Raises:
        InputError: shapes do not fit, or the channels cannot be shared out among the bins.
    """
    rois = as_rois(features, rois)
    bins = pair(output_size)
    channels = _channels(features, bins)
    maps = wide(features)
    batch, _, height, width = maps.shape
    maps = maps.reshape(batch, channels, bins[0] * bins[1], height, width).transpose(1, 2)
    box = rois[:, 1:].to(maps.dtype) * spatial_scale - 0.5
    bin_size = (box[:, 2:] - box[:, :2]) / box.new_tensor([bins[1], bins[0]])
    fixed = sampling_ratio if sampling_ratio > 0 else None
    samples = bin_size.ceil().clamp(min=0) if fixed is None else torch.full_like(bin_size, fixed)
    size = torch.tensor([width, height], device=box.device).expand(len(rois), 2)
    first = _first_rows(rois, bins, height * width)
    grid = SampleGrid(box[:, :2], bin_size, samples, size, first, None, bins, fixed)
    return read_samples([maps], grid).to(features.dtype)


def _first_rows(rois: Tensor, bins: Size, cells: int) -> Tensor:
    """[K, height, width], where the map of each bin begins in a table of maps of `cells` rows, bin after bin."""
    number = torch.arange(bins[0] * bins[1], device=rois.device).view(bins)
    return (rois[:, 0].long()[:, None, None] * (bins[0] * bins[1]) + number) * cells


def _channels(features: Tensor, bins: Size) -> int:
    channels, rest = divmod(features.shape[1], bins[0] * bins[1])
    if rest or not channels:
        raise InputError(
            f"features have {features.shape[1]} channels, but {bins[0]} × {bins[1]} bins need a multiple of "
            f"{bins[0] * bins[1]}"
        )
    return channels

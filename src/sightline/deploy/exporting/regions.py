"""Region-based detectors with fixed shapes: proposals, region features and boxes, for exported models.

Every image has the largest number of proposals and of detections that it can have. Places that hold none have the score
`LEAST` and a box of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.deploy.exporting.operators import LEAST, kept_by_nms
from sightline.deploy.exporting.part import as_batch
from sightline.deploy.exporting.region_operators import aligned_regions, pooled_regions
from sightline.deploy.exporting.selecting import Selected, at_places, clipped
from sightline.errors import InputError
from sightline.models.detection.light_head_rcnn import ThinRegions
from sightline.nn.heads.box import RegionHeads
from sightline.nn.heads.position_sensitive import PositionSensitiveHeads
from sightline.nn.heads.regions import AlignedRegions, PooledRegions
from sightline.nn.heads.rpn import RegionProposalNetwork
from sightline.ops.boxes import decode_boxes
from sightline.ops.position_sensitive import ps_roi_pool


def proposed(rpn: RegionProposalNetwork, maps: dict[str, Tensor], batch: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The proposals of a batch of N images, best first, as `RegionProposalNetwork.ranked`.

    Args:
        rpn: the region proposal network.
        maps: the maps of the backbone.
        batch: [N, C, H, W].
        size: [2] int64, the (height, width) of the images in the batch.

    Returns:
        Boxes [N, P, 4] in pixels of the batch, and their objectness [N, P].
    """
    s = rpn.settings
    limit, most = s.before_nms[1], s.after_nms[1]
    boxes, scores, levels = [], [], []
    for level, (score, delta, anchor) in enumerate(zip(*rpn.outputs(maps, as_batch(batch)), strict=True)):
        value, places = F.pad(score.float(), (0, limit), value=-torch.inf).topk(limit)
        chosen = at_places(F.pad(delta.float(), (0, 0, 0, limit)), places)
        boxes.append(decode_boxes(chosen, F.pad(anchor, (0, 0, 0, limit))[places]))
        scores.append(torch.where(value > -torch.inf, value.sigmoid(), LEAST))
        levels.append(torch.full_like(places, level))
    box, score, group = clipped(torch.cat(boxes, 1), size), torch.cat(scores, 1), torch.cat(levels, 1)
    large = (box[..., 2:] - box[..., :2] >= s.min_size).all(-1)
    score = torch.where(large & (score >= s.min_score), score, LEAST)
    score = torch.where(kept_by_nms(box, score, group, len(levels), s.nms_iou), score, LEAST)
    score, order = score.topk(min(most, limit * len(levels)))
    return torch.where(score[..., None] > LEAST, at_places(box, order), 0), score


def detected(heads: RegionHeads, maps: dict[str, Tensor], proposals: tuple[Tensor, Tensor], size: Tensor) -> Selected:
    """The detections of a batch, as `RegionHeads.decode`: labels are outputs of the head, 1 … K.

    Args:
        heads: maps and regions → classes and boxes.
        maps: the maps of the backbone.
        proposals: of `proposed`.
        size: [2] int64, the (height, width) of the images in the batch.

    Raises:
        InputError: the heads have no exported form.
    """
    regions, objectness = proposals
    s, (images, count, _) = heads.settings, regions.shape
    logits, deltas = predicted(heads, maps, as_rois(regions), size)
    scores = logits.float().softmax(-1)[:, 1:].reshape(images, count, -1)  # without the background
    outputs = scores.shape[-1]
    box = decode_boxes(deltas[:, 1:].float(), regions.reshape(-1, 1, 4), s.weights)
    box = clipped(box, size).reshape(images, count, outputs, 4)
    large = (box[..., 2:] - box[..., :2] >= s.min_size).all(-1)
    scores = torch.where(large & (scores > s.min_score) & (objectness[..., None] > LEAST), scores, LEAST)
    # boxes only suppress boxes of the same class, so each class is an image of its own
    own, score = box.transpose(1, 2).flatten(0, 1), scores.transpose(1, 2).flatten(0, 1)
    kept = kept_by_nms(own, score, torch.zeros_like(score, dtype=torch.int64), 1, s.nms_iou)
    scores = torch.where(kept.reshape(images, outputs, count).transpose(1, 2), scores, LEAST)
    best, order = F.pad(scores.flatten(1), (0, s.max_detections), value=LEAST).topk(s.max_detections)
    boxes = at_places(F.pad(box.flatten(1, 2), (0, 0, 0, s.max_detections)), order)
    return Selected(torch.where(best[..., None] > LEAST, boxes, 0), best, order % outputs + 1, order // outputs)


def as_rois(boxes: Tensor) -> Tensor:
    """Boxes [N, R, 4] of each image as [N·R, 5]: image, x1, y1, x2, y2."""
    image = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    return torch.cat([image[:, None, None].expand(-1, boxes.shape[1], -1), boxes], 2).flatten(0, 1)


def predicted(heads: RegionHeads, maps: dict[str, Tensor], rois: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [R, K+1] before the softmax and deltas [R, K+1, 4] of regions [R, 5], as `RegionHeads.predict`."""
    if isinstance(heads, PositionSensitiveHeads):
        regions = heads.vote
        scores, deltas = (
            ps_roi_pool(x, rois, regions.bins, 1 / regions.stride, whole_map=True).mean((2, 3))
            for x in heads.box_predictor(heads.box_head(maps[heads.level]))
        )
        return scores, deltas[:, None].expand(-1, scores.shape[1], -1)
    found: tuple[Tensor, Tensor] = heads.box_predictor(
        heads.box_head(region_features(heads.region_features, maps, rois, size))
    )
    return found


@singledispatch
def region_features(reader: Any, maps: dict[str, Tensor], rois: Tensor, size: Tensor) -> Tensor:
    """The features [R, C, h, w] that `reader` crops for regions [R, 5] (image, x1, y1, x2, y2 in pixels of the batch).

    Raises:
        InputError: the reader has no exported form.
    """
    raise InputError(f"its regions are cropped by {type(reader).__name__}, which has no exported form yet")


@region_features.register
def _pooled(reader: PooledRegions, maps: dict[str, Tensor], rois: Tensor, size: Tensor) -> Tensor:
    return pooled_regions(maps[reader.level], rois, reader.size, 1 / reader.stride)


@region_features.register
def _aligned(reader: AlignedRegions, maps: dict[str, Tensor], rois: Tensor, size: Tensor) -> Tensor:
    """As `multiscale_roi_align`, whose strides depend on the size of the image."""
    chosen = [maps[name] for name in reader.levels]
    strides = [_log2_stride(x, size) for x in chosen]
    levels = pyramid_levels(rois[:, 1:], strides)
    scale = torch.exp2(-torch.stack(strides))[levels]
    cells = torch.cat([rois[:, :1], rois[:, 1:] * scale[:, None]], 1)
    return aligned_regions(chosen, cells, levels, reader.size, reader.samples, False)


@region_features.register
def _thin(reader: ThinRegions, maps: dict[str, Tensor], rois: Tensor, size: Tensor) -> Tensor:
    """As `ps_roi_align`: each bin is a region of its own with one bin, on a map of its own."""
    x, bins = reader.maps(maps[reader.level]), reader.bins
    images, channels, height, width = x.shape[0], x.shape[1] // bins**2, x.shape[2], x.shape[3]
    own = x.reshape(images, channels, bins**2, height, width).transpose(1, 2).flatten(0, 1)
    number = torch.arange(bins, device=x.device, dtype=x.dtype)
    corner, side = rois[:, 1:3] / reader.stride, (rois[:, 3:] - rois[:, 1:3]) / (reader.stride * bins)
    low = torch.stack(
        [
            (corner[:, :1] + number * side[:, :1])[:, None].expand(-1, bins, -1),
            (corner[:, 1:] + number * side[:, 1:])[:, :, None].expand(-1, -1, bins),
        ],
        -1,
    ).flatten(1, 2)  # [R, bins², 2], row by row
    which = rois[:, :1] * bins**2 + torch.arange(bins**2, device=x.device, dtype=x.dtype)
    cells = torch.cat([which[..., None], low, low + side[:, None]], 2).flatten(0, 1)
    values = aligned_regions([own], cells, torch.zeros_like(cells[:, 0], dtype=torch.int64), 1, 2, True)
    return values.reshape(-1, bins, bins, channels).permute(0, 3, 1, 2)


def pyramid_levels(boxes: Tensor, strides: Sequence[Tensor]) -> Tensor:
    """The pyramid level [R] int64 of boxes [R, 4], as `sightline.ops.regions.region_levels`.

    `strides` are the binary logarithms of the levels' strides, from fine to coarse.
    """
    size = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = (4 + torch.log2(size / 224) + 1e-6).floor()
    return (torch.minimum(torch.maximum(level, strides[0]), strides[-1]) - strides[0]).to(torch.int64)


def _log2_stride(x: Tensor, size: Tensor) -> Tensor:
    """The binary logarithm of a map's stride for images of `size`, as `sightline.ops.regions.pyramid_scales`."""
    height = torch.full((), x.shape[-2], dtype=torch.float64, device=x.device)
    return -torch.log2(height / size[0]).round().float()

"""Intervals of time (start, end): overlap and non-maximum suppression, as those of boxes of height 1."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.ops.boxes import box_iou
from sightline.ops.suppression import nms


def as_boxes(times: Tensor) -> Tensor:
    """Intervals [N, 2] → boxes [N, 4] xyxy that extend from 0 to 1 in y, so that their IoU is that of the intervals."""
    start, end = times.unbind(-1)
    return torch.stack([start, torch.zeros_like(start), end, torch.ones_like(end)], -1)


def interval_iou(a: Tensor, b: Tensor) -> Tensor:
    """Temporal IoU, the length of the intersection over that of the union: [N, 2] and [M, 2] → [N, M]."""
    return box_iou(as_boxes(a), as_boxes(b))


def interval_nms(times: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Indices of the intervals [N, 2] that non-maximum suppression keeps, by descending score [N]."""
    return nms(as_boxes(times), scores, iou)


def encode_intervals(times: Tensor, anchors: Tensor) -> Tensor:
    """Offsets [N, 2] from anchors to intervals, both [N, 2], as those of boxes.

    These are the shift of the centre, divided by the anchor's length, and the logarithm of the ratio of the lengths.
    """
    length, own = anchors[:, 1] - anchors[:, 0], times[:, 1] - times[:, 0]
    shift = (times.sum(1) - anchors.sum(1)) / 2 / length
    return torch.stack([shift, (own / length).log()], 1)


def decode_intervals(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Intervals [..., 2] from anchors and their offsets [..., 2]; the inverse of `encode_intervals`."""
    length = anchors[..., 1] - anchors[..., 0]
    centre = anchors.sum(-1) / 2 + deltas[..., 0] * length
    half = deltas[..., 1].clamp(max=4.0).exp() * length / 2
    return torch.stack([centre - half, centre + half], -1)

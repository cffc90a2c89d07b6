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
    """Indices of the intervals [N, 2] that non-maximum suppression keeps, by falling score [N]."""
    return nms(as_boxes(times), scores, iou)

"""Non-maximum suppression: of boxes that say the same, keep the best.

Plain PyTorch on any device; results equal torchvision's. Boxes are (x1, y1, x2, y2) pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import InputError

_BLOCK = 128  # rows compared with all later boxes at a time: 3 ms for 1000 boxes where the full matrix takes 13


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: [N, 4] float, (x1, y1, x2, y2) pixels.
        scores: [N] float.
        iou_threshold: a box is dropped when its IoU with a kept box of higher score is above this.

    Returns:
        [K] int64, ids of the kept boxes by falling score; equal scores in the order given.

    Raises:
        InputError: shapes do not fit.
    """
    _check(boxes, scores)
    order = scores.argsort(stable=True, descending=True)
    return order[_greedy(_computable(boxes.detach())[order], iou_threshold)]


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each class (or level, or image): boxes of other labels never suppress.

    Args:
        boxes: [N, 4] float, (x1, y1, x2, y2) pixels.
        scores: [N] float.
        labels: [N] integer; any ids.
        iou_threshold: as for `nms`.

    Returns:
        [K] int64, ids of the kept boxes of all labels by falling score.

    Raises:
        InputError: shapes do not fit.
    """
    _check(boxes, scores, labels)
    order = scores.argsort(stable=True, descending=True)
    return order[_greedy(_computable(boxes.detach())[order], iou_threshold, labels[order])]


def _greedy(boxes: Tensor, iou_threshold: float, labels: Tensor | None = None) -> Tensor:
    """Positions of the kept among `boxes` [N, 4], which are sorted by falling score."""
    alive = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    for start in range(0, len(boxes), _BLOCK):
        stop = min(start + _BLOCK, len(boxes))
        over = _iou(boxes[start:stop], boxes[start:]) > iou_threshold
        if labels is not None:
            over &= labels[start:stop, None] == labels[None, start:]
        within = over[:, : stop - start].triu(1)
        kept = alive[start:stop]
        # Greedy choice is the one fixed point of "kept if no kept one before it overlaps".
        while True:
            again = alive[start:stop] & ~(within & kept[:, None]).any(0)
            if torch.equal(again, kept):
                break
            kept = again
        alive[start:stop] = kept
        alive[stop:] &= ~(over[:, stop - start :] & kept[:, None]).any(0)
    return alive.nonzero().flatten()


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """[A, 4], [B, 4] → [A, B]; nan for two boxes without area, which compares as "not above"."""
    a, b = a.T[:, :, None], b.T[:, None, :]
    width = (torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])).clamp_(min=0)
    height = (torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])).clamp_(min=0)
    intersection = width.mul_(height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return intersection.div_(union)


def _computable(boxes: Tensor) -> Tensor:
    """In a dtype precise enough for areas: half precision (and integers) as float32."""
    return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float()


def _check(boxes: Tensor, scores: Tensor, labels: Tensor | None = None) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes have shape {list(boxes.shape)}, but must be [N, 4]: x1, y1, x2, y2")
    for name, value in (("scores", scores), ("labels", labels)):
        if value is not None and value.shape != boxes.shape[:1]:
            raise InputError(f"{name} have shape {list(value.shape)}, but there are {len(boxes)} boxes: must be [N]")

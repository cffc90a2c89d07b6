"""Matrix non-maximum suppression: scores fall by overlap, all at once."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.suppression import _Boxes, _check, _iou, _of


def matrix_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None = None,
    method: str = "gaussian",
    sigma: float = 0.5,
    score_threshold: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Matrix NMS: decreases the score of every box by its overlap with all boxes of higher score, in parallel.

    The score of box j is multiplied by the minimum of f(IoU_ij) / f(max_k IoU_ki) over all boxes i of the same label
    with a higher score, where k are the boxes with a higher score than i. The denominator accounts for the suppression
    of box i itself. f(v) is exp(−v² / sigma) or 1 − v.

    Args:
        boxes: [N, 4] float, (x1, y1, x2, y2) pixels.
        scores: [N] float, not negative. Ties are resolved to the first box.
        labels: [N] integer; boxes of different labels do not affect each other. None: all have the same label.
        method: f: "gaussian" or "linear".
        sigma: parameter of the Gaussian; 0.5 corresponds to a factor of 2 in the exponent.
        score_threshold: boxes with a lower new score are removed.

    Returns:
        Indices [K] int64 of the remaining boxes in descending order of their new scores, and these scores [K] in the
        dtype of `scores`.

    Raises:
        InputError: shapes do not fit, the method is unknown, or sigma is not above 0.

    Source: Wang et al., SOLOv2, in the proceedings of NeurIPS 2020, section 2.2, equations 3 and 4 (the first preprint
    numbers them otherwise); there of masks, in PP-YOLO of boxes.
    """
    _check(boxes, scores, 0.0, labels)
    if method not in ("gaussian", "linear"):
        raise InputError(f"method is {method!r}, but must be 'gaussian' or 'linear'")
    if not sigma > 0:
        raise InputError(f"sigma is {sigma}, but must be above 0")
    by_score = scores.argsort(stable=True, descending=True)
    near = _Boxes.of(_of(boxes, by_score), None if labels is None else _of(labels, by_score), 0.0)
    order, count = near.order()
    a, b = near.at(order).pairs(count, 0.0)  # boxes that do not overlap take nothing from each other
    a, b = _of(order, a), _of(order, b)
    better, worse = torch.minimum(a, b), torch.maximum(a, b)  # positions by descending score
    iou = _iou(near.at(better).columns, near.at(worse).columns)
    left = _of(scores.detach(), by_score).to(iou.dtype)
    covered = torch.zeros_like(left).scatter_reduce(0, worse, iou, "amax")
    by_better = _of(covered, better)
    if method == "gaussian":
        decay = torch.exp((by_better**2 - iou**2) / sigma)
    else:
        decay = (1 - iou) / (1 - by_better).clamp(min=1e-12)  # of two better boxes on one another, the first decides
    left = left * torch.ones_like(left).scatter_reduce(0, worse, decay, "amin")
    ids = left.argsort(stable=True, descending=True)
    ids = ids[left[ids] >= score_threshold]
    return _of(by_score, ids), left[ids].to(scores.dtype)

"""Task-aligned assignment: objects go to the points whose predictions are already good in class and place at once."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.ops.assignment import BACKGROUND


@torch.no_grad()
def match_task_aligned(
    scores: Tensor, iou: Tensor, inside: Tensor, top: int = 13, alpha: float = 1.0, beta: float = 6.0
) -> tuple[Tensor, Tensor]:
    """Each ground truth takes the points whose predictions already say its class and its place best together.

    A point is rated by t = s^α · IoU^β. Each ground truth takes the `top` best of the points it admits; a point that
    several take goes to the one its box overlaps most.

    Args:
        scores: [G, N] what each point's prediction gives the ground truth's class, in [0, 1].
        iou: [G, N] overlap of each point's predicted box with the ground truth.
        inside: [G, N] bool, the points that a ground truth admits: those that lie in its box.
        top: points a ground truth takes at most.
        alpha, beta: how much the class and the place count.

    Returns:
        matches [N] int64, a ground truth's index or −1 background; quality [N] float in [0, 1], 0 where background: the
        score a point should give. It is t, scaled so that a ground truth's best point has its largest overlap.

    Source: Feng et al., "TOOD", 2021, section 3.2, equations 4 and 5.
    """
    matches = torch.full((iou.shape[1],), BACKGROUND, dtype=torch.int64, device=iou.device)
    if iou.shape[0] == 0 or iou.shape[1] == 0:
        return matches, iou.new_zeros(iou.shape[1])
    iou = iou.nan_to_num(nan=0.0).clamp(min=0)
    rating = (scores.to(iou.dtype) ** alpha * iou**beta).masked_fill(~inside, -1)
    best = rating.topk(min(top, iou.shape[1]), dim=1).indices
    taken = torch.zeros_like(inside).scatter_(1, best, True) & inside
    overlap, owner = iou.masked_fill(~taken, -1).max(0)
    matches = torch.where(overlap >= 0, owner, matches)
    taken = matches == torch.arange(iou.shape[0], device=iou.device)[:, None]
    rating, iou = rating * taken, iou * taken
    scale = iou.amax(1) / rating.amax(1).clamp(min=1e-12)
    return matches, (rating * scale[:, None]).amax(0).clamp(max=1)

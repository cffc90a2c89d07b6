"""Task-aligned assignment: objects go to the points whose predictions are already good in class and place at once."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.ops.assignment import BACKGROUND


@torch.no_grad()
def match_task_aligned(
    objects: Tensor,
    points: Tensor,
    scores: Tensor,
    iou: Tensor,
    size: tuple[int, int],
    top: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> tuple[Tensor, Tensor]:
    """Each ground truth takes the points whose predictions already say its class and its place best together.

    A point is rated by t = s^α · IoU^β. Each ground truth takes the `top` best of the points it admits; a point that
    several take goes to the one its box overlaps most.

    Only admitted pairs are given, P of the G · N there could be: an object admits few of the points. A whole batch is
    matched at once where its images' objects and points are numbered through.

    Args:
        objects: [P] int64, the ground truth of each pair, ascending.
        points: [P] int64, its point.
        scores: [P] what the point's prediction gives the ground truth's class, in [0, 1].
        iou: [P] overlap of the point's predicted box with the ground truth.
        size: (G, N), ground truths and points.
        top: points a ground truth takes at most.
        alpha, beta: how much the class and the place count.

    Returns:
        matches [N] int64, a ground truth's index or −1 background; quality [N] float in [0, 1], 0 where background: the
        score a point should give. It is t, scaled so that a ground truth's best point has its largest overlap.

    Source: Feng et al., "TOOD", 2021, section 3.2.
    """
    count, length = size
    matches = torch.full((length,), BACKGROUND, dtype=torch.int64, device=iou.device)
    quality = iou.new_zeros(length)
    if not len(objects):
        return matches, quality
    iou = iou.nan_to_num(nan=0.0).clamp(min=0)
    rating = scores.to(iou.dtype) ** alpha * iou**beta
    # a row of ratings for each object, as wide as the one that admits the most
    admitted = torch.bincount(objects, minlength=count)
    place = torch.arange(len(objects), device=iou.device) - (admitted.cumsum(0) - admitted)[objects]
    rows = rating.new_full((count, int(admitted.max())), -1)
    rows[objects, place] = rating
    best = rows.topk(min(top, rows.shape[1]), dim=1).indices
    taken = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, best, True)[objects, place]
    objects, points, rating, iou = objects[taken], points[taken], rating[taken], iou[taken]
    most = iou.new_full((length,), -1).scatter_reduce_(0, points, iou, "amax")
    owns = iou == most[points]
    first = torch.full_like(matches, count)  # of several that overlap a point equally
    owner = first.scatter_reduce_(0, points[owns], objects[owns], "amin")
    matches = torch.where(owner < count, owner, matches)
    owns = matches[points] == objects
    objects, points, rating, iou = objects[owns], points[owns], rating[owns], iou[owns]
    largest = iou.new_zeros(2, count)  # overlap and rating of each object's points
    largest.scatter_reduce_(1, objects.expand(2, -1), torch.stack([iou, rating]), "amax")
    scale = largest[0] / largest[1].clamp(min=torch.finfo(iou.dtype).tiny)
    quality[points] = (rating * scale[objects]).clamp(max=1)
    return matches, quality

"""Merging of similar boxes, an alternative to non-maximum suppression.

Sermanet et al., "OverFeat: integrated recognition, localization and detection using convolutional networks", ICLR 2014,
section 4.3.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.boxes import box_area, box_iou


def match_score(a: Tensor, b: Tensor) -> Tensor:
    """Match score of pairs of boxes: 0 for equal boxes, at least 1 for disjoint boxes.

    The score is the distance of the centres plus 1 − IoU. The paper adds the distance and the area of the intersection
    without specifying units; here the distance is divided by the square root of the mean area, so that the score has no
    unit.

    Args:
        a, b: boxes [N, 4] and [M, 4] xyxy.

    Returns:
        [N, M].
    """
    centres = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (a, b)]
    area = (box_area(a)[:, None] + box_area(b)) / 2
    distance = (centres[0][:, None] - centres[1]).norm(dim=-1) / area.clamp(min=1e-12).sqrt()
    return distance + 1 - box_iou(a, b).nan_to_num(nan=0.0)


@torch.no_grad()
def merge_boxes(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float = 0.8) -> tuple[Tensor, Tensor, Tensor]:
    """Greedy merging: the two boxes of a class with the best match score are replaced by their mean, repeatedly.

    Coordinates are averaged without weights and scores are added, as in the paper. The loop over merges runs on the CPU
    with an N × N table, so this is meant for a few hundred boxes.

    Args:
        boxes: [N, 4] xyxy.
        scores: [N].
        labels: [N] integer; boxes of different labels are never merged.
        threshold: maximum match score of a pair to merge.

    Returns:
        boxes [K, 4], summed scores [K] (which may exceed 1), labels [K]; by descending score, on the device of `boxes`.

    Raises:
        InputError: lengths differ.
    """
    if not len(boxes) == len(scores) == len(labels):
        raise InputError(f"there are {len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels; give one each")
    exact = boxes.detach().cpu().double()
    same = (labels[:, None] == labels).cpu().fill_diagonal_(False)
    # plain arrays from here on: a step is many small operations, whose overhead is less there
    table = match_score(exact, exact).masked_fill(~same, torch.inf).numpy()
    box, score, label = exact.numpy().copy(), scores.detach().cpu().double().numpy().copy(), labels.cpu().numpy()
    alive = np.ones(len(box), bool)
    nearest = table.min(1, initial=np.inf)  # of every box, so that a step need not read the whole table
    while len(box) and np.isfinite(nearest.min()) and nearest.min() <= threshold:
        first = int(nearest.argmin())
        second = int(table[first].argmin())  # the later of the two: the table is symmetric
        box[first] = (box[first] + box[second]) / 2
        score[first] += score[second]
        alive[second] = False
        stale = ((nearest == table[first]) | (nearest == table[second])) & np.isfinite(nearest)
        table[second] = table[:, second] = np.inf
        row = np.where(alive & (label == label[first]), _match_scores(box[first], box), np.inf)
        row[first] = np.inf
        table[first] = table[:, first] = row
        nearest = np.minimum(nearest, row)
        stale[[first, second]] = True
        nearest[stale] = table[stale].min(1)
    left = np.flatnonzero(alive)
    order = left[np.argsort(-score[left], kind="stable")]
    return (
        torch.from_numpy(box[order]).to(boxes.dtype).to(boxes.device),
        torch.from_numpy(score[order]).to(scores.dtype).to(boxes.device),
        labels[torch.from_numpy(order).to(labels.device)],
    )


def _match_scores(one: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """`match_score` of one box with each of `boxes` [N, 4]."""
    inside = np.maximum(np.minimum(one[2:], boxes[:, 2:]) - np.maximum(one[:2], boxes[:, :2]), 0)
    intersection = inside[:, 0] * inside[:, 1]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    both = area + (one[2] - one[0]) * (one[3] - one[1])
    apart = (one[:2] + one[2:] - boxes[:, :2] - boxes[:, 2:]) / 2
    distance = np.hypot(apart[:, 0], apart[:, 1]) / np.sqrt(np.maximum(both / 2, 1e-12))
    return distance + 1 - intersection / np.maximum(both - intersection, 1e-12)

"""Merging: of boxes that say the same, make one, whose evidence is the sum of theirs.

The other answer to the question of non-maximum suppression: Sermanet et al., "OverFeat: integrated recognition,
localization and detection using convolutional networks", ICLR 2014, section 4.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.boxes import box_area, box_iou


def match_score(a: Tensor, b: Tensor) -> Tensor:
    """How far two boxes are from saying the same: 0 for equal boxes, 1 or more for boxes apart.

    The distance of their centres plus what they lack of overlapping. The paper adds the distance to the intersection's
    area without saying in which units; here the distance is divided by the side of a square of the boxes' mean area,
    and the intersection is 1 − IoU, so that the score knows no pixels.

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
    """Greedy merging: the two boxes of a class that match best become their mean, until none match well enough.

    The coordinates of a pair are averaged as they are, whatever number of boxes each was made of, and the scores are
    added, as in the paper. It loops over merges (each needs the one before) on the processor, over an N × N table:
    meant for some hundred boxes.

    Args:
        boxes: [N, 4] xyxy.
        scores: [N].
        labels: [N] integer; boxes of different labels are never merged.
        threshold: the largest match score of a pair that is merged.

    Returns:
        boxes [K, 4], summed scores [K] (they may pass 1), labels [K]; by falling score, on the device of `boxes`.

    Raises:
        InputError: lengths differ.
    """
    if not len(boxes) == len(scores) == len(labels):
        raise InputError(f"there are {len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels; give one each")
    device, count = boxes.device, len(boxes)
    boxes, scores, labels = boxes.float().cpu().clone(), scores.float().cpu().clone(), labels.cpu()
    possible = (labels[:, None] == labels).triu(1)
    table = match_score(boxes, boxes).masked_fill(~possible, torch.inf)
    alive = torch.ones(count, dtype=torch.bool)
    while count > 1:
        pair = int(table.argmin())
        first, second = divmod(pair, count)  # first < second: the table's lower half is infinite
        if not table[first, second] <= threshold:
            break
        boxes[first] = (boxes[first] + boxes[second]) / 2
        scores[first] += scores[second]
        alive[second] = False
        table[second] = table[:, second] = torch.inf
        row = match_score(boxes[first : first + 1], boxes)[0].masked_fill(~alive | (labels != labels[first]), torch.inf)
        table[first, first + 1 :] = row[first + 1 :]
        table[:first, first] = row[:first]
    left = alive.nonzero().flatten()
    order = left[scores[left].argsort(descending=True, stable=True)]
    return boxes[order].to(device), scores[order].to(device), labels[order].to(device)

"""Selection of detections with fixed shapes: what `sightline.models.detection.candidates.select` does, for exported
models.

All tensors have their maximum size; entries without a detection have the score −1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sightline.deploy.exporting.operators import LEAST, best_entries, best_scores, kept_by_nms
from sightline.deploy.exporting.soft_operator import softened
from sightline.errors import InputError
from sightline.models.detection.candidates import DenseCandidates, Selection
from sightline.ops.boxes import elementwise_iou


class Selected(NamedTuple):
    """The detections of a batch of N images, by descending score: D places in each image.

    Attributes:
        boxes: [N, D, 4] xyxy in pixels of the batch.
        scores: [N, D], −1 where there is no detection.
        labels: [N, D] int64 class ids.
        places: [N, D] int64, the row among the candidates.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    places: Tensor


def selected(found: DenseCandidates, selection: Selection, size: Tensor) -> Selected:
    """Select the detections of a batch.

    Args:
        found: the candidates of the batch.
        selection: how the model selects among them.
        size: [2] int64, the (height, width) that boxes are clipped to, in pixels of the batch.

    Raises:
        InputError: the model selects by a method without an exported form.
    """
    if selection.method == "merging":
        raise InputError("its detections are merged from several boxes, which has no exported form")
    classes = found.scores.shape[-1]
    scores, places, labels = best_pairs(found, selection)
    by_class = selection.candidates is not None and selection.candidates_per == "class"
    if by_class:  # each place may be chosen for several classes
        every = clipped(found.boxes, size)
        boxes, solid = rows_at(every, places), _solid(every, selection).gather(1, places)
    else:
        boxes = clipped(boxes_at(found, places), size)
        solid = _solid(boxes, selection)
    scores = torch.where(solid & (scores > selection.min_score), scores, LEAST)
    most = scores.shape[1] if selection.max_detections is None else min(selection.max_detections, scores.shape[1])
    if selection.method == "soft_nms":
        order, scores = softened(boxes, scores, labels, selection.sigma, selection.min_score, most)
        return Selected(rows_at(boxes, order), scores, labels.gather(1, order), places.gather(1, order))
    if selection.method == "matrix_nms":
        scores = lowered(boxes, scores, labels, selection)
    elif selection.nms_iou is not None:
        groups, number = (labels, classes) if selection.per_class else (torch.zeros_like(labels), 1)
        if selection.per_level:
            groups, number = groups + level_of(places, found) * number, number * len(found.counts)
        if by_class and selection.per_class and not selection.per_level:  # each class as an image of its own
            parts = (value.unflatten(1, (classes, -1)).flatten(0, 1) for value in (boxes, scores, groups))
            box, score, group = parts
            kept = kept_by_nms(box, score, torch.zeros_like(group), 1, selection.nms_iou).reshape(scores.shape)
        else:
            kept = kept_by_nms(boxes, scores, groups, number, selection.nms_iou)
        scores = torch.where(kept, scores, LEAST)
    scores, order = scores.topk(most)
    return Selected(rows_at(boxes, order), scores, labels.gather(1, order), places.gather(1, order))


def _solid(boxes: Tensor, selection: Selection) -> Tensor:
    """Whether the sides of boxes [..., 4] have the least length."""
    return (boxes[..., 2:] - boxes[..., :2] >= selection.min_size).all(-1)


def lowered(boxes: Tensor, scores: Tensor, labels: Tensor, selection: Selection) -> Tensor:
    """Scores [N, P] after matrix NMS of boxes [N, P, 4] with labels [N, P], see `sightline.ops.matrix_nms`.

    Scores below the selection's minimum score become `LEAST`.
    """
    score, order = falling(scores)
    box, label = rows_at(boxes, order), labels.gather(1, order)
    same = (label[:, :, None] == label[:, None]) & (score > LEAST)[:, None]
    better = torch.ones_like(same).triu(1)  # row i comes before column j
    iou = torch.where(same & better, elementwise_iou(box[:, :, None], box[:, None]), 0).nan_to_num()
    covered = iou.amax(1)[:, :, None]  # of each better box, by its own better ones
    if selection.decay == "gaussian":
        factor = torch.exp((covered**2 - iou**2) / selection.sigma)
    else:
        factor = (1 - iou) / (1 - covered).clamp(min=1e-12)
    less = score * torch.where(iou > 0, factor, 1).amin(1).clamp(max=1)
    less = torch.where(less >= selection.min_score, less, LEAST)
    return torch.zeros_like(less).scatter(1, order, torch.where(score > LEAST, less, LEAST))


def best_pairs(found: DenseCandidates, selection: Selection) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs (place, class) that enter suppression: scores, places and classes, [N, P] each.

    Where fewer pairs are above the minimum score than the limit allows, the rest have the minimum score and place 0.
    """
    number = found.scores.shape[-1]
    if selection.candidates is None:
        labels = torch.arange(number, device=found.scores.device).expand_as(found.scores).flatten(1)
        places = torch.arange(found.scores.shape[1], device=labels.device)[:, None].expand_as(found.scores).flatten(1)
        return found.scores.flatten(1), places, labels
    limit, least = selection.candidates, selection.min_score
    if selection.candidates_per == "class":
        scores, places = best_scores(found.scores.transpose(1, 2), limit, least)  # [N, K, limit]
        labels = torch.arange(number, device=places.device)[:, None].expand_as(places)
        return scores.flatten(1), places.flatten(1), labels.flatten(1)
    counts = list(found.counts) if selection.candidates_per == "level" else [sum(found.counts)]
    parts, begin = [], 0
    for count in counts:
        scores, places, labels = best_entries(found.scores[:, begin : begin + count], limit, least)
        parts.append((scores, places + begin, labels))
        begin = begin + count
    scores, places, labels = (torch.cat(values, 1) for values in zip(*parts, strict=True))
    return scores, places, labels


def boxes_at(found: DenseCandidates, places: Tensor) -> Tensor:
    """The boxes [N, P, 4] at places [N, P]; if possible, only these are decoded, which are mostly far fewer."""
    if found.encoded is None:
        return rows_at(found.boxes, places)
    values, references, decode = found.encoded
    own = references.index_select(0, places.flatten()).reshape(*places.shape, references.shape[1])
    return decode(rows_at(values, places), own)


def at_places(values: Tensor, places: Tensor) -> Tensor:
    """Rows of values [N, M, C] at places [N, D]: [N, D, C]."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))


def rows_at(values: Tensor, places: Tensor) -> Tensor:
    """`at_places` by whole rows, without an index for each value."""
    (images, rows, columns), number = values.shape, places.shape[1]
    begin = torch.arange(images, device=places.device)[:, None] * rows
    chosen = values.reshape(images * rows, columns).index_select(0, (places + begin).reshape(images * number))
    return chosen.reshape(images, number, columns)


def level_of(places: Tensor, found: DenseCandidates) -> Tensor:
    """The level [N, D] int64 of places [N, D]."""
    levels, end = torch.zeros_like(places), 0
    for count in list(found.counts)[:-1]:
        end = end + count
        levels = levels + (places >= end)
    return levels


def falling(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [N, D] sorted, and their places, by ONNX's TopK, which keeps the order of ties: ONNX has no sort."""
    best = scores.topk(scores.shape[1])
    return best.values, best.indices


def clipped(boxes: Tensor, size: Tensor) -> Tensor:
    """Clip boxes [..., 4] to an image whose size [2] (height, width) is a tensor."""
    limits = size.flip(0).repeat(2).to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limits)

"""Which captioned detections are right: the rules of `sightline.evaluation.dense_captions`, on arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.errors import InputError
from sightline.evaluation.caption_scores import caption_score
from sightline.ops.boxes import box_iou
from sightline.structures import Instances
from sightline.structures.vocabulary import tokens_of

OVERLAPS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Minimum IoU of a detection and its target."""
LANGUAGE = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
"""Scores that a caption must exceed."""
MERGED = 0.7
"""IoU above which labelled boxes become one target."""
_RECALLS = np.linspace(0, 1, 101)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Matches(NamedTuple):
    """The detections of one image that count, by descending score, and its targets.

    Attributes:
        scores: [D] float.
        overlaps: [D] float, IoU of each detection and the target that it overlaps most; 0 without one.
        language: [D] float, caption score by the references of the target; 0 for detections that cannot be right.
        first: [D] bool, whether the detection is the first of its target.
        places: [D] int64, position of each detection among those of the image.
        nearest: [D] int64, index in `groups` of the target that each detection overlaps most; -1 for none.
        groups: the targets, each as the positions of its objects.
    """

    scores: Floats
    overlaps: Floats
    language: Floats
    first: NDArray[np.bool_]
    places: Ints
    nearest: Ints
    groups: list[list[int]]


def merged(boxes: Tensor) -> list[list[int]]:
    """Groups of boxes [N, 4] that overlap heavily, each as positions; see `sightline.evaluation.dense_captions`."""
    near = box_iou(boxes, boxes) > MERGED
    near.fill_diagonal_(True)
    free = torch.ones(len(boxes), dtype=torch.bool)
    groups = []
    while free.any():
        partners = (near & free & free[:, None]).sum(1)
        group = (near[int(partners.argmax())] & free).nonzero().flatten()
        groups.append(group.tolist())
        free[group] = False
    return groups


def match(target: Instances, found: Instances) -> Matches:
    """Match the detections of an image with its targets.

    Raises:
        InputError: the objects have no captions.
    """
    if len(target) and "captions" not in target:
        raise InputError(
            f"{target.source or 'a target'} has no captions to compare with; open the data with "
            '.with_fields("captions")'
        )
    captions = list(target.captions) if len(target) else []
    all_boxes = target.boxes.detach().cpu().double()
    crowd = target.crowd.cpu().tolist() if "crowd" in target else [False] * len(target)
    counts = [not many and bool(tokens_of(text)) for many, text in zip(crowd, captions, strict=True)]
    places = [place for place, counting in enumerate(counts) if counting]
    boxes = all_boxes[places]
    groups = merged(boxes)
    centres = [boxes[group].mean(0) for group in groups]
    references = [[captions[places[i]] for i in group] for group in groups]
    ignored = all_boxes[[place for place, counting in enumerate(counts) if not counting]]
    candidates = torch.cat([torch.stack(centres) if centres else boxes, ignored])

    order = found.scores.argsort(descending=True, stable=True).cpu()
    nearest = np.full(len(order), -1, np.int64)
    scores = found.scores.detach().cpu().double()[order].numpy()
    own = found.boxes.detach().cpu().double()[order]
    texts = [found.captions[i] for i in order.tolist()]
    overlaps = np.zeros(len(own))
    if len(candidates) and len(own):
        best = box_iou(own, candidates).nan_to_num().max(1)
        overlaps = best.values.numpy()
        nearest = np.where(overlaps > 0, best.indices.numpy(), -1)
    counting = nearest < len(groups)
    first, language = np.zeros(len(own), bool), np.zeros(len(own))
    taken: set[int] = set()
    for place in np.flatnonzero(counting & (nearest >= 0)).tolist():
        group = int(nearest[place])
        if group in taken:
            continue
        taken.add(group)
        first[place] = True
        if overlaps[place] >= min(OVERLAPS):
            language[place] = caption_score(texts[place], references[group])
    own_objects = [[places[i] for i in group] for group in groups]
    return Matches(
        scores[counting],
        overlaps[counting],
        language[counting],
        first[counting],
        order.numpy()[counting],
        nearest[counting],
        own_objects,
    )


def average_precisions(
    overlaps: Floats, language: Floats, first: NDArray[np.bool_], objects: int
) -> tuple[Floats, Floats]:
    """Average precision [5, 6] by IoU and caption score, and [5] by IoU alone, of detections by descending score."""
    placed = first & (overlaps >= np.array(OVERLAPS)[:, None] - 1e-12)
    said = np.vstack([np.ones(len(language), bool), language > np.array(LANGUAGE)[:, None]])
    right = (placed[:, None] & said).reshape(len(OVERLAPS) * len(said), len(overlaps))
    found = _average_precision(right, objects).reshape(len(OVERLAPS), -1)
    return found[:, 1:], found[:, 0]


def _average_precision(right: NDArray[np.bool_], objects: int) -> Floats:
    """The mean of the interpolated precision at 101 recalls: right [C, D] → [C]; NaN without objects."""
    if not objects:
        return np.full(len(right), np.nan)
    if not right.shape[1]:
        return np.zeros(len(right))
    hits = right.cumsum(1)
    precision = np.maximum.accumulate((hits / np.arange(1, right.shape[1] + 1))[:, ::-1], axis=1)[:, ::-1]
    needed = np.ceil(_RECALLS * objects - 1e-9).clip(0)  # hits that reach each recall
    means = []
    for hit, value in zip(hits, precision, strict=True):
        place = np.searchsorted(hit, needed)
        means.append(np.append(value, 0.0)[place].mean())
    return np.array(means)

"""Average precision by PASCAL VOC: the 11-point form of 2007 and the area form of 2010 and later.

Source: Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 88 (2010), section 4.2, and the
development kits of 2007 and 2010. Departure: boxes are continuous (a width is x2 − x1) unless `plus_one` selects the
kit's inclusive pixel positions; this library's VOC reader already shifts boxes by that one pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sightline.errors import InputError
from sightline.evaluation._arrays import Floats, Rows, best_pair, detection_rows, object_rows, overlapping_pairs
from sightline.evaluation.pairing import require_pairs
from sightline.structures import Classes, Instances


@dataclass(frozen=True)
class VocResult:
    """Average precision of each class under one VOC protocol.

    Attributes:
        per_class: AP by class name; None for a class without objects that count.
        mean: mean over the classes with an AP; None if there are none.
        protocol: "VOC 2007 11-point" or "VOC 2010 all-point".
    """

    per_class: dict[str, float | None]
    mean: float | None
    protocol: str


def evaluate_voc(
    targets: Sequence[Instances],
    predictions: Sequence[Instances],
    classes: Classes | Sequence[str],
    year: Literal[2007, 2010] = 2010,
    iou: float = 0.5,
    plus_one: bool = False,
) -> VocResult:
    """Average precision of each class under a VOC protocol.

    A detection is assigned to the object of its class with which it has the largest IoU, whether or not this object is
    already found. It is correct if that IoU is above `iou` and no detection of higher score has the same object.
    Detections assigned to a `difficult` object (or a `crowd`, COCO's similar flag) are neither correct nor wrong.

    Args:
        targets: labels, one item per image: boxes [N, 4] xyxy in pixels, labels [N], optionally difficult [N] bool.
        predictions: boxes, labels and scores, one item per image, in the order of `targets`.
        classes: class names.
        year: 2007 for the mean of the maximum precision at recall 0, 0.1, … 1; 2010 for the area under the curve.
        iou: IoU threshold.
        plus_one: boxes are inclusive pixel positions, as in the development kit.

    Raises:
        InputError: the numbers of targets and predictions differ, or a value is invalid.
        ClassMismatch: the classes differ.
    """
    require_pairs(targets, predictions)
    if year not in (2007, 2010):
        raise InputError(f"year is {year}, but the VOC protocols are 2007 (11-point) and 2010 (all-point)")
    classes = classes if isinstance(classes, Classes) else Classes(classes)
    objects = object_rows(targets, classes)
    detections, _, _ = detection_rows(predictions, classes)
    eleven, area = voc_average_precision(objects, detections, len(classes), iou, plus_one)
    values = [None if np.isnan(v) else float(v) for v in (eleven if year == 2007 else area)]
    available = [v for v in values if v is not None]
    return VocResult(
        dict(zip(classes, values, strict=True)),
        float(np.mean(available)) if available else None,
        f"VOC {year} {'11-point' if year == 2007 else 'all-point'}",
    )


def voc_average_precision(
    objects: Rows, detections: Rows, classes: int, iou: float = 0.5, plus_one: bool = False
) -> tuple[Floats, Floats]:
    """The 11-point and the all-point AP of each class, [classes] each; NaN for a class without objects that count."""
    pairs = overlapping_pairs(detections, objects, iou, same_class=True, plus_one=plus_one, crowd_inside=False)
    target, overlap = best_pair(pairs, len(detections))
    target[overlap <= iou] = -1
    uncounted = objects.crowd | objects.difficult
    by_score = np.lexsort((-detections.score, detections.label))  # class by class; stable, so ties keep their order
    label, target = detections.label[by_score], target[by_score]
    hit = target >= 0
    counts = np.ones(len(target), dtype=bool)
    counts[hit] = ~uncounted[target[hit]]
    first = np.zeros(len(target), dtype=bool)
    first[np.unique(target, return_index=True)[1]] = True
    right = hit & counts & first
    wrong = counts & ~right

    total = np.bincount(objects.label[~uncounted], minlength=classes)
    bounds = np.searchsorted(label, np.arange(classes + 1))
    eleven, area = np.full(classes, np.nan), np.full(classes, np.nan)
    for c in total.nonzero()[0]:
        part = slice(bounds[c], bounds[c + 1])
        true, false = np.cumsum(right[part]), np.cumsum(wrong[part])
        recall = true / total[c]
        precision = true / np.maximum(true + false, 1)
        # The maximum precision at this recall or a higher one.
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(recall, np.arange(11) / 10.0, "left")
        eleven[c] = np.append(envelope, 0.0)[at].sum() / 11
        area[c] = (np.diff(recall, prepend=0.0) * envelope).sum()
    return eleven, area

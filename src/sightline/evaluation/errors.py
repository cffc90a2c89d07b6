"""Analyse the errors of a detector: the confusion matrix, and the type of each wrong detection.

The error types are those of Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
section 2.2, tested in the order of its code (localization, class, duplicate, background, both). Departures: errors are
counted at one score threshold, because a detector's thousands of low-scoring detections say little about its use; VOC's
difficult objects are ignored like COCO's crowds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation._arrays import Bools, Floats, Ints, Pairs, Rows, match_greedy, overlapping_pairs
from sightline.structures import Classes

DETECTION_ERRORS = ("class", "localization", "both", "duplicate", "background")
"""Types of wrong detections; "missed" is the type of an object that no detection found."""
ERROR_MEANINGS = {
    "class": "localised correctly, but of another class",
    "localization": "of the correct class, but overlapping its object too little",
    "both": "of another class and overlapping too little",
    "duplicate": "of an object that a detection of higher score has already found",
    "background": "where there is no object",
    "missed": "object without a detection, not even one of the wrong class or location",
}
CORRECT, IGNORED = "correct", "ignored"
_KINDS = (IGNORED, CORRECT, *DETECTION_ERRORS)
BACKGROUND = "background"
"""The last row and column of the confusion matrix: false detections, and objects that were not found."""


@dataclass(frozen=True)
class OperatingPoint:
    """A score threshold with its metrics at IoU 0.50 over all classes; they are None if no detection is correct."""

    score: float
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """The values for JSON."""
        return {"score": self.score, "precision": self.precision, "recall": self.recall, "F1": self.f1}


@dataclass(frozen=True)
class DetectionErrors:
    """Errors of the detections with at least `score`.

    Attributes:
        score, iou: thresholds of score and IoU.
        counts: "correct", the five types of `DETECTION_ERRORS`, and "missed".
        confusion: [K + 1, K + 1] int64, rows the labels' class, columns the predicted one; the last of each is
            background. Correct detections are matched first, the others by overlap only.
        labels: names of the rows and columns.
        kinds: for each image, the type of each detection: "correct", an error type, "ignored" (on a crowd or a
            difficult object) or "" (below `score`).
        found: for each image, whether each object was found: True, False, or None (crowd or difficult).
        correct, false_positives, missed: [images] int64, correct and wrong detections and objects not found, per image.
        image_f1: [images] float64, 2·correct / (2·correct + false positives + missed); 1 for an empty image without
            detections.
    """

    score: float
    iou: float
    counts: dict[str, int]
    confusion: Ints
    labels: tuple[str, ...]
    correct: Ints
    false_positives: Ints
    missed: Ints
    image_f1: Floats
    _kind: NDArray[np.int8]
    _kind_bounds: Ints
    _found: NDArray[np.int8]
    _found_bounds: Ints

    def kinds(self, image: int) -> list[str]:
        """The type of each detection of an image: "correct", an error type, "ignored", or "" (below the score)."""
        codes = self._kind[self._kind_bounds[image] : self._kind_bounds[image + 1]]
        return ["" if code < 0 else _KINDS[code] for code in codes.tolist()]

    def found(self, image: int) -> list[bool | None]:
        """Whether each object of an image was found; None for objects that do not count."""
        codes = self._found[self._found_bounds[image] : self._found_bounds[image + 1]]
        return [None if code < 0 else bool(code) for code in codes.tolist()]

    def confusions(self, limit: int = 20) -> list[tuple[str, str, int]]:
        """The most frequent class confusions: (label's class, predicted class, count), without background."""
        real = self.confusion[:-1, :-1].copy()
        np.fill_diagonal(real, 0)
        order = np.argsort(-real, axis=None, kind="stable")[:limit]
        rows, columns = np.unravel_index(order, real.shape)
        return [
            (self.labels[r], self.labels[c], int(real[r, c]))
            for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
            if real[r, c]
        ]

    def to_dict(self) -> dict[str, Any]:
        """The errors as JSON values; the matrix is left out for more than 100 classes, its main confusions are kept."""
        small = len(self.labels) <= 101
        return {
            "score": self.score,
            "iou": self.iou,
            "counts": dict(self.counts),
            "confusion": self.confusion.tolist() if small else None,
            "confusion_labels": list(self.labels) if small else None,
            "confusions": [list(entry) for entry in self.confusions()],
        }


def in_words(point: Mapping[str, Any], saved: bool = False, what: str = "detections", iou: str = "IoU 0.50") -> str:
    """An operating point as a sentence; "" if no detection is correct at any score.

    Args:
        point: `OperatingPoint.to_dict()`.
        saved: whether its score is the threshold that is saved with the model.
        what: what is predicted.
        iou: the overlap at which an object counts as found.
    """
    f1 = point.get("F1")
    if f1 is None and not saved:
        return ""
    start = f"At a score of at least {point['score']:.3g}, "
    if saved:
        start += "the threshold saved with the model (that of the highest F1 on its validation images), "
    if f1 is None:
        return f"{start}none of the {what} is correct ({iou}, all classes together)."
    start += f"F1 is {f1:.2f}: " if saved else f"where F1 on these images is highest ({f1:.2f}), "
    return (
        f"{start}{100 * point['recall']:.0f} % of the objects are found and {100 * point['precision']:.0f} % of the "
        f"{what} are correct ({iou}, all classes together)."
    )


def operating_point(objects: Rows, detections: Rows, iou: float = 0.5, at: float | None = None) -> OperatingPoint:
    """The metrics over all classes at a score threshold.

    Args:
        objects, detections: rows of all images.
        iou: minimum IoU for an object to count as found.
        at: the threshold; None for that of the highest F1, or 0.5 if no detection is correct.
    """
    pairs = overlapping_pairs(detections, objects, iou, same_class=True)
    counted = ~(objects.crowd | objects.difficult)
    matched, ignored = _match(pairs, detections, objects, counted)
    total = int(counted.sum())
    order = np.argsort(-detections.score, kind="stable")
    score = detections.score[order]
    right = np.cumsum(matched[order] >= 0, dtype=np.int64)
    shown = np.cumsum(~ignored[order], dtype=np.int64)
    return point_of(score, right, shown, total, at)


def point_of(score: Floats, right: Ints, shown: Ints, total: int, at: float | None) -> OperatingPoint:
    """The operating point of detections that are sorted by falling score.

    Args:
        score: [D] their scores.
        right, shown: [D] how many of the detections up to each one are correct, and count.
        total: number of objects that count.
        at: the score threshold; None for that of the highest F1, or 0.5 if no detection is correct.
    """
    if at is None and (not len(score) or right[-1] == 0):
        return OperatingPoint(0.5)
    if at is None:
        f1 = 2 * right / (shown + total)
        f1[:-1][score[:-1] == score[1:]] = -1  # a threshold takes all detections of equal score or none
        last = int(f1.argmax())
    else:
        last = int((score >= at).sum()) - 1
        if last < 0 or right[last] == 0:
            return OperatingPoint(float(at))
    correct = int(right[last])
    return OperatingPoint(
        float(score[last] if at is None else at),
        float(correct / shown[last]),
        float(correct / total),
        float(2 * correct / (shown[last] + total)),
    )


def diagnose(
    objects: Rows,
    detections: Rows,
    classes: Classes,
    images: int,
    score: float,
    iou: float = 0.5,
    background_iou: float = 0.1,
) -> DetectionErrors:
    """Classify the detections of at least `score` by their errors.

    Args:
        objects, detections: rows of all images.
        classes: the class names.
        images: number of images.
        score: minimum score.
        iou: minimum IoU for an object to count as found.
        background_iou: IoU below which a detection is unrelated to an object.
    """
    chosen = np.flatnonzero(detections.score >= score)
    shown = detections[chosen]
    counted = ~(objects.crowd | objects.difficult)
    pairs = overlapping_pairs(shown, objects, background_iou, same_class=False)
    same = shown.label[pairs.detection] == objects.label[pairs.target]
    matched, ignored = _match(pairs[same & (pairs.iou >= iou)], shown, objects, counted)
    taken = np.zeros(len(objects), dtype=bool)
    taken[matched[matched >= 0]] = True

    kind, blamed = _kinds(pairs, same, counted[pairs.target], matched >= 0, ignored, iou, len(objects))
    missed = counted & ~taken & ~blamed
    counts = {name: int((kind == _KINDS.index(name)).sum()) for name in (CORRECT, *DETECTION_ERRORS)}
    counts["missed"] = int(missed.sum())

    # The others are matched by overlap only: an object detected as another class.
    wrong = kind > _KINDS.index(CORRECT)
    free = counted & ~taken
    rest = pairs[wrong[pairs.detection] & free[pairs.target] & (pairs.iou >= iou)]
    confused, _ = match_greedy(rest, shown.score, len(objects))
    partner = np.where(matched >= 0, matched, confused)
    seen = np.zeros(len(objects), dtype=bool)
    seen[partner[partner >= 0]] = True
    size = len(classes) + 1
    row = np.full(len(shown), size - 1)
    row[partner >= 0] = objects.label[partner[partner >= 0]]
    confusion = np.zeros((size, size), dtype=np.int64)
    np.add.at(confusion, (row[~ignored], shown.label[~ignored]), 1)
    confusion[:, -1] += np.bincount(objects.label[counted & ~seen], minlength=size)

    correct = np.bincount(shown.image[matched >= 0], minlength=images)
    false_positives = np.bincount(shown.image[wrong], minlength=images)
    not_found = np.bincount(objects.image[free], minlength=images)
    denominator = 2 * correct + false_positives + not_found
    codes = np.full(len(detections), -1, dtype=np.int8)
    codes[chosen] = kind
    found = np.where(counted, taken, -1).astype(np.int8)
    return DetectionErrors(
        score=score,
        iou=iou,
        counts=counts,
        confusion=confusion,
        labels=(*classes, BACKGROUND),
        correct=correct,
        false_positives=false_positives,
        missed=not_found,
        image_f1=np.where(denominator > 0, 2 * correct / np.maximum(denominator, 1), 1.0),
        _kind=codes,
        _kind_bounds=np.searchsorted(detections.image, np.arange(images + 1)),
        _found=found,
        _found_bounds=np.searchsorted(objects.image, np.arange(images + 1)),
    )


def _match(pairs: Pairs, detections: Rows, objects: Rows, counted: Bools) -> tuple[Ints, Bools]:
    """COCO's rule: match counted objects first; an unmatched detection on an uncounted object is ignored."""
    matched, _ = match_greedy(pairs[counted[pairs.target]], detections.score, len(objects))
    ignored = np.zeros(len(detections), dtype=bool)
    ignored[pairs.detection[~counted[pairs.target]]] = True
    return matched, ignored & (matched < 0)


def _kinds(
    pairs: Pairs, same: Bools, counted: Bools, correct: Bools, ignored: Bools, iou: float, objects: int
) -> tuple[NDArray[np.int8], Bools]:
    """The type of each detection, and which objects have at least a detection of the wrong class or location."""

    def strongest(chosen: Bools) -> tuple[Floats, Ints]:
        overlap, target = np.zeros(len(correct)), np.full(len(correct), -1)
        order = np.flatnonzero(chosen)[np.argsort(pairs.iou[chosen], kind="stable")]  # what is written last stays
        overlap[pairs.detection[order]], target[pairs.detection[order]] = pairs.iou[order], pairs.target[order]
        return overlap, target

    own, own_target = strongest(same & counted)
    other, other_target = strongest(~same & counted)
    kind = np.full(len(correct), _KINDS.index("both"), dtype=np.int8)
    kind[(own <= 0) & (other <= 0)] = _KINDS.index("background")
    kind[own >= iou] = _KINDS.index("duplicate")
    kind[other >= iou] = _KINDS.index("class")
    kind[(own > 0) & (own < iou)] = _KINDS.index("localization")
    kind[ignored] = _KINDS.index(IGNORED)
    kind[correct] = _KINDS.index(CORRECT)
    blamed = np.zeros(objects, dtype=bool)
    blamed[own_target[kind == _KINDS.index("localization")]] = True
    blamed[other_target[kind == _KINDS.index("class")]] = True
    return kind, blamed

"""Labels and detections of many images as flat arrays, and the overlapping pairs of them.

All detection protocols work on these arrays: one row per object or detection, with the index of its image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.errors import InputError
from sightline.evaluation.packed import unpack
from sightline.structures import Classes, Instances
from sightline.words import listed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_PAIRS_AT_ONCE = 2_000_000
"""Number of candidate pairs processed together; limits the memory to about 200 MB for data of any size."""


@dataclass(frozen=True)
class Rows:
    """Objects or detections of all images, one row each, in the order of the images.

    Attributes:
        image: [N] int64, index of the row's image.
        label: [N] int64, class id.
        box: [N, 4] float64, x1, y1, x2, y2 in pixels.
        score: [N] float64, confidence; 1 for objects.
        area: [N] float64, in pixels; from the annotation (COCO's segmentation area) if given, else of the box.
        crowd, difficult: [N] bool, the flags of COCO and VOC.
    """

    image: Ints
    label: Ints
    box: Floats
    score: Floats
    area: Floats
    crowd: Bools
    difficult: Bools

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, chosen: Bools | Ints) -> Rows:
        return Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def object_rows(targets: Sequence[Instances], classes: Classes) -> Rows:
    """The objects of the labels as rows.

    Raises:
        InputError: an item is not an `Instances`, or has an invalid label or box.
        ClassMismatch: an item has other classes.
    """
    for own in {id(t.classes): t.classes for t in targets if isinstance(t, Instances)}.values():
        if own is not None:
            classes.require_same(own, "the evaluation", "the labels")
    rows = _rows(targets, "target")
    _check(rows, targets, classes, "target")
    return rows


def detection_rows(predictions: Sequence[Instances], classes: Classes) -> tuple[Rows, list[Instances], list[str]]:
    """The detections as rows with the ids of `classes`, their predictions, and notes on ignored detections.

    Predictions with class names are matched by name: the evaluation's classes may be a part of the model's, or in
    another order. Detections of classes that the labels do not have are ignored, and a note says so. Predictions
    without scores have a score of 1.

    Raises:
        InputError: an item is not an `Instances`, or a score or box is not finite.
        ClassMismatch: the labels have classes that the predictions do not know.
    """
    rows = _rows(predictions, "prediction")
    _check(rows, predictions, classes, "prediction")
    foreign = {id(p.classes): p.classes for p in predictions if p.classes is not None and p.classes != classes}
    if not foreign:
        return rows, list(predictions), []
    label = rows.label.copy()
    left_out: dict[str, int] = {}
    keys = np.array([id(p.classes) if id(p.classes) in foreign else 0 for p in predictions], dtype=np.int64)
    for key, theirs in foreign.items():
        if any(name not in theirs for name in classes):
            classes.require_same(theirs, "the data", "the model")
        new_ids = np.array([classes.id(name) if name in classes else -1 for name in theirs], dtype=np.int64)
        mine = keys[rows.image] == key
        label[mine] = new_ids[rows.label[mine]]
        lost = np.bincount(rows.label[mine & (label < 0)], minlength=len(theirs))
        for position in lost.nonzero()[0].tolist():
            left_out[theirs[position]] = left_out.get(theirs[position], 0) + int(lost[position])
    kept = label >= 0
    bounds = np.searchsorted(rows.image, np.arange(len(predictions) + 1)).tolist()
    compared = []
    for prediction, key, a, b in zip(predictions, keys.tolist(), bounds, bounds[1:], strict=False):
        if key:
            own = torch.from_numpy(kept[a:b])
            fields = prediction[own].fields | {"labels": torch.from_numpy(label[a:b])[own].to(prediction.labels.device)}
            prediction = Instances.unchecked(prediction.image_size, classes=classes, source=prediction.source, **fields)
        compared.append(prediction)
    notes = []
    if left_out:
        most = sorted(left_out.items(), key=lambda item: -item[1])
        names = listed([f"{name} ({count})" for name, count in most], 8, "classes")
        notes.append(
            f"{sum(left_out.values())} detections of classes that the data does not have were left out: {names}"
        )
    rows = Rows(rows.image, label, rows.box, rows.score, rows.area, rows.crowd, rows.difficult)
    return rows[kept], compared, notes


def _rows(items: Sequence[Instances], what: str) -> Rows:
    for position, item in enumerate(items):
        if not isinstance(item, Instances) or "boxes" not in item or "labels" not in item:
            have = (
                f"has only {', '.join(unpack(item).fields)}"
                if isinstance(item, Instances)
                else f"is a {type(item).__name__}"
            )
            raise InputError(f"{what} {position} {have}, but detection needs Instances with boxes and labels")
    counts = np.array([len(item) for item in items], dtype=np.int64)
    image = np.repeat(np.arange(len(items)), counts)
    total = int(counts.sum())
    fields = [item.fields for item in items if len(item)]  # images without objects may lack some fields
    box = _column([f["boxes"] for f in fields]).reshape(-1, 4)
    label = _column([f["labels"] for f in fields]).astype(np.int64)

    def optional(name: str, default: np.ndarray) -> np.ndarray:
        if not any(name in f for f in fields):
            return default
        starts = np.cumsum([0, *(len(f["labels"]) for f in fields)])
        parts = [
            f[name].detach().cpu().double().numpy() if name in f else default[a:b]
            for f, a, b in zip(fields, starts, starts[1:], strict=False)
        ]
        return np.concatenate(parts).astype(default.dtype)

    score = (
        _column([f["scores"] for f in fields])
        if all("scores" in f for f in fields)
        else optional("scores", np.ones(total))
    )
    area = optional("areas", (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))
    crowd, difficult = (optional(name, np.zeros(total, dtype=bool)) for name in ("crowd", "difficult"))
    return Rows(image, label, box, score, area, crowd, difficult)


def _column(tensors: list[torch.Tensor]) -> np.ndarray:
    # One concatenation on the device and one transfer, instead of thousands.
    if not tensors:
        return np.zeros(0)
    return torch.cat(tensors).detach().double().cpu().numpy()


def _check(rows: Rows, items: Sequence[Instances], classes: Classes, what: str) -> None:
    def where(row: int) -> str:
        position = int(rows.image[row])
        source = items[position].source
        return f"{what} {position}" + (f" ({source})" if source else "")

    bad = ~np.isfinite(rows.box).all(1) | ~np.isfinite(rows.score)
    bad |= (rows.box[:, 2] < rows.box[:, 0]) | (rows.box[:, 3] < rows.box[:, 1])
    if bad.any():
        row = int(bad.argmax())
        box = [round(v, 2) for v in rows.box[row].tolist()]
        raise InputError(
            f"{where(row)} has the box {box} with score {rows.score[row]:.3g}, but boxes and scores must be finite "
            "with x1 ≤ x2 and y1 ≤ y2; the model has diverged, or its decoding is wrong"
        )
    limits = np.array([len(classes if item.classes is None else item.classes) for item in items], dtype=np.int64)
    bad = (rows.label < 0) | (rows.label >= limits[rows.image])
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{where(row)} has the label {rows.label[row]}, but there are {limits[rows.image[row]]} classes: "
            f"valid ids are 0 to {limits[rows.image[row]] - 1}"
        )


@dataclass(frozen=True)
class Pairs:
    """Overlapping pairs of detections and objects: rows ordered by detection, then by object.

    Attributes:
        detection, target: [P] int64, row indices.
        iou: [P] float64; for a crowd, the fraction of the detection inside it, as in COCO.
    """

    detection: Ints
    target: Ints
    iou: Floats

    def __getitem__(self, chosen: Bools | Ints) -> Pairs:
        return Pairs(self.detection[chosen], self.target[chosen], self.iou[chosen])


def overlapping_pairs(
    detections: Rows, objects: Rows, minimum: float, same_class: bool, plus_one: bool = False, crowd_inside: bool = True
) -> Pairs:
    """All pairs of a detection and an object of the same image whose IoU is at least `minimum` (> 0).

    Args:
        detections, objects: rows of all images.
        minimum: minimum IoU.
        same_class: only pairs of the same class.
        plus_one: boxes are inclusive pixel positions as in the VOC devkit, so that a width is x2 − x1 + 1.
        crowd_inside: for a crowd, divide the intersection by the area of the detection.
    """
    offset = 1.0 if plus_one else 0.0
    keys = 1 + int(max(detections.label.max(initial=0), objects.label.max(initial=0))) if same_class else 1
    detection_key = detections.image * keys + (detections.label if same_class else 0)
    object_key = objects.image * keys + (objects.label if same_class else 0)
    order = np.argsort(object_key, kind="stable")
    low = np.searchsorted(object_key[order], detection_key, "left")
    counts = np.searchsorted(object_key[order], detection_key, "right") - low
    ends = np.cumsum(counts)
    found: list[Pairs] = []
    start = 0
    while start < len(counts):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS_AT_ONCE, "right")))
        part = counts[start:stop]
        detection = np.repeat(np.arange(start, stop), part)
        step = np.arange(len(detection)) - np.repeat(ends[start:stop] - part - before, part)
        target = order[low[detection] + step]
        a, b = detections.box[detection], objects.box[target]
        side = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]) + offset, 0)
        shared = side[:, 0] * side[:, 1]
        own = (a[:, 2] - a[:, 0] + offset) * (a[:, 3] - a[:, 1] + offset)
        union = own + (b[:, 2] - b[:, 0] + offset) * (b[:, 3] - b[:, 1] + offset) - shared
        if crowd_inside:
            union = np.where(objects.crowd[target], own, union)
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        found.append(Pairs(detection, target, iou)[iou >= minimum])
        start = stop
    if not found:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs(*(np.concatenate([getattr(p, name) for p in found]) for name in ("detection", "target", "iou")))


def best_pair(pairs: Pairs, detections: int) -> tuple[Ints, Floats]:
    """For each detection: the row of the object with the largest IoU (the first of equals) or −1, and that IoU."""
    # Sorted by descending IoU and written in reverse, so that the last value written is the best.
    order = np.lexsort((-np.arange(len(pairs.iou)), pairs.iou))
    best = np.full(detections, -1, dtype=np.int64)
    iou = np.zeros(detections)
    best[pairs.detection[order]] = pairs.target[order]
    iou[pairs.detection[order]] = pairs.iou[order]
    return best, iou


def match_greedy(pairs: Pairs, score: Floats, objects: int) -> tuple[Ints, Ints]:
    """Match objects to at most one detection: by descending score, each detection takes the free object of largest IoU.

    All images are matched together in a few rounds: a pair is final if the object is the best free one of the detection
    and no detection of higher score still competes for it. This gives the same pairs as matching one by one.

    Args:
        pairs: candidate pairs whose overlap is sufficient.
        score: [D] scores of all detections; equal scores are ordered by row.
        objects: number of objects.

    Returns:
        [D] int64, row of the object or −1; and [objects] int64, row of the detection or −1.
    """
    matched = np.full(len(score), -1, dtype=np.int64)
    taker = np.full(objects, -1, dtype=np.int64)
    rank = np.empty(len(score), dtype=np.int64)
    rank[np.argsort(-score, kind="stable")] = np.arange(len(score))
    left = pairs[np.lexsort((pairs.target, -pairs.iou, rank[pairs.detection]))]
    while len(left.iou):
        favourite = np.zeros(len(left.iou), dtype=bool)
        favourite[np.unique(left.detection, return_index=True)[1]] = (
            True  # the first pair of each detection is its best
        )
        first_in_line = np.zeros(len(left.iou), dtype=bool)
        first_in_line[np.unique(left.target, return_index=True)[1]] = True  # the first of each object has the top score
        settled = left[favourite & first_in_line]
        matched[settled.detection], taker[settled.target] = settled.target, settled.detection
        left = left[(matched[left.detection] < 0) & (taker[left.target] < 0)]
    return matched, taker

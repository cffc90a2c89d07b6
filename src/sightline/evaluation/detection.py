"""Evaluate object detection: COCO's twelve metrics of boxes, those of masks and keypoints if available, and VOC average
precision by both protocols, for each class.

COCO's metrics are computed by hotcoco, which equals pycocotools (Lin et al., "Microsoft COCO", ECCV 2014, and the
evaluation code of 2017); VOC's in `voc.py`. A metric that is not available is None with a reason, never −1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError
from sightline.evaluation._arrays import Rows, detection_rows, object_rows
from sightline.evaluation._table import detection_table, short
from sightline.evaluation.averages import nanmean, none_if_nan
from sightline.evaluation.coco import (
    COCO_METRICS,
    KEYPOINT_METRICS,
    Curve,
    coco_differences,
    coco_evaluation,
    coco_intervals,
    coco_numbers,
    limit_note,
)
from sightline.evaluation.errors import DetectionErrors, OperatingPoint, diagnose, in_words, operating_point
from sightline.evaluation.intervals import require_level
from sightline.evaluation.packed import PackedInstances
from sightline.evaluation.pairing import require_images, require_pairs
from sightline.evaluation.shapes import OTHER_SIGMA, keypoints_of, masks_of
from sightline.evaluation.voc import voc_average_precision
from sightline.structures import Classes, Instances
from sightline.structures.tabular import html_of
from sightline.words import are, counted, have

VOC_METRICS = ("VOC2007_AP50", "VOC2010_AP50")
HEADLINE = ("AP", "AP50", "AP75", "mask/AP", "mask/AP50", "keypoint/AP", "keypoint/AP50")
"""The metrics recorded after each epoch, if available; the first decides which epoch is best."""
PROTOCOLS = {
    **dict.fromkeys(COCO_METRICS, "COCO 2017 bbox"),
    "VOC2007_AP50": "VOC 2007 11-point",
    "VOC2010_AP50": "VOC 2010 all-point",
    **{f"mask/{name}": "COCO 2017 segm" for name in COCO_METRICS},
    **{f"keypoint/{name}": "COCO 2017 keypoints" for name in KEYPOINT_METRICS},
}
"""The protocol of each metric."""
MEANINGS = {
    "AP": "average precision, mean over IoU 0.50 to 0.95",
    "AP50": "average precision at IoU 0.50",
    "AP75": "average precision at IoU 0.75",
    "APs": "AP of objects smaller than 32² pixels",
    "APm": "AP of objects between 32² and 96² pixels",
    "APl": "AP of objects larger than 96² pixels",
    "AR1": "average recall, one detection per class and image",
    "AR10": "average recall, 10 detections per class and image",
    "AR100": "average recall, 100 detections per class and image",
    "ARs": "AR100 of objects smaller than 32² pixels",
    "ARm": "AR100 of objects between 32² and 96² pixels",
    "ARl": "AR100 of objects larger than 96² pixels",
    "VOC2007_AP50": "average precision at IoU 0.50, mean precision at 11 recalls",
    "VOC2010_AP50": "average precision at IoU 0.50, area under the curve",
}
MEANINGS |= {f"mask/{name}": f"{MEANINGS[name]}, of masks" for name in COCO_METRICS} | {
    "keypoint/AP": "average precision, mean over keypoint similarities (OKS) 0.50 to 0.95",
    "keypoint/AP50": "average precision at OKS 0.50",
    "keypoint/AP75": "average precision at OKS 0.75",
    "keypoint/APm": "AP of objects between 32² and 96² pixels, by OKS",
    "keypoint/APl": "AP of objects larger than 96² pixels, by OKS",
    "keypoint/AR": "average recall, 20 detections per class and image, mean over OKS 0.50 to 0.95",
    "keypoint/AR50": "average recall at OKS 0.50",
    "keypoint/AR75": "average recall at OKS 0.75",
    "keypoint/ARm": "average recall of objects between 32² and 96² pixels, by OKS",
    "keypoint/ARl": "average recall of objects larger than 96² pixels, by OKS",
}
_AREAS = {
    "s": "no object smaller than 32² pixels in these labels",
    "m": "no object between 32² and 96² pixels in these labels",
    "l": "no object larger than 96² pixels in these labels",
}


@dataclass
class DetectionResult:
    """The result of evaluating boxes, and masks and keypoints if available. `print(result)` shows it as a table.

    Attributes:
        metrics: COCO's twelve and VOC's two metrics (see `MEANINGS`), in [0, 1]; None if not available. If labels and
            predictions both have masks, also twelve metrics "mask/AP", …; if both have keypoints, also ten metrics
            "keypoint/AP", …
        reasons: for each metric that is None, the reason; metrics of one class have the key "class/metric".
        per_class: by class name: "AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "VOC2007_AP50", "VOC2010_AP50",
            "objects" (counted by COCO), "detections"; those of masks and keypoints with their prefix.
        curves: precision-recall curves by class name, for classes with objects.
        classes: class names, in the order of their ids.
        notes: remarks for the reader of the metrics, one sentence each.
        names: the name of each image.
        targets, predictions: what was compared, if kept; the predictions with the ids of `classes` and without ignored
            detections. Masks are stored encoded and decoded when an image is accessed.
        task: "detection".
        measured: "data" and "split" of the evaluation, if known.
    """

    metrics: dict[str, float | None]
    reasons: dict[str, str]
    per_class: dict[str, dict[str, Any]]
    curves: dict[str, Curve]
    classes: Classes
    images: int
    objects: Rows = field(repr=False)
    detections: Rows = field(repr=False)
    notes: list[str] = field(default_factory=list)
    names: list[str] | None = field(default=None, repr=False)
    targets: Sequence[Instances] | None = field(default=None, repr=False)
    predictions: Sequence[Instances] | None = field(default=None, repr=False)
    task: str = "detection"
    measured: dict[str, Any] = field(default_factory=dict, repr=False)
    _points: dict[float | None, OperatingPoint] = field(default_factory=dict, repr=False)
    _errors: dict[tuple[float, float], DetectionErrors] = field(default_factory=dict, repr=False)

    @property
    def headline(self) -> tuple[str, ...]:
        """The metrics of `HEADLINE` that were computed."""
        return tuple(name for name in HEADLINE if name in self.metrics)

    @property
    def operating_point(self) -> OperatingPoint:
        """Precision, recall and F1 at IoU 0.50 over all classes, at one score threshold.

        It is the threshold saved with the model (`measured["threshold"]`), which `predict` uses; without one, that of
        the highest F1 on these images.
        """
        return self._point(self.measured.get("threshold"))

    @property
    def threshold(self) -> float | None:
        """The score threshold of the highest F1 on these images at IoU 0.50; None if no detection is correct."""
        point = self._point(None)
        return None if point.f1 is None else float(point.score)

    def _point(self, at: float | None) -> OperatingPoint:
        if at not in self._points:
            self._points[at] = operating_point(self.objects, self.detections, at=at)
        return self._points[at]

    def errors(self, score: float | None = None, iou: float = 0.5) -> DetectionErrors:
        """The confusion matrix and the error types of the detections with at least `score`.

        Args:
            score: minimum score; None for that of `operating_point`.
            iou: minimum IoU for an object to count as found.
        """
        chosen = self.operating_point.score if score is None else float(score)
        if (chosen, iou) not in self._errors:
            self._errors[chosen, iou] = diagnose(self.objects, self.detections, self.classes, self.images, chosen, iou)
        return self._errors[chosen, iou]

    def worst_first(self) -> NDArray[np.int64]:
        """Indices of the images, by ascending F1 at the operating point; of equals, the one with more errors first."""
        errors = self.errors()
        return np.lexsort((-(errors.false_positives + errors.missed), errors.image_f1)).astype(np.int64)

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals over images (200 samples) of COCO's box metrics; takes a few seconds for 5000 images.

        VOC's metrics, masks and keypoints have none: hotcoco resamples evaluations of boxes, and the matches of the
        others are not kept. Empty without objects.
        """
        if not len(self.objects):
            return {}
        found = coco_intervals(self.objects, self.detections, self.classes, self.images, require_level(level))
        return {name: interval for name, interval in found.items() if self.metrics[name] is not None}

    def paired_intervals(self, other: DetectionResult, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals of the box metrics of this result minus those of another on the same images; see
        `sightline.evaluation.paired`."""
        if not len(self.objects):
            return {}
        before, after = other.detections, self.detections
        return coco_differences(self.objects, before, after, self.classes, self.images, require_level(level))

    def error_gains(self) -> dict[str, float]:
        """How much AP50 (COCO) would rise if all errors of one type were corrected, over all scores.

        Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2.
        """
        from sightline.evaluation.errors import DETECTION_ERRORS

        if not len(self.objects):
            return dict.fromkeys((*DETECTION_ERRORS, "missed"), 0.0)
        found = coco_evaluation(self.objects, self.detections, self.classes, self.images).tide_errors()["delta_ap"]
        keys = {"class": "Cls", "localization": "Loc", "both": "Both", "duplicate": "Dupe", "background": "Bkg"}
        return {name: float(found[key]) for name, key in (keys | {"missed": "Miss"}).items()}

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also the curves, the errors and the confusion matrix."""
        out: dict[str, Any] = {
            "task": self.task,
            "protocol": "COCO 2017 bbox",
            "images": self.images,
            "objects": len(self.objects),
            "detections": len(self.detections),
            "classes": list(self.classes),
            "metrics": dict(self.metrics),
            "protocols": {name: PROTOCOLS[name] for name in self.metrics},
            "reasons": dict(self.reasons),
            "per_class": {name: dict(row) for name, row in self.per_class.items()},
            "notes": list(self.notes),
        } | ({"measured": dict(self.measured)} if self.measured else {})
        if details:
            out["operating_point"] = self.operating_point.to_dict()
            out["errors"] = self.errors().to_dict() | {"AP50_gains": self.error_gains()}
            out["curves"] = {
                name: {key: np.round(getattr(curve, key), 4).tolist() for key in ("recall", "precision", "score")}
                for name, curve in self.curves.items()
            }
        return out

    def __repr__(self) -> str:
        return short(self)

    _repr_html_ = html_of

    def __str__(self) -> str:
        words = in_words(self.operating_point.to_dict(), saved="threshold" in self.measured)
        return detection_table(self.to_dict(details=False), MEANINGS) + (f"\n\n{words}" if words else "")


class DetectionMeasure:
    """Collects the labels and detections of each image, with masks encoded.

    Args:
        classes: names of the labels' classes.
        keep: keep targets and predictions in the result, for reports.
    """

    def __init__(self, classes: Classes, keep: bool = False):
        self.classes, self.keep = classes, keep
        # packed immediately: the masks of a whole dataset would not fit into memory
        self.targets, self.predictions = PackedInstances(), PackedInstances()

    def add(self, target: Instances, prediction: Instances) -> None:
        """Add the labels and detections of an image; see `evaluate_detection`."""
        self.targets.extend([target])
        self.predictions.extend([prediction])

    def join(self, other: DetectionMeasure) -> None:
        """Add the images of another measure after those of this one."""
        self.targets.extend(other.targets.packed)
        self.predictions.extend(other.predictions.packed)

    def result(self, names: Sequence[str] | None = None) -> DetectionResult:
        """Compare all images added so far; see `evaluate_detection`."""
        result = evaluate_detection(self.targets, self.predictions, self.classes, names)
        if not self.keep:
            result.targets = result.predictions = None
        return result


def evaluate_detection(
    targets: Sequence[Instances],
    predictions: Sequence[Instances],
    classes: Classes | Sequence[str],
    names: Sequence[str] | None = None,
) -> DetectionResult:
    """Compare predicted boxes with labels; also masks and keypoints, if labels and predictions both have them.

    COCO's metrics ignore crowds (they are neither correct nor wrong when found) and take the size of an object from the
    targets' field `areas`, or else from its box. They do not know VOC's flag `difficult`, so such objects count. VOC's
    metrics ignore both. Predictions without scores have a score of 1: labels compared with themselves reach 1.

    Args:
        targets: one `Instances` per image: boxes [N, 4] xyxy in pixels, labels [N], optionally crowd, difficult, areas
            [N], masks, keypoints.
        predictions: one `Instances` per image in the order of `targets`: boxes, labels, scores, optionally masks and
            keypoints, for which COCO's twelve and ten metrics are computed. An object without labelled keypoints counts
            neither as found nor as missed by keypoints. Keypoints other than a person's 17 are compared with a
            tolerance (sigma) of 0.067, the mean of those 17. Predictions may have more classes than the labels, or the
            same in another order: they are matched by name.
        classes: names of the labels' classes.
        names: the name of each image, for reports; by default the targets' sources.

    Returns:
        The metrics, per class and in total, with everything needed for a report.

    Raises:
        InputError: the numbers of targets and predictions differ, there are none, or a value is invalid.
        ClassMismatch: the labels have classes that the predictions' model does not know.
    """
    classes = classes if isinstance(classes, Classes) else Classes(classes)
    kept = targets if isinstance(targets, PackedInstances) else PackedInstances(targets)
    targets = kept.packed
    predictions = (
        predictions.packed if isinstance(predictions, PackedInstances) else PackedInstances(predictions).packed
    )
    require_pairs(targets, predictions)
    require_images(len(targets), names)
    if not len(classes):
        raise InputError("there are no classes to evaluate; give the names of the labels' classes")
    objects = object_rows(targets, classes)
    detections, predictions, notes = detection_rows(predictions, classes)

    coco = coco_numbers(objects, detections, classes, len(targets))
    voc = dict(zip(VOC_METRICS, voc_average_precision(objects, detections, len(classes)), strict=True))
    metrics = coco.metrics | {name: none_if_nan(nanmean(values)) for name, values in voc.items()}
    columns = coco.per_class | voc
    masks, keypoints = masks_of(targets, predictions, objects.area), keypoints_of(targets, predictions)
    for prefix, shapes in (("mask/", masks), ("keypoint/", keypoints)):
        if shapes is not None:
            more = coco_numbers(objects, detections, classes, len(targets), shapes)
            metrics |= {prefix + name: value for name, value in more.metrics.items()}
            columns |= {prefix + name: values for name, values in more.per_class.items()}
    per_class = _per_class(columns, objects, detections, classes)
    if keypoints is not None and keypoints.sigmas:
        notes.append(
            f"COCO defines no tolerances for {len(keypoints.sigmas)} keypoints: each has a sigma of {OTHER_SIGMA}, "
            "the mean of a person's 17"
        )
    limited = limit_note(objects)
    if limited is not None:
        notes.append(limited)
    hard, crowds = int(objects.difficult.sum()), int(objects.crowd.sum())
    if hard:
        notes.append(
            f"{counted(hard, 'object')} {are(hard)} marked difficult: COCO's metrics, which have no such mark, count "
            f"{'it' if hard == 1 else 'them'}, and VOC's do not"
        )
    if crowds:
        notes.append(
            f"{counted(crowds, 'region')} {are(crowds)} marked as crowds, which count neither as found nor as missed"
        )
    flat = int((objects.box[:, 2:] <= objects.box[:, :2]).any(1).sum())
    if flat:
        notes.append(
            f"{counted(flat, 'box')} of objects {have(flat)} no area, so that no detection can overlap it: such "
            "objects count as missed (`sightline check` names them)"
        )
    return DetectionResult(
        metrics=metrics,
        reasons=_reasons(metrics, per_class, objects),
        per_class=per_class,
        curves=coco.curves,
        classes=classes,
        images=len(targets),
        objects=objects,
        detections=detections,
        notes=notes,
        names=list(names) if names is not None else [t.source or f"image {i}" for i, t in enumerate(targets)],
        targets=kept,
        predictions=PackedInstances(predictions),
    )


def _per_class(
    numbers: dict[str, NDArray[np.float64]], objects: Rows, detections: Rows, classes: Classes
) -> dict[str, dict[str, Any]]:
    found = np.bincount(detections.label, minlength=len(classes)).tolist()
    there = np.bincount(objects.label[~objects.crowd], minlength=len(classes)).tolist()
    columns = {name: values.tolist() for name, values in numbers.items()}
    return {
        name: {key: None if values[k] != values[k] else values[k] for key, values in columns.items()}
        | {"objects": there[k], "detections": found[k]}
        for k, name in enumerate(classes)
    }


def _reasons(metrics: dict[str, float | None], per_class: dict[str, dict[str, Any]], objects: Rows) -> dict[str, str]:
    def why(metric: str, rows: int, crowds: int, uncounted: int, whose: str) -> str:
        if rows == 0:
            return f"no object{whose} in these labels"
        if rows == crowds:
            return f"every object{whose} in these labels is marked as a crowd"
        if metric in VOC_METRICS and rows == uncounted:
            return f"every object{whose} in these labels is marked difficult or as a crowd"
        if metric.startswith("keypoint/") and metric[-1] not in "ml":
            return f"no object{whose} with labelled keypoints in these labels"
        return _AREAS[metric[-1]].replace("object", f"object{whose}", 1)

    uncounted = objects.crowd | objects.difficult
    reasons = {
        metric: why(metric, len(objects), int(objects.crowd.sum()), int(uncounted.sum()), "")
        for metric, value in metrics.items()
        if value is None
    }
    size = len(per_class)
    rows, crowds, left = (
        np.bincount(objects.label[chosen], minlength=size)
        for chosen in (np.ones(len(objects), dtype=bool), objects.crowd, uncounted)
    )
    for k, (name, row) in enumerate(per_class.items()):
        for metric, value in row.items():
            if value is None:
                reasons[f"{name}/{metric}"] = why(metric, int(rows[k]), int(crowds[k]), int(left[k]), f" of {name!r}")
    return reasons

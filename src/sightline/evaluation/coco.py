"""COCO's metrics of boxes, masks and keypoints, computed by hotcoco, whose results equal those of pycocotools.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and its evaluation code of 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import words
from sightline.evaluation._arrays import Rows
from sightline.evaluation.shapes import Shapes
from sightline.structures import Classes

COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
KEYPOINT_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
"""With at most 20 detections per image and class. Objects below 32² pixels are not evaluated for keypoints."""
MOST_COUNTED = 100
"""The number of detections per image and class that COCO counts, those with the highest scores."""


@dataclass(frozen=True)
class Curve:
    """Precision-recall curve of one class at IoU 0.50 (COCO's 101 recall values).

    Attributes:
        recall: [101] float64, 0.00, 0.01 … 1.00.
        precision: [101] float64, the maximum precision at this recall or a higher one; 0 if it is never reached.
        score: [101] float64, the score threshold at which the recall is reached; 0 if it is never reached.
    """

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    score: NDArray[np.float64]


@dataclass(frozen=True)
class CocoNumbers:
    """COCO's metrics over all classes and of each class ([K], NaN for a class without objects), and the curves.

    Attributes:
        metrics: the twelve metrics by name (ten for keypoints); None if there are no such objects.
        per_class: "AP", "AP50", "AP75", "APs", "APm", "APl" and "AR100"; for keypoints without "APs", and with "AR".
        curves: precision-recall curves by class name, for classes with objects.
    """

    metrics: dict[str, float | None]
    per_class: dict[str, NDArray[np.float64]]
    curves: dict[str, Curve]


def coco_evaluation(
    objects: Rows, detections: Rows, classes: Classes, images: int, shapes: Shapes | None = None
) -> Any:
    """Create a hotcoco `COCOeval` and run its `evaluate()`; image, class and annotation ids are indices + 1.

    Boxes are compared, unless `shapes` are given.
    """
    from hotcoco import COCO, COCOeval

    # Ids start at 1: COCO's code treats an annotation with id 0 as unmatched.
    corner_size = objects.box.copy()
    corner_size[:, 2:] -= corner_size[:, :2]
    area = objects.area if shapes is None or shapes.area is None else shapes.area
    columns = (objects.image + 1, objects.label + 1, corner_size, area, objects.crowd.astype(np.int64))
    further: list[dict[str, Any]] = [{}] * len(objects) if shapes is None else shapes.objects
    coco_gt = COCO(
        {
            "images": [{"id": i} for i in range(1, images + 1)],
            "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
            "annotations": [
                {"id": i, "image_id": image, "category_id": label, "bbox": box, "area": size, "iscrowd": crowd, **more}
                for i, (image, label, box, size, crowd, more) in enumerate(
                    zip(*(column.tolist() for column in columns), further, strict=True), 1
                )
            ],
        }
    )
    if shapes is not None:
        rows = zip(detections.image.tolist(), detections.label.tolist(), detections.score.tolist(), strict=True)
        found = [
            {"image_id": image + 1, "category_id": label + 1, "score": score, **more}
            for (image, label, score), more in zip(rows, shapes.detections, strict=True)
            if more is not None
        ]
        evaluation = COCOeval(coco_gt, coco_gt.loadRes(found), shapes.kind)
        if shapes.sigmas:
            evaluation.params.kpt_oks_sigmas = list(shapes.sigmas)
        evaluation.evaluate()
        return evaluation
    table = np.empty((len(detections), 7))
    table[:, 0], table[:, 1:5], table[:, 5] = detections.image + 1, detections.box, detections.score
    table[:, 3:5] -= table[:, 1:3]
    table[:, 6] = detections.label + 1
    evaluation = COCOeval(coco_gt, coco_gt.loadRes(table), "bbox")
    evaluation.evaluate()
    return evaluation


def coco_numbers(
    objects: Rows, detections: Rows, classes: Classes, images: int, shapes: Shapes | None = None
) -> CocoNumbers:
    """Compare `detections` with `objects` by COCO's protocol of 2017; nothing is printed."""
    evaluation = coco_evaluation(objects, detections, classes, images, shapes)
    keypoints = shapes is not None and shapes.kind == "keypoints"
    evaluation.accumulate()
    evaluation.summary_lines()  # fills stats without printing
    # COCO's code adds an epsilon to a denominator, which makes a perfect score 2e-16 too small; rounding corrects it.
    names = KEYPOINT_METRICS if keypoints else COCO_METRICS
    metrics = {n: None if v < 0 else round(float(v), 12) for n, v in zip(names, evaluation.stats, strict=True)}
    # precision, scores: [10 IoUs, 101 recalls, K, 4 areas (all, s, m, l), 3 limits (1, 10, 100)]; recall: without the
    # recalls; for keypoints there are 3 areas (all, m, l) and 1 limit (20)
    tables = evaluation.eval
    precision, recall, scores = tables["precision"], tables["recall"], tables["scores"]
    precision = np.where(precision < 0, np.nan, precision)  # −1 marks a class without objects, in all its cells
    sizes = ("APm", "APl") if keypoints else ("APs", "APm", "APl")
    per_class = {
        "AP": precision[:, :, :, 0, -1].mean((0, 1)),
        "AP50": precision[0, :, :, 0, -1].mean(0),
        "AP75": precision[5, :, :, 0, -1].mean(0),
        **{name: precision[:, :, :, a, -1].mean((0, 1)) for a, name in enumerate(sizes, 1)},
        "AR" if keypoints else "AR100": np.where(recall[..., 0, -1] < 0, np.nan, recall[..., 0, -1]).mean(0),
    }
    grid = np.linspace(0, 1, 101)
    curves = {
        name: Curve(grid, precision[0, :, k, 0, -1].copy(), np.maximum(scores[0, :, k, 0, -1], 0))
        for k, name in enumerate(classes)
        if not np.isnan(per_class["AP"][k])
    }
    return CocoNumbers(metrics, {name: values.round(12) for name, values in per_class.items()}, curves)


def limit_note(objects: Rows) -> str | None:
    """A sentence on images with more objects of a class than COCO counts detections; None if there are none."""
    counted = objects[~objects.crowd]
    if not len(counted):
        return None
    width = int(counted.label.max()) + 1
    keys, numbers = np.unique(counted.image * width + counted.label, return_counts=True)
    images = len(np.unique(keys[numbers > MOST_COUNTED] // width))
    if not images:
        return None
    label = keys % width
    findable = np.bincount(label, np.minimum(numbers, MOST_COUNTED)) / np.maximum(np.bincount(label, numbers), 1)
    recall = findable[np.unique(label)].mean()
    return (
        f"COCO counts at most {MOST_COUNTED} detections of a class in an image, and {words.counted(images)} "
        f"{words.have(images)} more objects of a class: perfect detections would reach an AR100 of {recall:.2f} and "
        "about the same AP; VOC's metrics have no such limit"
    )


def coco_intervals(
    objects: Rows, detections: Rows, classes: Classes, images: int, level: float, draws: int = 200, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals over images of the twelve box metrics.

    They are intervals of the difference from an evaluation without detections, whose metrics are all 0.
    """
    nothing = detections[np.zeros(len(detections), bool)]
    return coco_differences(objects, nothing, detections, classes, images, level, draws, seed)


def coco_differences(
    objects: Rows,
    before: Rows,
    after: Rows,
    classes: Classes,
    images: int,
    level: float,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals over images of how much the twelve box metrics of `after` exceed those of `before`.

    Both are evaluated on the same images of each sample, so that what is hard in an image cancels out.
    """
    from hotcoco import compare

    one, other = (coco_evaluation(objects, rows, classes, images) for rows in (before, after))
    drawn = compare(one, other, n_bootstrap=draws, seed=seed, confidence=level)["ci"]
    return {name: (drawn[name]["lower"], drawn[name]["upper"]) for name in COCO_METRICS if name in drawn}

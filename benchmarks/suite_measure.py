"""What the development suite measures: metrics of a result, AP by the shape of objects, and predictions of peers.

A peer writes its predictions of the test images in formats without any library of ours: boxes as a COCO result file
(rows of image_id, category_id, bbox, score), class maps as one PNG of class ids per image, named like the image. They
are compared with the same labels by the same evaluation as our own models.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import sightline as sl
from sightline.data.dataset import Dataset
from sightline.evaluation import DetectionResult, evaluate_detection, evaluate_segmentation
from sightline.evaluation._arrays import Rows
from sightline.structures import ClassMap, Instances

SHAPES: dict[str, tuple[float, float]] = {"up to 1.5": (1, 1.5), "1.5 to 3": (1.5, 3), "above 3": (3, 1e6)}
"""Aspect ratios, of the longer to the shorter side."""


def of_run(run: Path, test: Dataset) -> dict[str, Any]:
    """The figures of a run of ours: its best weights on the test images."""
    return figures(sl.evaluate(sl.load(run), test[:], progress=False))


def of_predictions(found: Path, test: Dataset, annotations: Path) -> dict[str, Any]:
    """The figures of a peer's predictions.

    Args:
        found: a COCO result file, or a folder of PNGs of class ids.
        test: the test images, in the order of `annotations`.
        annotations: the COCO file that the peer took its image and category ids from.
    """
    targets: list[Any] = [test.target(i) for i in range(len(test))]
    if found.is_dir():
        return figures(evaluate_segmentation(targets, _maps(found, test), test.classes))
    predictions = _instances(json.loads(found.read_text()), test, json.loads(annotations.read_text()))
    return figures(evaluate_detection(targets, predictions, test.classes))


def figures(result: Any) -> dict[str, Any]:
    """What is stored of a result: metrics, those of each class, and of a detection the errors and AP by shape."""
    out = {"metrics": rounded(result.metrics), "per_class": {k: rounded(v) for k, v in result.per_class.items()}}
    if isinstance(result, DetectionResult):
        # 80 classes times all metrics would be most of the file
        kept = ("AP", "AP50", "objects")
        out["per_class"] = {name: {k: row[k] for k in kept} for name, row in out["per_class"].items() if row["objects"]}
        out["by_shape"] = by_shape(result)
        out["errors"] = {"counts": dict(result.errors().counts), "AP50_gains": rounded(result.error_gains())}
    return out


def by_shape(result: DetectionResult) -> dict[str, dict[str, float | int | None]]:
    """AP and AP50 of objects by their aspect ratio.

    COCO's rule for sizes, with the ratio in place of the area: objects outside a range are ignored, and so are
    detections outside it that match no object.
    """
    from hotcoco import COCO, COCOeval

    objects, detections = result.objects, result.detections
    ratio = _ratios(objects)
    base: dict[str, Any] = {
        "images": [{"id": i} for i in range(1, result.images + 1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(result.classes, 1)],
    }
    evaluation = COCOeval(
        COCO({**base, "annotations": _annotations(objects, ratio)}),
        COCO({**base, "annotations": _annotations(detections, _ratios(detections))}),
        "bbox",
    )
    evaluation.params.area_rng = [[0, 1e10], *(list(limits) for limits in SHAPES.values())]
    evaluation.params.area_rng_lbl = ["all", *SHAPES]
    evaluation.evaluate()
    evaluation.accumulate()
    tables: Any = evaluation.eval
    precision = tables["precision"][..., -1]  # [10 IoUs, 101 recalls, K, ranges]
    out: dict[str, dict[str, float | int | None]] = {}
    for place, (name, (low, high)) in enumerate(SHAPES.items(), 1):
        part = precision[..., place]
        known = part[..., (part > -1).all((0, 1))]
        inside = int(((ratio >= low) & (ratio < high) & ~objects.crowd).sum())
        values = (known.mean(), known[0].mean()) if known.size else (None, None)
        out[name] = rounded({"AP": values[0], "AP50": values[1], "objects": inside})
    return out


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers with four decimals; counts and None as they are."""
    return {k: round(float(v), 4) if isinstance(v, float | np.floating) else v for k, v in values.items()}


def _ratios(rows: Rows) -> NDArray[np.float64]:
    sides = np.maximum(rows.box[:, 2:] - rows.box[:, :2], 1e-3)
    ratios: NDArray[np.float64] = sides.max(1) / sides.min(1)
    return ratios


def _annotations(rows: Rows, ratio: NDArray[np.float64]) -> list[dict[str, Any]]:
    corner_size = rows.box.copy()
    corner_size[:, 2:] -= corner_size[:, :2]
    columns = (rows.image + 1, rows.label + 1, corner_size, ratio, rows.score, rows.crowd.astype(int))
    return [
        {
            "id": i,
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "area": shape,
            "score": score,
            "iscrowd": crowd,
        }
        for i, (image, label, box, shape, score, crowd) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True), 1
        )
    ]


def _instances(rows: list[dict[str, Any]], test: Dataset, annotations: dict[str, Any]) -> list[Instances]:
    by_image = defaultdict(list)
    for row in rows:
        by_image[row["image_id"]].append(row)
    ids = {image["file_name"]: image["id"] for image in annotations["images"]}
    names = {category["id"]: category["name"] for category in annotations["categories"]}
    out = []
    for i in range(len(test)):
        found = by_image[ids[test.image_name(i)]]
        boxes = torch.tensor([row["bbox"] for row in found], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([test.classes.id(names[row["category_id"]]) for row in found], dtype=torch.int64)
        scores = torch.tensor([row["score"] for row in found], dtype=torch.float32)
        size = test.image_size(i)
        out.append(Instances(size, classes=test.classes, boxes=boxes, labels=labels, scores=scores))
    return out


def _maps(folder: Path, test: Dataset) -> list[ClassMap]:
    files = [folder / Path(test.image_name(i)).with_suffix(".png").name for i in range(len(test))]
    return [ClassMap(torch.from_numpy(np.array(Image.open(file))).long(), test.classes) for file in files]

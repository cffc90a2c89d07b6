"""Random labels and detections, and pycocotools on them."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import torch

from sightline.evaluation import COCO_METRICS
from sightline.structures import Classes, Instances


def random_case(
    seed: int, images: int = 12, classes: int = 4, crowds: bool = True, difficult: bool = False, ties: bool = False
) -> tuple[list[Instances], list[Instances], Classes]:
    """Objects of all sizes, some images empty; detections near them, doubled, of wrong class, and of nothing."""
    rng = np.random.default_rng(seed)
    names = Classes([f"class {k}" for k in range(classes)])
    targets, predictions = [], []
    for _ in range(images):
        n = int(rng.integers(0, 9))
        corner = rng.uniform(0, 400, (n, 2))
        boxes = np.concatenate([corner, corner + np.exp(rng.uniform(np.log(6), np.log(250), (n, 2)))], 1)
        labels = rng.integers(0, max(classes - 1, 1), n)  # the last class is never there
        fields = {"crowd": rng.random(n) < 0.15} if crowds else {}
        fields |= {"difficult": rng.random(n) < 0.2} if difficult else {}
        targets.append(
            Instances(
                (700, 700),
                classes=names,
                boxes=torch.from_numpy(boxes),
                labels=torch.from_numpy(labels),
                areas=torch.from_numpy(rng.uniform(0.4, 1, n) * (boxes[:, 2:] - boxes[:, :2]).prod(1)),
                **{key: torch.from_numpy(value) for key, value in fields.items()},
            )
        )
        near = rng.integers(0, n, int(rng.integers(0, 4 * n))) if n else np.zeros(0, dtype=int)
        size = (boxes[near, 2:] - boxes[near, :2]).repeat(2, 0).reshape(-1, 4)
        moved = boxes[near] + rng.normal(0, 1, (len(near), 4)) * size * rng.choice([0.02, 0.08, 0.25], (len(near), 1))
        m = int(rng.integers(0, 5))
        start = rng.uniform(0, 400, (m, 2))
        found = np.concatenate([moved, np.concatenate([start, start + rng.uniform(5, 200, (m, 2))], 1)])
        found = np.concatenate([np.minimum(found[:, :2], found[:, 2:]), np.maximum(found[:, :2], found[:, 2:])], 1)
        guess = np.concatenate([labels[near], rng.integers(0, classes, m)])
        guess = np.where(rng.random(len(guess)) < 0.2, rng.integers(0, classes, len(guess)), guess)
        scores = rng.integers(1, 10, len(guess)) / 10 if ties else rng.random(len(guess))
        predictions.append(
            Instances(
                (700, 700),
                classes=names,
                boxes=torch.from_numpy(found),
                labels=torch.from_numpy(guess),
                scores=torch.from_numpy(scores),
            )
        )
    return targets, predictions, names


def pycocotools_numbers(
    targets: list[Instances], predictions: list[Instances], classes: Classes
) -> tuple[dict[str, float], np.ndarray]:
    """The twelve numbers and the precision table [10, 101, K, 4, 3] of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def xywh(boxes: torch.Tensor) -> list[list[float]]:
        return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()

    annotations, found = [], []
    for image, (target, prediction) in enumerate(zip(targets, predictions, strict=True), 1):
        crowd = target.crowd.tolist() if "crowd" in target else [False] * len(target)
        boxes = xywh(target.boxes)
        areas = target.areas.tolist() if "areas" in target else [w * h for _, _, w, h in boxes]
        annotations += [
            {"image_id": image, "bbox": box, "category_id": label + 1, "area": area, "iscrowd": int(many)}
            for box, label, area, many in zip(boxes, target.labels.tolist(), areas, crowd, strict=True)
        ]
        rows = zip(xywh(prediction.boxes), prediction.labels.tolist(), prediction.scores.tolist(), strict=True)
        found += [{"image_id": image, "bbox": b, "category_id": c + 1, "score": s} for b, c, s in rows]
    for position, annotation in enumerate(annotations, 1):
        annotation["id"] = position
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i + 1} for i in range(len(targets))],
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(classes)],
            "annotations": annotations,
        }
        truth.createIndex()
        answers = COCO()
        answers.dataset = {
            **truth.dataset,
            "annotations": [
                {**row, "id": i, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
                for i, row in enumerate(found, 1)
            ],
        }
        answers.createIndex()
        evaluation = COCOeval(truth, answers, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(COCO_METRICS, evaluation.stats.tolist(), strict=True)), evaluation.eval["precision"]

"""How long it takes to evaluate 5000 images × 20 detections, from lists of Instances to all numbers.

    python benchmarks/evaluation.py [--images 5000] [--runs 7] [--out benchmarks/results/evaluation.md]

The peer, pycocotools, gets its lists of dictionaries made beforehand; ours starts from the tensors a model gives.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sightline.evaluation import COCO_METRICS, evaluate_detection
from sightline.structures import Classes, Instances


def make(images: int, objects: int, detections: int, classes: int) -> tuple[list[Instances], list[Instances], Classes]:
    """Random boxes; the detections are objects moved a little, a fifth of them with another class."""
    generator = torch.Generator().manual_seed(0)
    names = Classes([f"class {k}" for k in range(classes)])
    targets, predictions = [], []
    for _ in range(images):
        corner = torch.rand(objects, 2, generator=generator) * 500
        boxes = torch.cat([corner, corner + 5 + torch.rand(objects, 2, generator=generator) * 135], 1)
        labels = torch.randint(classes, (objects,), generator=generator)
        targets.append(Instances((640, 640), classes=names, boxes=boxes, labels=labels))
        chosen = torch.randint(objects, (detections,), generator=generator)
        spread = torch.rand(detections, 1, generator=generator) * 15
        found = boxes[chosen] + torch.randn(detections, 4, generator=generator) * spread
        found = torch.cat([torch.minimum(found[:, :2], found[:, 2:]), torch.maximum(found[:, :2], found[:, 2:])], 1)
        other = torch.randint(classes, (detections,), generator=generator)
        guess = torch.where(torch.rand(detections, generator=generator) < 0.8, labels[chosen], other)
        scores = torch.rand(detections, generator=generator)
        predictions.append(Instances((640, 640), classes=names, boxes=found, labels=guess, scores=scores))
    return targets, predictions, names


def pycocotools_run(
    targets: list[Instances], predictions: list[Instances], classes: Classes
) -> Callable[[], list[float]]:
    """pycocotools on the same boxes; its dictionaries are made here, before the clock starts."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(items: list[Instances]) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for image, item in enumerate(items, 1):
            boxes = item.boxes.double()
            boxes[:, 2:] -= boxes[:, :2]
            scores = item.scores.tolist() if "scores" in item else [1.0] * len(item)
            for box, label, score in zip(boxes.tolist(), item.labels.tolist(), scores, strict=True):
                row = {"id": len(out) + 1, "image_id": image, "category_id": label + 1, "bbox": box, "score": score}
                out.append(row | {"area": box[2] * box[3], "iscrowd": 0})
        return out

    truth, found = rows(targets), rows(predictions)
    head = {
        "images": [{"id": i + 1} for i in range(len(targets))],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(classes)],
    }

    def run() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            sides = []
            for annotations in (truth, found):
                coco = COCO()
                coco.dataset = {**head, "annotations": annotations}
                coco.createIndex()
                sides.append(coco)
            evaluation = COCOeval(*sides, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation.stats.tolist()

    return run


def timed(run: Callable[[], Any], runs: int) -> tuple[list[float], Any]:
    times, result = [], None
    for _ in range(runs):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return times, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    targets, predictions, classes = make(options.images, 7, 20, 80)
    evaluate_detection(targets[:10], predictions[:10], classes)  # imports what is imported at first use
    load = os.getloadavg()[0]
    ours, result = timed(lambda: evaluate_detection(targets, predictions, classes), options.runs)
    diagnosis, _ = timed(lambda: evaluate_detection(targets, predictions, classes).to_dict(), max(options.runs // 2, 1))
    peer, expected = timed(pycocotools_run(targets, predictions, classes), max(options.runs // 3, 1))
    worst = max(abs(result.metrics[name] - value) for name, value in zip(COCO_METRICS, expected, strict=True))

    def row(what: str, times: list[float]) -> str:
        return f"| {what} | {min(times):.2f} | {statistics.median(times):.2f} | {len(times)} |"

    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "hotcoco", "pycocotools"))
    lines = [
        "# Evaluation",
        "",
        f"`python benchmarks/evaluation.py --images {options.images} --runs {options.runs}`",
        "",
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python "
        f"{platform.python_version()}; {packages}; {torch.get_num_threads()} torch threads; load average before "
        f"{load:.1f}. Method: wall time of whole runs after one small warm-up, {options.images} images × 20 "
        "detections, 7 objects an image, 80 classes, random boxes.",
        "",
        "| what | min s | median s | runs |",
        "|---|---:|---:|---:|",
        row("`evaluate_detection` from lists of Instances: COCO 12, VOC 2007 and 2010, per class, curves", ours),
        row("the same and `.to_dict()`: confusion matrix, kinds of error and what each costs", diagnosis),
        row("pycocotools, COCO 12 alone, from dictionaries made beforehand", peer),
        "",
        f"Largest difference of the twelve numbers from pycocotools: {worst:.1e}.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()

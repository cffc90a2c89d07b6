"""How good a model is on a dataset, by the protocols of the field, and where it goes wrong.

`evaluate(model, data, measure)` runs the model and measures; `evaluate_detection(targets, predictions, classes)`
measures what there is already. Results print as a table and give `.to_dict()` for JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from sightline.data.facts import scaled_as_learnt
from sightline.errors import InputError
from sightline.evaluation.classification import (
    CLASSIFICATION_METRICS,
    ClassificationMeasure,
    ClassificationResult,
    evaluate_classification,
)
from sightline.evaluation.coco import COCO_METRICS
from sightline.evaluation.detection import (
    PROTOCOLS,
    VOC_METRICS,
    DetectionMeasure,
    DetectionResult,
    evaluate_detection,
)
from sightline.evaluation.errors import DetectionErrors, OperatingPoint
from sightline.evaluation.proposals import ProposalMeasure, ProposalResult, evaluate_proposals
from sightline.evaluation.result import MakeMeasure, Measure, PlainResult, Result
from sightline.evaluation.segmentation import (
    SEGMENTATION_METRICS,
    PixelCounts,
    SegmentationResult,
    evaluate_segmentation,
)
from sightline.evaluation.voc import VocResult, evaluate_voc
from sightline.models.model import as_model
from sightline.progress import progress_bar
from sightline.runtime.devices import running
from sightline.runtime.values import require_whole
from sightline.structures import Target

__all__ = [
    "CLASSIFICATION_METRICS",
    "COCO_METRICS",
    "PROTOCOLS",
    "SEGMENTATION_METRICS",
    "VOC_METRICS",
    "ClassificationMeasure",
    "ClassificationResult",
    "DetectionErrors",
    "DetectionMeasure",
    "DetectionResult",
    "MakeMeasure",
    "Measure",
    "OperatingPoint",
    "PixelCounts",
    "PlainResult",
    "ProposalMeasure",
    "ProposalResult",
    "Result",
    "SegmentationResult",
    "VocResult",
    "evaluate",
    "evaluate_classification",
    "evaluate_detection",
    "evaluate_proposals",
    "evaluate_segmentation",
    "evaluate_voc",
    "predict_batches",
]


def evaluate(
    model: nn.Module,
    data: Any,
    measure: MakeMeasure,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
    keep_predictions: bool = True,
) -> Result:
    """Run a model over a dataset and measure its answers against the labels.

    The model's classes may be more than the data's, or in another order: they are brought over by name. Detections of
    classes that the data does not have are left out; pixels and images that are given one count as wrong. A note of the
    result says how many there are.

    Args:
        model: answers `model(images)` with one result per image, in the pixels of the images given. All its answers
            count, so leave its score threshold low; it is run in eval mode and left in the mode it was in.
        data: a dataset, or a part of one (`data["test"]`). Samples of more than 8 bits are divided by what the model's
            training images were divided by.
        measure: makes what is measured by, such as `DetectionMeasure`; that of a task is
            `sightline.tasks.TASKS[name].measure`.
        batch_size: images at a time.
        device: where to run; None for where the model is. The model is brought back afterwards.
        progress: show a bar, where the error output is a terminal.
        keep_predictions: keep `.targets` and `.predictions` (on the CPU) in the result, for reports.

    Returns:
        What the measure gives: a `DetectionResult`, `ProposalResult`, `SegmentationResult`, `ClassificationResult` …

    Raises:
        InputError: the data is empty, or of a kind that the model does not answer.
        ClassMismatch: the data has classes which the model does not know.
    """
    model = as_model(model)
    data = scaled_as_learnt(model, data)
    if not len(data):
        raise InputError("the dataset holds no images to evaluate on; check the path and the split")
    classes = data.classes
    if model.classes and any(name not in model.classes for name in classes):
        classes.require_same(model.classes, "the data", "the model")
    counts = measure(classes, keep_predictions)
    for targets, answers in predict_batches(model, data, batch_size, device, progress):
        for target, answer in zip(targets, answers, strict=True):
            counts.add(target, answer)
    return counts.result([data.name(i) for i in range(len(data))])


def predict_batches(
    model: nn.Module,
    data: Any,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Iterator[tuple[list[Target], list[Target]]]:
    """The targets and the model's answers (both on the CPU), batch by batch in the data's order.

    The next batch is read while the model works on this one. The model's mode and device are restored at the end.
    """
    batch_size = require_whole("batch_size", batch_size, 1, "batch_size", "give 8 images at a time if in doubt")
    starts = range(0, len(data), batch_size)

    def read(start: int) -> list[tuple[Tensor, Target]]:
        return [data[i] for i in range(start, min(start + batch_size, len(data)))]

    bar = progress_bar(len(data), "evaluating", progress)
    with running(model, device) as place, bar as advance, ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, 0)
        for start in starts:
            batch = ahead.result()
            if start + batch_size < len(data):
                ahead = reader.submit(read, start + batch_size)
            with torch.inference_mode():
                answers = model([image.to(place, non_blocking=True) for image, _ in batch])
            if isinstance(answers, dict) or len(answers) != len(batch):
                what = f"a {type(answers).__name__} of {len(answers)}"
                raise InputError(
                    f"the model answered {len(batch)} images with {what}, "
                    "but model(images) must return one result for each image"
                )
            if type(answers[0]) is not type(batch[0][1]):
                raise InputError(
                    f"the model answers with {type(answers[0]).__name__}, but the labels are "
                    f"{type(batch[0][1]).__name__}; take a model of their task (`sightline models` lists them)"
                )
            yield [target for _, target in batch], [answer.to("cpu") for answer in answers]
            advance(len(batch))

"""Evaluate models by the protocols of the field, and analyse their errors.

`evaluate(model, data, measure)` runs a model and computes metrics; `evaluate_detection(targets, predictions, classes)`
compares existing predictions. `print` shows a result as a table, and `.to_dict()` returns it for JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from sightline.data.facts import with_training_full_scale
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
from sightline.evaluation.result import Asking, Joining, MakeMeasure, Measure, PlainResult, Result
from sightline.evaluation.scene_graphs import SceneGraphMeasure, SceneGraphResult, evaluate_scene_graphs
from sightline.evaluation.segmentation import (
    SEGMENTATION_METRICS,
    PixelCounts,
    SegmentationResult,
    evaluate_segmentation,
)
from sightline.evaluation.sharing import shareable, shared_result
from sightline.evaluation.voc import VocResult, evaluate_voc
from sightline.models.model import as_model
from sightline.progress import progress_bar
from sightline.runtime.devices import running
from sightline.runtime.processes import world_size
from sightline.runtime.reading_ahead import read_ahead
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
    "Joining",
    "MakeMeasure",
    "Measure",
    "OperatingPoint",
    "PixelCounts",
    "PlainResult",
    "ProposalMeasure",
    "ProposalResult",
    "Result",
    "SceneGraphMeasure",
    "SceneGraphResult",
    "SegmentationResult",
    "VocResult",
    "evaluate",
    "evaluate_classification",
    "evaluate_detection",
    "evaluate_proposals",
    "evaluate_scene_graphs",
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
    shared: bool = False,
) -> Result:
    """Run a model on a dataset and compare its predictions with the labels.

    The model may have more classes than the data, or the same in another order: they are matched by name. Detections of
    classes that the data does not have are ignored; pixels and images predicted as such a class count as wrong. A note
    in the result says how many there are.

    Args:
        model: called as `model(images)`; returns one result per image, in pixels of the given images. All predictions
            count, so its score threshold should be low. It runs in eval mode; its mode is restored.
        data: a dataset, or a part of one (`data["test"]`). Samples of more than 8 bits are divided by the full scale of
            the model's training images.
        measure: creates the object that compares targets and predictions, such as `DetectionMeasure`; that of a task is
            `sightline.tasks.TASKS[name].measure`.
        batch_size: images per batch.
        device: where the model runs; None for the device it is on. The model is moved back afterwards.
        progress: show a progress bar if stderr is a terminal.
        keep_predictions: keep `.targets` and `.predictions` (on the CPU) in the result, for reports.
        shared: share the images among the processes of a launcher, which must all call this function. The result is
            that of all images in each process; targets and predictions are in that of the main process only. Without a
            launcher it changes nothing.

    Returns:
        The result: a `DetectionResult`, `ProposalResult`, `SegmentationResult`, `ClassificationResult`, …

    Raises:
        InputError: the data is empty, or its targets are of another type than the model's predictions.
        ClassMismatch: the data has classes that the model does not know.
    """
    model = as_model(model)
    data = with_training_full_scale(model, data)
    if not len(data):
        raise InputError("the dataset holds no images to evaluate on; check the path and the split")
    classes = data.classes
    if model.classes and any(name not in model.classes for name in classes):
        classes.require_same(model.classes, "the data", "the model")

    def fill(counts: Measure, part: Any) -> None:
        ask = counts.ask if isinstance(counts, Asking) else None
        for targets, predictions in predict_batches(model, part, batch_size, device, progress, ask):
            for target, prediction in zip(targets, predictions, strict=True):
                counts.add(target, prediction)

    names = [data.name(i) for i in range(len(data))]
    counts = measure(classes, keep_predictions)
    if shared and world_size() > 1 and shareable(counts):
        return shared_result(measure, classes, keep_predictions, data, fill, names, device)
    fill(counts, data)
    return counts.result(names)


def predict_batches(
    model: nn.Module,
    data: Any,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
    ask: Callable[[nn.Module, list[Tensor], list[Any]], None] | None = None,
) -> Iterator[tuple[list[Target], list[Target]]]:
    """Yield the targets and the model's predictions (both on the CPU), batch by batch in the order of the data.

    The next batch is read while the model processes the current one. The model's mode and device are restored. `ask` is
    called with the model, the images and the targets of each batch, see `sightline.evaluation.result.Asking`.
    """
    batch_size = require_whole("batch_size", batch_size, 1, "batch_size", "give 8 images per batch if in doubt")
    starts = range(0, len(data), batch_size)

    def read(start: int) -> list[tuple[Tensor, Target]]:
        return [data[i] for i in range(start, min(start + batch_size, len(data)))]

    if not len(data):
        return
    bar = progress_bar(len(data), "evaluating", progress)
    with running(model, device) as place, bar as advance, closing(read_ahead(read, starts, 1, 1)) as batches:
        for batch in batches:
            with torch.inference_mode():
                images = [image.to(place, non_blocking=True) for image, _ in batch]
                predictions = model(images)
            if isinstance(predictions, dict) or len(predictions) != len(batch):
                what = f"a {type(predictions).__name__} of {len(predictions)}"
                raise InputError(
                    f"the model returned {what} for {len(batch)} images, "
                    "but model(images) must return one result per image"
                )
            if type(predictions[0]) is not type(batch[0][1]):
                raise InputError(
                    f"the model predicts {type(predictions[0]).__name__}, but the labels are "
                    f"{type(batch[0][1]).__name__}; use a model of their task (`sightline models` lists them)"
                )
            if ask is not None:
                with torch.inference_mode():
                    ask(model, images, [target for _, target in batch])
            yield [target for _, target in batch], [prediction.to("cpu") for prediction in predictions]
            advance(len(batch))

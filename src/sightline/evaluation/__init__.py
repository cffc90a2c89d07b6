"""How good a model is on a dataset, by the protocols of the field, and where it goes wrong.

`evaluate(model, data)` runs the model and measures; `evaluate_detection(targets, predictions, classes)` measures what
there is already. Results print as a table and give `.to_dict()` for JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.evaluation.detection import COCO_METRICS, PROTOCOLS, VOC_METRICS, DetectionResult, evaluate_detection
from sightline.evaluation.errors import DetectionErrors, OperatingPoint
from sightline.evaluation.packed import PackedInstances
from sightline.evaluation.proposals import ProposalResult, evaluate_proposals
from sightline.evaluation.segmentation import (
    SEGMENTATION_METRICS,
    PixelCounts,
    SegmentationResult,
    evaluate_segmentation,
)
from sightline.evaluation.voc import VocResult, evaluate_voc
from sightline.progress import progress_bar
from sightline.runtime.values import require_whole
from sightline.structures import Target
from sightline.training.data_facts import scaled_as_learnt
from sightline.training.devices import running

__all__ = [
    "COCO_METRICS",
    "PROTOCOLS",
    "SEGMENTATION_METRICS",
    "VOC_METRICS",
    "DetectionErrors",
    "DetectionResult",
    "OperatingPoint",
    "PixelCounts",
    "ProposalResult",
    "SegmentationResult",
    "VocResult",
    "evaluate",
    "evaluate_detection",
    "evaluate_proposals",
    "evaluate_segmentation",
    "evaluate_voc",
    "predict_batches",
]

_MEASURED = ("instances", "class_map")
"""The kinds of label that can be measured."""
_KIND_NAMES = {"instances": "objects", "class_map": "class maps", "class_scores": "image classes"}


def evaluate(
    model: nn.Module,
    data: Any,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
    keep_predictions: bool = True,
) -> Any:
    """Run a model over a dataset and measure its answers against the labels.

    The model's classes may be more than the data's, or in another order: they are brought over by name, and detections
    of classes that the data does not have are left out, which a note of the result says.

    Args:
        model: answers `model(images)` with one result an image, in the pixels of the images given. All its answers
            count, so leave its score threshold low; it is run in eval mode and left in the mode it was in.
        data: a dataset, or a part of one (`data["test"]`). Samples of more than 8 bits are divided by what the model's
            training images were divided by.
        batch_size: images at a time.
        device: where to run; None for where the model is. The model is brought back afterwards.
        progress: show a bar, where the error output is a terminal.
        keep_predictions: keep `.targets` and `.predictions` (on the CPU) in the result, for reports.

    Returns:
        What `evaluate_detection` gives: a `DetectionResult`; for class maps a `SegmentationResult`, and for a model of
        task "proposal" a `ProposalResult`, which have the same `.metrics`, `.to_dict()`, `.targets` and `.predictions`.

    Raises:
        InputError: the data is empty, or of a kind that cannot be measured or that the model does not answer.
        ClassMismatch: the data has classes which the model does not know.
    """
    kind = getattr(data, "kind", "instances")
    if kind not in _MEASURED:
        known = " and ".join(_KIND_NAMES[name] for name in _MEASURED)
        raise InputError(
            f"the labels are {_KIND_NAMES.get(kind, repr(kind))}, but evaluation knows {known} so far; "
            "give a dataset of those"
        )
    data = scaled_as_learnt(model, data)
    if not len(data):
        raise InputError("the dataset holds no images to evaluate on; check the path and the split")
    classes = data.classes
    known_classes = getattr(model, "classes", None)
    if known_classes is not None and any(name not in known_classes for name in classes):
        classes.require_same(known_classes, "the data", "the model")

    names = [data.name(i) for i in range(len(data))]
    if kind == "class_map":  # what stays of each map is what it adds to the counts
        counts = PixelCounts(classes, keep=keep_predictions)
        for maps, answers in predict_batches(model, data, batch_size, device, progress):
            for target, answer in zip(maps, answers, strict=True):
                counts.add(target, answer)  # type: ignore[arg-type]
        return counts.result(names)
    # packed as they come: the masks of a whole data set would fill the memory
    targets, predictions = PackedInstances(), PackedInstances()
    for batch_targets, batch_predictions in predict_batches(model, data, batch_size, device, progress):
        targets.extend(batch_targets)
        predictions.extend(batch_predictions)
    result: Any
    if getattr(model, "task", None) == "proposal":
        result = evaluate_proposals(targets, predictions)
        result.targets, result.predictions = targets, predictions
    else:
        result = evaluate_detection(targets, predictions, classes, names)
    if not keep_predictions:
        result.targets = result.predictions = None
    return result


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

"""What an exported file computes from a preprocessed batch, for each kind of model, and how its outputs are read.

A part is a module of tensors alone. It takes a batch [N, C, H, W] float, the size of the images in it and their
original size, each [2] int64 (height, width), and gives outputs of fixed shape. All images of a batch have one size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sightline.deploy.exporting.operators import LEAST
from sightline.deploy.exporting.selecting import selected
from sightline.errors import InputError
from sightline.models.classification.classifier import ImageClassifier
from sightline.models.detection.detector import Detector
from sightline.models.model import Model
from sightline.models.segmentation.segmenter import Segmenter
from sightline.structures import Classes, ClassMap, ClassScores, ImageBatch, Instances, Size

Outputs = Mapping[str, Tensor]
"""The outputs of an exported model for a batch, by name."""


class Part(nn.Module):
    """Base class: the network of a model and what follows it.

    Attributes:
        kind: name of the kind of results, by which `READERS` reads the outputs.
        outputs: name → meaning of each output of the file.
    """

    kind: str = ""
    outputs: Mapping[str, str] = {}

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        """One tensor per name in `outputs`."""
        raise NotImplementedError


class ClassifierPart(Part):
    """Class probabilities."""

    kind = "scores"
    outputs = {"scores": "[N, K] float, class probabilities"}

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(self.model, ImageClassifier)
        return (self.model.network(batch).float().softmax(-1),)


class SegmenterPart(Part):
    """Logits at the size of the batch; the class map at the size of the image is computed by nodes behind the part."""

    kind = "map"
    outputs = {
        "labels": "[N, H, W] int64, the class of each pixel of the image",
        "scores": "[N, K, H, W] float, class probabilities; on request",
    }

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(self.model, Segmenter)
        return (self.model.logits(_batch(batch)).float(),)


class DetectorPart(Part):
    """Boxes of a dense detector after suppression, in pixels of the original image."""

    kind = "objects"
    outputs = {
        "boxes": "[N, D, 4] float, x1, y1, x2, y2 in pixels of the image, by falling score",
        "scores": "[N, D] float, 0 beyond the count",
        "labels": "[N, D] int64 class ids, -1 beyond the count",
        "count": "[N] int64, the number of objects",
    }

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(self.model, Detector)
        found = selected(self.model.dense_candidates(_batch(batch)), self.model.selection(), size)
        there = found.scores > LEAST
        boxes = found.boxes * (original.float() / size.float()).flip(0).repeat(2)
        return (
            torch.where(there[..., None], boxes, 0),
            torch.where(there, found.scores, 0),
            torch.where(there, found.labels, -1),
            there.sum(1),
        )


def part_of(model: Model) -> Part:
    """The part that a model is exported as.

    Raises:
        InputError: there is none for this model.
    """
    if isinstance(model, ImageClassifier):
        return ClassifierPart(model)
    if isinstance(model, Segmenter):
        return SegmenterPart(model)
    if isinstance(model, Detector):
        reason = _refusal(model)
        if reason is None:
            return DetectorPart(model)
    else:
        reason = "there is no exported form of its results"
    raise InputError(f"{model.title} cannot be exported: {reason}; docs/exporting.md lists the models that can be")


def _refusal(model: Detector) -> str | None:
    """Why a detector has no exported form; None if it has."""
    if type(model).dense_candidates is Detector.dense_candidates:
        return "which places it looks at depends on the image"
    if model.target_fields:
        return f"its {' and '.join(model.target_fields)} have no exported form yet"
    if type(model).finish is not Detector.finish:
        return "what it does with its boxes after the selection has no exported form yet"
    method = model.selection().method
    if method != "nms":
        return f"its detections are selected by {method.replace('_', ' ')}, which has no exported form yet"
    return None


def _batch(tensor: Tensor) -> ImageBatch:
    """A batch for methods that only use its tensor."""
    return ImageBatch(tensor, [], [])


def read_objects(outputs: Outputs, sizes: Sequence[Size], classes: Classes) -> list[Any]:
    """The objects of each image."""
    found = []
    for i, size in enumerate(sizes):
        count = int(outputs["count"][i])
        fields: dict[str, Any] = {name: value[i, :count] for name, value in outputs.items() if name != "count"}
        found.append(Instances.unchecked(size, classes=classes, **fields))
    return found


def read_map(outputs: Outputs, sizes: Sequence[Size], classes: Classes) -> list[Any]:
    """The class map of each image, with probabilities if the file gives them."""
    scores = outputs.get("scores")
    return [ClassMap(outputs["labels"][i], classes, None if scores is None else scores[i]) for i, _ in enumerate(sizes)]


def read_scores(outputs: Outputs, sizes: Sequence[Size], classes: Classes) -> list[Any]:
    """The class probabilities of each image."""
    return [ClassScores(size, scores=outputs["scores"][i], classes=classes) for i, size in enumerate(sizes)]


Reader = Callable[[Outputs, Sequence[Size], Classes], list[Any]]

READERS: dict[str, Reader] = {
    ClassifierPart.kind: read_scores,
    SegmenterPart.kind: read_map,
    DetectorPart.kind: read_objects,
}
"""Kind of a part → what makes results of its outputs."""

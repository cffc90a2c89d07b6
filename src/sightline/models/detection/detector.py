"""The base class of all detectors: maps classes to outputs of the head, and detections to pixels of the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.class_outputs import Output, one_axis, outputs_of
from sightline.models.detection.candidate_hooks import CandidateHooks
from sightline.models.model import Calls, Losses
from sightline.models.preprocess import Preprocess
from sightline.ops.boxes import scale_boxes
from sightline.structures import ImageBatch, Instances

SMALL_RATE: dict[str, Any] = {"lr": 1e-3}
"""Recipe settings for small networks with normalisation layers throughout: twice the default learning rate."""

Detections = list[dict[str, Tensor]]
"""An entry per image: boxes [N, 4] in pixels of the batch, labels [N] as outputs of the head, scores [N]; fields that
additional heads add."""


class Detector(CandidateHooks):
    """Base class of models of task "detection".

    `model(images, targets)` returns losses by name; `model(images)` returns `Instances` for each image.

    Args:
        classes: names of the K classes.
        preprocess: preprocessing of images into a batch.
        output_ids: index of each class among the outputs of the head. Output 0 is the background. By default class i
            has output i + 1. Heads published for COCO have 91 outputs for 80 classes; ten of them are unused.

    Attributes:
        background_output: whether the layers that depend on the classes have output 0, that of the background.
    """

    task = "detection"
    background_output: bool = True
    __call__: Calls[Instances]

    def __init__(self, classes: Iterable[str], preprocess: Preprocess, output_ids: Sequence[int] | None = None):
        super().__init__(classes, preprocess)
        if not len(self.classes):
            raise InputError("a detector needs at least one class; give classes=[…] with their names")
        self.output_ids = list(output_ids) if output_ids is not None else None
        if self.output_ids is not None and (
            len(self.output_ids) != len(self.classes)
            or len(set(self.output_ids)) < len(self.output_ids)
            or min(self.output_ids) < 1
        ):
            raise InputError(
                f"output_ids must be {len(self.classes)} distinct outputs above 0, one per class, not {self.output_ids}"
            )
        outputs = self.output_ids or list(range(1, len(self.classes) + 1))
        columns = [output - (0 if self.background_output else 1) for output in outputs]
        whole = slice(columns[0], columns[-1] + 1)  # selects a view
        self._columns = whole if columns == [*range(whole.start, whole.stop)] else columns
        of_output = [-1] * (max(outputs) + 1)
        for position, output in enumerate(outputs):
            of_output[output] = position
        self.register_buffer("_output_of_class", torch.tensor(outputs), persistent=False)
        self.register_buffer("_class_of_output", torch.tensor(of_output), persistent=False)

    _output_of_class: Tensor
    _class_of_output: Tensor

    def batch_losses(self, batch: ImageBatch, targets: Sequence[Instances]) -> Losses:
        return self.process(batch, targets)[1]

    def batch_results(self, batch: ImageBatch) -> list[Instances]:
        return self.finish(self.process(batch, None)[0], batch)

    @property
    def output_names(self) -> list[str]:
        """The class of each output of the head for one box; it starts with the background if the head has one."""
        return outputs_of(self.classes, self.output_ids, self.background_output)

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """By default one output per class, after that of the background if there is one, for each anchor of a cell."""
        return one_axis(self.output_names, shape)

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of a batch in pixels of the batch, labelled by output of the head; or its losses."""
        raise NotImplementedError

    def of_classes(self, outputs: Tensor) -> Tensor:
        """Select the outputs of the model's classes: [..., outputs of the head] → [..., K]."""
        return outputs[..., self._columns]

    def classes_of(self, labels: Tensor) -> Tensor:
        """The class ids [...] of outputs of the head [...]; −1 for outputs that belong to no class."""
        return self._class_of_output[labels]

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None
    ) -> tuple[ImageBatch, list[Instances] | None]:
        """Preprocess images and targets. Labels of the targets are converted from class ids to outputs of the head."""
        for target in targets or ():
            self.require_classes(target)
            for name in self.target_fields:
                if name not in target and len(target):
                    raise InputError(
                        f"{target.source or 'a target'} has no {name}, but this model learns from them; "
                        f'open the data with .with_fields("{name}")'
                    )
        batch, moved = self.preprocess(images, targets)
        if moved is not None:
            moved = [t.replace(labels=self._output_of_class[t.labels]) for t in moved]
        return batch, moved

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Convert detections from pixels of the batch and outputs of the head to `Instances` of the original images."""
        results = []
        for fields, (sx, sy), size in zip(found, batch.scales, batch.original_sizes, strict=True):
            labels = self.classes_of(fields["labels"])
            boxes = scale_boxes(fields["boxes"], (1 / sx, 1 / sy))
            own: dict[str, Any] = fields | {"boxes": boxes, "labels": labels}
            result = Instances.unchecked(size, classes=self.classes, **own)
            results.append(result if self.output_ids is None else result[labels >= 0])
        return results


def head_outputs(classes: Sequence[str], output_ids: Sequence[int] | None) -> int:
    """The number of outputs that a head needs besides the background."""
    return len(classes) if output_ids is None else max(output_ids)

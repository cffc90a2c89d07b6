"""What every detector shares: its classes, where they stand in its head, and results in the pixels of the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.preprocess import Preprocess
from sightline.ops.boxes import scale_boxes
from sightline.structures import Classes, ImageBatch, Instances

SMALL_RATE: dict[str, Any] = {"lr": 1e-3}
"""What suits small networks that are normalised throughout: twice the usual learning rate."""

Losses = dict[str, Tensor]
Detections = list[dict[str, Tensor]]
"""An entry an image: boxes [N, 4] in pixels of the batch, labels [N] as outputs of the head, scores [N]; fields that
further heads add."""


class Detector(nn.Module):
    """A model of task "detection": `model(images, targets)` gives losses, `model(images)` gives `Instances`.

    Args:
        classes: names of the K classes.
        preprocess: images → batch.
        slots: for each class, which of the head's outputs is its own; output 0 is the background. By default class i
            has output i + 1. Heads published for COCO have 91 outputs for 80 classes: ten of them belong to no class.
    """

    task = "detection"
    name = ""
    arguments: dict[str, Any]
    class_layers = ""
    """Pattern (`re.search`) of the keys of entries whose shape depends on the classes."""
    target_fields: tuple[str, ...] = ()
    """What it learns from beside boxes and labels: fields of the targets (`dataset.with_fields(*model.target_fields)`).
    """
    suited: dict[str, Any] = {}
    """Numbers of a training recipe that suit it better than the recipe's own defaults."""

    def __init__(self, classes: Iterable[str], preprocess: Preprocess, slots: Sequence[int] | None = None):
        super().__init__()
        self.classes = classes if isinstance(classes, Classes) else Classes(classes)
        if not len(self.classes):
            raise InputError("a detector needs at least one class; give classes=[…] with their names")
        self.preprocess = preprocess
        self.slots = list(slots) if slots is not None else None
        if self.slots is not None and (
            len(self.slots) != len(self.classes) or len(set(self.slots)) < len(self.slots) or min(self.slots) < 1
        ):
            raise InputError(
                f"slots must be {len(self.classes)} different outputs above 0, one a class, not {self.slots}"
            )
        outputs = self.slots or list(range(1, len(self.classes) + 1))
        of_output = [-1] * (max(outputs) + 1)
        for position, output in enumerate(outputs):
            of_output[output] = position
        self.register_buffer("_output_of_class", torch.tensor(outputs), persistent=False)
        self.register_buffer("_class_of_output", torch.tensor(of_output), persistent=False)
        self.backbone_keys: dict[str, str | None] = {}

    _output_of_class: Tensor
    _class_of_output: Tensor

    @overload
    def forward(self, images: Sequence[Tensor], targets: Sequence[Instances]) -> Losses: ...
    @overload
    def forward(self, images: Sequence[Tensor], targets: None = None) -> list[Instances]: ...
    def forward(self, images: Sequence[Tensor], targets: Sequence[Instances] | None = None) -> Losses | list[Instances]:
        """Images [C, Hi, Wi] → `Instances` of each; with targets, the named losses instead."""
        if targets is not None:
            batch, moved = self.prepare(images, targets)
            return self.process(batch, moved)[1]
        results: dict[int, Instances] = {}
        for group in self.preprocess.groups(images):
            batch, _ = self.prepare([images[i] for i in group], None)
            found, _ = self.process(batch, None)
            results.update(zip(group, self.finish(found, batch), strict=True))
        return [results[i] for i in range(len(images))]

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """What a system does with a batch: detections in its pixels, labelled by the head's outputs; or its losses."""
        raise NotImplementedError

    @property
    def in_channels(self) -> int:
        """Channels of the images it takes."""
        return self.preprocess.channels

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None
    ) -> tuple[ImageBatch, list[Instances] | None]:
        """Preprocess; the targets' labels become outputs of the head."""
        for target in targets or ():
            if target.classes is not None and target.classes != self.classes:
                self.classes.require_same(target.classes, "the model", target.source or "the targets")
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
        """Detections in pixels of the batch, labelled by outputs → `Instances` in pixels of the images that came in."""
        results = []
        for fields, (sx, sy), size in zip(found, batch.scales, batch.original_sizes, strict=True):
            labels = self._class_of_output[fields["labels"]]
            boxes = scale_boxes(fields["boxes"], (1 / sx, 1 / sy))
            own: dict[str, Any] = fields | {"boxes": boxes, "labels": labels}
            result = Instances.unchecked(size, classes=self.classes, **own)
            results.append(result if self.slots is None else result[labels >= 0])
        return results


def head_outputs(classes: Sequence[str], slots: Sequence[int] | None) -> int:
    """Outputs of a head besides the background's."""
    return len(classes) if slots is None else max(slots)

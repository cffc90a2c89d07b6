"""What every detector shares: its classes, where they stand in its head, and results in the pixels of the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.preprocess import Preprocess
from sightline.ops.boxes import scale_boxes
from sightline.structures import Classes, ImageBatch, Instances


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

    def __init__(self, classes: Iterable[str], preprocess: Preprocess, slots: Sequence[int] | None = None):
        super().__init__()
        self.classes = classes if isinstance(classes, Classes) else Classes(classes)
        if not len(self.classes):
            raise InputError("a detector needs at least one class; give classes=[…] with their names")
        self.preprocess = preprocess
        self.slots = list(slots) if slots is not None else None
        outputs = self.slots or list(range(1, len(self.classes) + 1))
        of_output = [outputs.index(o) if o in outputs else -1 for o in range(max(outputs) + 1)]
        self.register_buffer("_output_of_class", torch.tensor(outputs), persistent=False)
        self.register_buffer("_class_of_output", torch.tensor(of_output), persistent=False)
        self.backbone_keys: dict[str, str] = {}

    _output_of_class: Tensor
    _class_of_output: Tensor

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
        batch, moved = self.preprocess(images, targets)
        if moved is not None:
            moved = [t.replace(labels=self._output_of_class[t.labels]) for t in moved]
        return batch, moved

    def finish(self, found: Sequence[dict[str, Tensor]], batch: ImageBatch) -> list[Instances]:
        """Detections in pixels of the batch, labelled by outputs → `Instances` in pixels of the images that came in."""
        results = []
        for fields, (sx, sy), size in zip(found, batch.scales, batch.original_sizes, strict=True):
            labels = self._class_of_output[fields["labels"]]
            boxes = scale_boxes(fields["boxes"], (1 / sx, 1 / sy))
            result = Instances.unchecked(
                size, classes=self.classes, boxes=boxes, labels=labels, scores=fields["scores"]
            )
            results.append(result if self.slots is None else result[labels >= 0])
        return results


def head_outputs(classes: Sequence[str], slots: Sequence[int] | None) -> int:
    """Outputs of a head besides the background's."""
    return len(classes) if slots is None else max(slots)

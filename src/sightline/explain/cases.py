"""Correct predictions in labelled images: the cases on which explanation methods are compared.

Each function takes a model, the name of an image, the image [C, H, W] and its label, and yields its cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import box_of_result
from sightline.explain.class_targets import ImageClass, most_likely_class, region_class
from sightline.explain.faithfulness import inside_box
from sightline.explain.instance_targets import mask_target
from sightline.explain.target import Target, prepared
from sightline.ops.boxes import box_iou
from sightline.structures import BACKGROUND

_IOU = 0.5
"""Minimum IoU of a detection and the object that it finds."""


@dataclass(frozen=True)
class Case:
    """Something to explain, with the place of the object.

    Attributes:
        name: the image.
        image: [C, H, W], or a `Clip`.
        target: what is explained.
        inside: [H, W] bool, the labelled object in pixels of the image, or of the film of a clip; None if the labels do
            not say where it is.
    """

    name: str
    image: Tensor
    target: Target
    inside: Tensor | None = None


def class_cases(model: Any, name: str, image: Tensor, label: Any) -> Iterator[Case]:
    """The class of an image, if it is the model's top prediction; boxes of the class say where it is."""
    first = most_likely_class(model, image).class_id
    boxes = getattr(label, "boxes", None)
    if boxes is None:
        if label.label == first:
            yield Case(name, image, ImageClass(first))
        return
    named = [label.classes[int(i)] == model.classes[first] for i in label.labels]
    if any(named):
        yield Case(name, image, ImageClass(first), _union(label, named, image))


def box_cases(model: Any, name: str, image: Tensor, label: Any) -> Iterator[Case]:
    """The best detection of each labelled object that is found."""
    with torch.no_grad():
        batch = prepared(model, image)
        result = model.batch_results(batch)[0]
    if not len(result) or not len(label):
        return
    overlap = box_iou(result.boxes.cpu().float(), label.boxes.float())
    overlap[result.labels.cpu()[:, None] != label.labels[None]] = 0
    order = result.scores.argsort(descending=True).tolist()
    taken: set[int] = set()
    for index in order:
        free = [own for own in range(len(label)) if own not in taken and overlap[index, own] >= _IOU]
        if not free or float(result.scores[index]) < model.metadata.get("threshold", 0.25):
            continue
        own = max(free, key=lambda i: float(overlap[index, i]))
        taken.add(own)
        chosen = [i == own for i in range(len(label))]
        if "masks" in result and "masks" in label:
            yield Case(name, image, mask_target(model, image, [str(index)]), _union(label, chosen, image))
        else:
            target = box_of_result(model, batch, result, index)
            yield Case(name, image, target, _union(label, chosen, image, masks=False))


def map_cases(model: Any, name: str, image: Tensor, label: Any) -> Iterator[Case]:
    """Each labelled class of a class map, except the background, of which the model finds pixels."""
    for class_id in label.labels.unique().tolist():
        if 0 <= class_id < len(model.classes) and model.classes[class_id] != BACKGROUND:
            try:
                target = region_class(model, image, [model.classes[class_id]])
            except InputError:
                continue
            yield Case(name, image, target, label.labels == class_id)


def _union(label: Any, chosen: Sequence[bool], image: Tensor, masks: bool = True) -> Tensor:
    """The pixels of the chosen objects: of their masks, or of their boxes."""
    size = (int(image.shape[-2]), int(image.shape[-1]))
    if masks and "masks" in label:
        return label.masks[torch.tensor(chosen)].bool().any(0).cpu()
    boxes = [box for box, take in zip(label.boxes.tolist(), chosen, strict=True) if take]
    return torch.stack([inside_box(box, size) for box in boxes]).any(0)

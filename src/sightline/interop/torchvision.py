"""Dictionaries as torchvision's detectors take and return them: {"boxes", "labels", "scores", "masks", "keypoints"}.

torchvision itself is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.interop._fields import ClassNames, as_tensor, boxes_of, known_classes, labels_of, masks_of, require_keys
from sightline.interop._fields import require_objects as require
from sightline.runtime.values import require_whole
from sightline.structures import Instances, Size

FIRST_LABEL = 1
"""The label of the first class: torchvision's detectors use 0 for the background."""
_RENAMED = {"iscrowd": "crowd", "area": "areas"}
"""Keys of targets that have another name in `Instances`."""


def to_torchvision(result: Instances, first_label: int = FIRST_LABEL) -> dict[str, Tensor]:
    """Objects as a dictionary of tensors.

    Args:
        result: the objects of one image, predicted or labelled.
        first_label: the label of class 0; torchvision's detectors use 0 for the background, and so count from 1.

    Returns:
        "boxes" [N, 4] float32 and "labels" [N] int64; and if the objects have them, "scores" [N], "masks",
        "keypoints" [N, P, 3], "iscrowd" [N] int64 and "area" [N]. Masks of predictions (with scores) are
        [N, 1, H, W] float32, 0 or 1, as torchvision's models return probabilities; masks of targets [N, H, W] uint8.
    """
    result = require(result, "torchvision's dictionary")
    values = {"boxes": result.boxes.float(), "labels": result.labels + first_label}
    if "scores" in result:
        values["scores"] = result.scores
    if "masks" in result:
        values["masks"] = result.masks[:, None].float() if "scores" in result else result.masks.to(torch.uint8)
    if "keypoints" in result:
        values["keypoints"] = result.keypoints
    for theirs, ours in _RENAMED.items():
        if ours in result:
            field = result.fields[ours]
            values[theirs] = field.to(torch.int64) if field.dtype == torch.bool else field
    return values


def from_torchvision(
    values: Mapping[str, Any],
    image_size: Size,
    classes: ClassNames = None,
    *,
    first_label: int = FIRST_LABEL,
    mask_threshold: float = 0.5,
    source: str | None = None,
) -> Instances:
    """Objects from a dictionary of tensors, arrays or lists; the inverse of `to_torchvision`.

    Args:
        values: "boxes" [N, 4] xyxy in pixels and "labels" [N]; optionally "scores", "masks" [N, H, W] or
            [N, 1, H, W] (bool, numbers, or float probabilities), "keypoints", "iscrowd" and "area". Other keys are
            ignored.
        image_size: (height, width) of the image in pixels.
        classes: names of the classes, without background.
        first_label: the label of class 0: 1 if label 0 is the background, as in torchvision, else 0.
        mask_threshold: pixels with a higher probability belong to the object.
        source: file or item, for messages.

    Raises:
        InputError: a key is missing, a label is below `first_label` or not a class, or a shape is wrong.
    """
    what = source or "the dictionary"
    first_label = require_whole("first_label", first_label, 0, "count", "give 1, or 0 without background")
    values = require_keys(values, ("boxes", "labels"), what)
    labels = labels_of(values["labels"], what)
    if len(labels) and int(labels.min()) < first_label:
        raise InputError(
            f"{what} has the label {int(labels.min())}, but the first class has label {first_label}; remove objects "
            "of the background, or give first_label=0 if labels count from 0"
        )
    fields: dict[str, Any] = {"boxes": boxes_of(values["boxes"], f"{what}:"), "labels": labels - first_label}
    for name in ("scores", "keypoints"):
        if name in values:
            fields[name] = as_tensor(values[name], f"{what}: {name}")
    if "masks" in values:
        fields["masks"] = masks_of(values["masks"], mask_threshold, f"{what}:")
    fields |= {new: as_tensor(values[old], f"{what}: {old}") for old, new in _RENAMED.items() if old in values}
    return Instances(image_size, classes=known_classes(classes), source=source, **fields)

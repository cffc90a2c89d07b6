"""Labels as FiftyOne's `to_dict` and `from_dict` have them: boxes as [x, y, width, height] in fractions of the image.

Objects are {"detections": [{"label", "bounding_box", "confidence", "mask", "index"}, …]}, the class of an image
{"label", "confidence", "logits"}, and a class map {"mask"}. FiftyOne itself is not needed:
`fiftyone.Detections(detections=[fiftyone.Detection(**one) for one in found["detections"]])` creates its labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.interop._fields import (
    ClassNames,
    as_tensor,
    boxes_of,
    class_id,
    class_name,
    known_classes,
    labels_of,
    number_of,
    require_keys,
    require_list,
    require_objects,
)
from sightline.structures import ClassMap, ClassScores, Instances, Size
from sightline.structures.size import as_size


@singledispatch
def to_fiftyone(result: Any) -> dict[str, Any]:
    """A result or label as FiftyOne's dictionary.

    Args:
        result: objects (`Instances`), image classes (`ClassScores`) or a class map (`ClassMap`).

    Returns:
        For objects {"detections": […]}, each with "label" (the class name), "bounding_box" (x, y of the top-left
        corner, width and height, divided by the size of the image), and, if known, "confidence", "mask" (a bool array:
        the pixels of the mask in its box, rounded to whole pixels) and "index" (the number of its track). For image
        classes the best (or labelled) class with "confidence" and "logits" (log probabilities). For a class map
        {"mask": [H, W]}.
    """
    result = require_objects(result, "FiftyOne's dictionary")
    height, width = result.image_size
    relative = result.boxes.double() / torch.tensor([width, height, width, height], dtype=torch.float64)
    found = []
    for i, (x1, y1, x2, y2) in enumerate(relative.tolist()):
        one: dict[str, Any] = {
            "label": class_name(int(result.labels[i]), result.classes),
            "bounding_box": [x1, y1, x2 - x1, y2 - y1],
        }
        if "scores" in result:
            one["confidence"] = float(result.scores[i])
        if "masks" in result:
            rows, columns = _pixels(result.boxes[i], result.image_size)
            one["mask"] = result.masks[i, rows, columns].numpy()
        if "tracks" in result:
            one["index"] = int(result.tracks[i])
        found.append(one)
    return {"detections": found}


@to_fiftyone.register
def _segmentation(result: ClassMap) -> dict[str, Any]:
    return {"mask": result.labels.cpu().numpy()}


@to_fiftyone.register
def _classification(result: ClassScores) -> dict[str, Any]:
    label = result.label if result.label is not None else int(result.scores.argmax())  # type: ignore[union-attr]
    found: dict[str, Any] = {"label": class_name(label, result.classes)}
    if result.scores is not None:
        found["confidence"] = float(result.scores[label])
        found["logits"] = result.scores.cpu().double().clamp(min=1e-12).log().numpy()
    return found


def from_fiftyone(
    values: Mapping[str, Any], image_size: Size, classes: ClassNames, *, source: str | None = None
) -> Instances | ClassScores | ClassMap:
    """A result or label from FiftyOne's dictionary; the inverse of `to_fiftyone`.

    Args:
        values: {"detections": […]}, {"label": …} or {"mask": [H, W]}.
        image_size: (height, width) of the image in pixels.
        classes: names of the classes in the order of their ids.
        source: file or item, for messages.

    Raises:
        InputError: an entry is missing, or a class is unknown.
    """
    what = source or "the dictionary"
    known = known_classes(classes)
    if not isinstance(values, Mapping) or not {"detections", "label", "mask"} & {*values}:
        raise InputError(f"{what} must be a dictionary with detections, label or mask, not {str(values)[:80]}")
    if "detections" in values:
        entries = [
            require_keys(one, ("label", "bounding_box"), f"{what}: detection {i}")
            for i, one in enumerate(require_list(values["detections"], f"{what}: detections"))
        ]
        return _objects(entries, image_size, known, source, what)
    if "mask" in values:
        return ClassMap(as_tensor(values["mask"], f"{what}: mask"), known, source=source)
    logits = values.get("logits")
    scores = None if logits is None else as_tensor(logits, f"{what}: logits").double().softmax(-1).float()
    return ClassScores(image_size, class_id(values["label"], known, what), scores, known, source)


def _objects(entries: list[Mapping[str, Any]], image_size: Size, classes: Any, source: str | None, what: str) -> Any:
    image_size = height, width = as_size(image_size)
    boxes = boxes_of([require_list(one["bounding_box"], f"{what}: bounding_box") for one in entries], f"{what}:")
    boxes = boxes.double() * torch.tensor([width, height, width, height], dtype=torch.float64)
    boxes[:, 2:] += boxes[:, :2]
    fields: dict[str, Any] = {
        "boxes": boxes.float(),
        "labels": torch.tensor([class_id(one["label"], classes, what) for one in entries], dtype=torch.int64),
    }
    if entries and all(one.get("confidence") is not None for one in entries):
        fields["scores"] = torch.tensor([number_of(one["confidence"], f"{what}: confidence") for one in entries])
    if entries and all(one.get("index") is not None for one in entries):
        fields["tracks"] = labels_of([one["index"] for one in entries], f"{what}: index")
    if any(one.get("mask") is not None for one in entries):
        fields["masks"] = torch.stack(
            [_pasted(one.get("mask"), box, image_size, what) for one, box in zip(entries, fields["boxes"], strict=True)]
        )
    return Instances(image_size, classes=classes, source=source, **fields)


def _pixels(box: Tensor, size: Size) -> tuple[slice, slice]:
    """Rows and columns of the pixels of a box, rounded to whole pixels; at least one of each."""
    x1, y1, x2, y2 = box.double().round().long().tolist()
    top, left = min(max(y1, 0), size[0] - 1), min(max(x1, 0), size[1] - 1)
    return slice(top, max(top + 1, min(y2, size[0]))), slice(left, max(left + 1, min(x2, size[1])))


def _pasted(mask: Any, box: Tensor, size: Size, what: str) -> Tensor:
    """A mask of a box in the image; another resolution than that of the box is resized by nearest neighbour."""
    whole = torch.zeros(size, dtype=torch.bool)
    rows, columns = _pixels(box, size)
    if mask is None:  # without one, the object fills its box
        whole[rows, columns] = True
        return whole
    own = as_tensor(mask, f"{what}: mask") != 0
    if own.ndim != 2 or not own.numel():
        raise InputError(f"{what}: a mask has shape {list(own.shape)}, but must be [height, width] of its box")
    height, width = rows.stop - rows.start, columns.stop - columns.start
    nearest_row = (torch.arange(height) * own.shape[0]) // height
    nearest_column = (torch.arange(width) * own.shape[1]) // width
    whole[rows, columns] = own[nearest_row][:, nearest_column]
    return whole

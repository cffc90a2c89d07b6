"""The results of Hugging Face's image processors and pipelines, and rows of their object-detection datasets.

Forms of one image: `post_process_object_detection` gives {"scores", "labels", "boxes"}, with boxes x1, y1, x2, y2 in
pixels; `post_process_instance_segmentation` {"segmentation", "segments_info"}; `post_process_semantic_segmentation` a
map [H, W] of class ids; a pipeline a list of {"score", "label", "box": {"xmin", "ymin", "xmax", "ymax"}}. A row of a
dataset has "image" and "objects" with "bbox" [x, y, width, height] and "category". transformers and datasets are not
needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.interop._fields import (
    ClassNames,
    as_tensor,
    boxes_of,
    class_id,
    known_classes,
    labels_of,
    number_of,
    require_keys,
    require_list,
    require_objects,
)
from sightline.ops.boxes import box_convert
from sightline.ops.masks import masks_to_boxes
from sightline.structures import Classes, ClassMap, Instances, Size
from sightline.structures.size import as_size

NO_SEGMENT = -1
"""The id of pixels that belong to no segment in Hugging Face's instance segmentation."""
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@singledispatch
def to_huggingface(result: Any) -> Any:
    """A result in the form of `post_process_object_detection`, or of `post_process_semantic_segmentation`.

    Args:
        result: objects (`Instances`) or a class map (`ClassMap`).

    Returns:
        For objects {"scores" [N], "labels" [N], "boxes" [N, 4]}, with scores of 1 for labels; labels count from 0,
        without background, as in a model's `id2label`. For a class map the ids [H, W].
    """
    result = require_objects(result, "Hugging Face's dictionary")
    scores = result.scores if "scores" in result else torch.ones(len(result))
    return {"scores": scores, "labels": result.labels, "boxes": result.boxes}


@to_huggingface.register
def _map(result: ClassMap) -> Tensor:
    return result.labels.cpu()


def from_huggingface(
    values: Any, image_size: Size, classes: ClassNames | Mapping[int, str] = None, *, source: str | None = None
) -> Instances | ClassMap:
    """A result of a Hugging Face model; see the module for the forms.

    Args:
        values: the result for one image.
        image_size: (height, width) of the image in pixels; that of a map is its own.
        classes: names of the classes in the order of their ids, or a model's `id2label`, whose ids must be 0 … K−1.
        source: file or item, for messages.

    Returns:
        Objects, with masks for instance segmentation; or a class map.

    Raises:
        InputError: the form is none of these, or a class is unknown.
    """
    what = source or "the result"
    known = known_classes(_in_order(classes) if isinstance(classes, Mapping) else classes)
    if isinstance(values, Mapping) and "segmentation" in values:
        return _of_segments(values, known, source, what)
    if isinstance(values, Mapping):
        values = require_keys(values, ("boxes", "labels"), what)
        fields = {"boxes": boxes_of(values["boxes"], f"{what}:"), "labels": labels_of(values["labels"], what)}
        if "scores" in values:
            fields["scores"] = as_tensor(values["scores"], what)
        return Instances(image_size, classes=known, source=source, **fields)
    if isinstance(values, list | tuple) and all(isinstance(one, Mapping) for one in values):
        return _of_pipeline(values, image_size, known, source, what)
    if getattr(values, "ndim", None) == 2:
        return ClassMap(as_tensor(values, what), known, source=source)
    raise InputError(
        f"{what} is a {type(values).__name__}, but must be a dictionary with boxes and labels, one with segmentation "
        "and segments_info, a pipeline's list of dictionaries, or a map [H, W] of class ids"
    )


def _in_order(names: Mapping[int, str]) -> list[str]:
    """The names of `id2label`, whose keys may be texts, as in a config.json."""
    ids = labels_of([number_of(key, "a key of id2label") for key in names], "id2label").tolist()
    by_id = dict(zip(ids, names.values(), strict=True))
    if sorted(by_id) != list(range(len(by_id))):
        raise InputError(
            f"id2label has the ids {', '.join(map(str, sorted(by_id)[:8]))}, but they must be 0 to {len(by_id) - 1} "
            "without gaps; give the names as a list, with names for unused ids"
        )
    return [by_id[i] for i in range(len(by_id))]


def _of_segments(values: Mapping[str, Any], classes: Classes | None, source: str | None, what: str) -> Instances:
    values = require_keys(values, ("segmentation", "segments_info"), what)
    segments = as_tensor(values["segmentation"], f"{what}: segmentation")
    if segments.ndim != 2:
        raise InputError(f"{what}: segmentation has shape {list(segments.shape)}, but must be [H, W] of segment ids")
    found = [
        require_keys(one, ("id", "label_id"), f"{what}: a segment")
        for one in require_list(values["segments_info"], f"{what}: segments_info")
    ]
    ids = labels_of([one["id"] for one in found], f"{what}: ids of segments").to(segments.dtype)
    masks = segments[None] == ids[:, None, None]
    fields: dict[str, Any] = {
        "boxes": masks_to_boxes(masks),
        "labels": labels_of([one["label_id"] for one in found], what),
        "masks": masks,
    }
    if all("score" in one for one in found):
        fields["scores"] = torch.tensor([number_of(one["score"], f"{what}: the score of a segment") for one in found])
    return Instances((int(segments.shape[0]), int(segments.shape[1])), classes=classes, source=source, **fields)


def _of_pipeline(
    found: Sequence[Mapping[str, Any]], image_size: Size, classes: Classes | None, source: str | None, what: str
) -> Instances:
    boxes, labels, scores = [], [], []
    for i, one in enumerate(found):
        name = f"{what}: object {i}"
        one = require_keys(one, ("label", "box"), name)
        box = require_keys(one["box"], _CORNERS, f"{name}: box")
        boxes.append([number_of(box[corner], f"{name}: {corner}") for corner in _CORNERS])
        labels.append(class_id(one["label"], classes, name))
        scores.append(number_of(one.get("score", 1.0), f"{name}: score"))
    fields = {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}
    return Instances(image_size, classes=classes, source=source, **fields)


def to_huggingface_row(image: Any, target: Instances, image_id: int = 0) -> dict[str, Any]:
    """An image and its labels as a row of an object-detection dataset.

    Returns:
        "image" (as given), "image_id", "width", "height", and "objects": "id", "area", "bbox" [x, y, width, height] in
        pixels, and "category" (class ids from 0), one value per object.
    """
    target = require_objects(target, "a row of a Hugging Face dataset")
    sides = box_convert(target.boxes.double(), "xyxy", "xywh")
    areas = target.areas.double() if "areas" in target else sides[:, 2] * sides[:, 3]
    height, width = target.image_size
    objects = {"id": list(range(len(target))), "area": areas.tolist(), "bbox": sides.tolist()}
    objects["category"] = target.labels.tolist()
    return {"image": image, "image_id": image_id, "width": width, "height": height, "objects": objects}


def from_huggingface_row(
    row: Mapping[str, Any], classes: ClassNames = None, *, source: str | None = None
) -> tuple[Any, Instances]:
    """The image and the objects of a row; the inverse of `to_huggingface_row`.

    Args:
        row: "image" (a Pillow image, an array [H, W, C] or a tensor [C, H, W]) and "objects" with "bbox" and "category"
            (class ids, or names).
        classes: names of the classes in the order of their ids.
        source: file or item, for messages.

    Raises:
        InputError: an entry is missing, or a class is unknown.
    """
    what = source or f"row {row.get('image_id', '')}".rstrip() if isinstance(row, Mapping) else "the row"
    row = require_keys(row, ("image", "objects"), what)
    objects = require_keys(row["objects"], ("bbox", "category"), f"{what}: objects")
    known = known_classes(classes)
    image = row["image"]
    boxes = box_convert(boxes_of(objects["bbox"], f"{what}:").float(), "xywh", "xyxy")
    names = require_list(objects["category"], f"{what}: category")
    labels = torch.tensor([class_id(name, known, what) for name in names], dtype=torch.int64)
    fields: dict[str, Any] = {"boxes": boxes, "labels": labels}
    if "area" in objects:
        fields["areas"] = as_tensor(objects["area"], f"{what}: area").float()
    return image, Instances(_size_of(image, row, what), classes=known, source=source, **fields)


def _size_of(image: Any, row: Mapping[str, Any], what: str) -> Size:
    """(height, width) of an image, from the row if it says so."""
    if "height" in row and "width" in row:
        return as_size([number_of(row[name], f"{what}: {name}") for name in ("height", "width")])
    if isinstance(image, Tensor) and image.ndim > 1:
        return int(image.shape[-2]), int(image.shape[-1])
    if isinstance(image, np.ndarray) and image.ndim > 1:
        return int(image.shape[0]), int(image.shape[1])
    if hasattr(image, "height"):
        return int(image.height), int(image.width)
    raise InputError(f"{what}: the size of its image is not known; add height and width")

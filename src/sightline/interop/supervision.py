"""`supervision.Detections`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.interop._fields import (
    ClassNames,
    as_tensor,
    boxes_of,
    class_id,
    class_name,
    known_classes,
    labels_of,
    require_list,
    require_objects,
)
from sightline.runtime.optional import require
from sightline.structures import Classes, Instances, Size

_NAMES = "class_name"
"""The entry of `Detections.data` with the class names, which supervision's annotators write."""


def to_supervision(result: Instances) -> Any:
    """Objects as `supervision.Detections`.

    Boxes, class ids, scores, masks and track numbers become `xyxy`, `class_id`, `confidence`, `mask` and
    `tracker_id`; the class names become `data["class_name"]`.

    Raises:
        InputError: supervision is not installed, or the result has no boxes or labels.
    """
    require("supervision", "supervision", None, "sightline.interop.to_supervision")
    import supervision

    result = require_objects(result, "supervision.Detections")
    names = [class_name(label, result.classes) for label in result.labels.tolist()]
    return supervision.Detections(
        xyxy=result.boxes.float().numpy(),
        class_id=result.labels.numpy().astype(int),
        confidence=result.scores.float().numpy() if "scores" in result else None,
        mask=result.masks.numpy() if "masks" in result else None,
        tracker_id=result.tracks.numpy().astype(int) if "tracks" in result else None,
        data={_NAMES: np.array(names, dtype=str)},
    )


def from_supervision(
    detections: Any, image_size: Size, classes: ClassNames = None, *, source: str | None = None
) -> Instances:
    """Objects from `supervision.Detections` (or any object with these attributes); the inverse of `to_supervision`.

    Args:
        detections: the detections. Without `class_id`, the classes are found by `data["class_name"]`.
        image_size: (height, width) of the image in pixels.
        classes: names of the classes in the order of their ids; those in `data["class_name"]` must agree with them.
        source: file or item, for messages.

    Raises:
        InputError: an attribute is missing, a class is unknown, or the classes given have other names than the
            detections.
    """
    what = source or "the detections"
    if not hasattr(detections, "xyxy"):
        raise InputError(f"{what}: a {type(detections).__name__} is no supervision.Detections; it has no xyxy")
    known = known_classes(classes)
    boxes = boxes_of(detections.xyxy, f"{what}:")
    data = getattr(detections, "data", None)
    names = data.get(_NAMES) if isinstance(data, Mapping) else None
    names = None if names is None else [str(name) for name in require_list(names, f"{what}: data['{_NAMES}']")]
    ids = getattr(detections, "class_id", None)
    if ids is None and names is None and len(boxes):
        raise InputError(f"{what} have neither class_id nor data['{_NAMES}']; add one of them")
    if ids is None:
        ids = [class_id(name, known, what) for name in names or []]
    labels = labels_of(ids, what)
    if known is not None and names is not None:
        _require_same_names(labels.tolist(), names, known, what)
    fields: dict[str, Any] = {"boxes": boxes, "labels": labels}
    for theirs, ours in (("confidence", "scores"), ("mask", "masks"), ("tracker_id", "tracks")):
        value = getattr(detections, theirs, None)
        if value is not None:
            fields[ours] = as_tensor(value, f"{what}: {theirs}")
    return Instances(image_size, classes=known, source=source, **fields)


def _require_same_names(ids: list[int], names: list[str], classes: Classes, what: str) -> None:
    """Check that the names of objects are those of their class ids."""
    for i, (label, name) in enumerate(zip(ids, names, strict=False)):
        unnamed = name == str(label)  # as `to_supervision` writes classes whose names are unknown
        if 0 <= label < len(classes) and name != classes[label] and not unnamed:
            raise InputError(
                f"{what}: object {i} has class id {label} and the name {name!r}, but class {label} of the classes "
                f"given is {classes[label]!r}; give the names of all classes in the order of their ids"
            )

"""Parts of the conversions: reading arrays, class names and entries with one sentence for what does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.runtime.values import require_number
from sightline.structures import Classes, Instances

ClassNames = Classes | Sequence[str] | None
"""Names of the classes in the order of their ids, or None if they are unknown."""


def known_classes(classes: ClassNames) -> Classes | None:
    """The names as `Classes`."""
    return classes if classes is None or isinstance(classes, Classes) else Classes(classes)


@singledispatch
def require_objects(result: Any, form: str) -> Instances:
    """Check that a result has objects with boxes and labels, which `form` describes.

    Raises:
        InputError: it has not.
    """
    raise InputError(
        f"{form} describes the objects of one image (Instances), not a {type(result).__name__}"
        + ("; convert the results one by one" if isinstance(result, list | tuple) else "")
    )


@require_objects.register
def _with_boxes(result: Instances, form: str) -> Instances:
    missing = [name for name in ("boxes", "labels") if name not in result]
    if missing:
        raise InputError(f"{form} needs boxes and labels, but these objects have no {' and no '.join(missing)}")
    return result.to("cpu")


def require_keys(values: Any, keys: Sequence[str], what: str) -> Mapping[str, Any]:
    """Check that a value is a mapping with these keys.

    Raises:
        InputError: it is not, or a key is missing.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{what} is a {type(values).__name__}, but must be a dictionary with {', '.join(keys)}")
    missing = [key for key in keys if key not in values]
    if missing:
        raise InputError(f"{what} has no {' and no '.join(map(repr, missing))}; it has {', '.join(map(str, values))}")
    return values


def as_tensor(value: Any, what: str) -> Tensor:
    """A tensor on the CPU from a tensor, an array or nested lists of numbers.

    Raises:
        InputError: it is none of these.
    """
    try:
        if isinstance(value, list | tuple) and any(isinstance(one, np.ndarray) for one in value):
            value = np.asarray(value)  # PyTorch takes a list of arrays, too, but warns that it is slow
        return torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{what} must be numbers of one shape per object, not {str(value)[:60]}") from None


def require_list(value: Any, what: str) -> list[Any]:
    """The items of a list, tuple, array or tensor.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, np.ndarray | Tensor) and value.ndim:
        return list(value.tolist())
    raise InputError(f"{what} must be a list, not {str(value)[:60]}")


def boxes_of(value: Any, what: str) -> Tensor:
    """[N, 4] float boxes.

    Raises:
        InputError: it has another shape.
    """
    boxes = as_tensor(value, f"{what} boxes")
    boxes = boxes.reshape(-1, 4) if boxes.numel() == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"{what} boxes have shape {list(boxes.shape)}, but must be [objects, 4]")
    return boxes if boxes.is_floating_point() else boxes.float()


def masks_of(value: Any, threshold: float, what: str) -> Tensor:
    """[N, H, W] bool, from bool or numbers [N, H, W] or [N, 1, H, W]; floats are compared with the threshold."""
    masks = as_tensor(value, f"{what} masks")
    masks = masks[:, 0] if masks.ndim == 4 and masks.shape[1] == 1 else masks
    if not masks.is_floating_point():
        return masks != 0
    return masks > require_number("mask_threshold", threshold, -math.inf, math.inf, "give 0.5 if in doubt")


def class_id(name: Any, classes: Classes | None, what: str) -> int:
    """The id of a class given by its name, or by its id.

    Raises:
        InputError: the name is unknown, or no names were given.
    """
    if isinstance(name, str):
        if classes is None:
            raise InputError(f"{what} has the class {name!r}, whose id is not known; give classes=[…], all names")
        return classes.id(name)
    labels = labels_of([name], what)
    if len(labels) != 1:
        raise InputError(f"{what}: the class of an object must be a name or a number, not {str(name)[:60]}")
    return int(labels[0])


def labels_of(value: Any, what: str) -> Tensor:
    """[N] int64 labels from whole numbers of any type.

    Raises:
        InputError: one is not a whole number.
    """
    labels = as_tensor(value, f"{what}: labels").reshape(-1)
    whole = labels.to(torch.int64)
    if labels.is_complex() or not bool((whole == labels).all()):
        raise InputError(f"{what}: labels must be whole numbers, not {str(labels.tolist())[:60]}")
    return whole


def number_of(value: Any, what: str) -> float:
    """A number.

    Raises:
        InputError: it is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{what} must be a number, not {str(value)[:60]}")
    return number


def class_name(label: int, classes: Classes | None) -> str:
    """The name of a class; its id as text if the names are unknown."""
    return str(label) if classes is None else classes[label]

"""Which predicted objects are kept: the minimum score, and the classes chosen by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.model import Model
from sightline.runtime.values import require_number

DEFAULT_THRESHOLD = 0.5
"""The minimum score of objects if the model has no saved threshold."""
SAVED_THRESHOLD = "that of the highest F1 on its validation images"
"""The score threshold that training saves with a model."""


def score_threshold(model: Model, threshold: Any = None) -> float:
    """The minimum score of objects: the given one, else the model's own, else 0.5.

    Raises:
        InputError: it is not a number from 0 to 1.
    """
    if threshold is not None:
        return require_number("threshold", threshold, 0, 1, "give 0.5 if in doubt", "a score")
    stored = model.metadata.get("threshold")
    if stored is None:
        return DEFAULT_THRESHOLD
    return require_number(
        "the threshold saved with the model", stored, 0, 1, "give a threshold, such as 0.5", "a score"
    )


def threshold_origin(model: Model) -> str:
    """Where the threshold comes from that `score_threshold` returns if none is given, in words."""
    if model.metadata.get("threshold") is None:
        return f"the default is {DEFAULT_THRESHOLD}, because no threshold is saved with the model"
    return f"the default is the threshold saved with the model, {SAVED_THRESHOLD}"


def class_ids(model: Model, names: Sequence[str]) -> Tensor:
    """[n] int64: the ids of classes given by name.

    Raises:
        InputError: a name is not a class of the model, or the model does not name its classes.
    """
    if not model.classes:
        raise InputError("the model does not name its classes, so none can be selected; leave classes out")
    if not isinstance(names, Iterable):
        raise InputError(f"classes is {names!r}, but it must be a list of class names, such as ['cat', 'dog']")
    chosen = [names] if isinstance(names, str) else list(names)
    return torch.tensor([model.classes.id(str(name)) for name in chosen], dtype=torch.int64)

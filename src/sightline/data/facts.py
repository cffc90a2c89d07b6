"""Properties of the training data that are saved with a model: full scale, and keypoint names and pairs."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from sightline.data.transforms.base import Transform
from sightline.data.transforms.mirroring import swap_for
from sightline.data.transforms.targets import mirrors_wrongly
from sightline.errors import InputError
from sightline.structures.fields import field_of

log = logging.getLogger("sightline")
FULL_SCALE, KEYPOINT_NAMES, KEYPOINT_SWAP = "full_scale", "keypoint_names", "keypoint_swap"
FACTS = (FULL_SCALE, KEYPOINT_NAMES, KEYPOINT_SWAP)
"""Keys of a saved model's metadata."""


class HasMetadata(Protocol):
    """An object with metadata, such as a model."""

    metadata: dict[str, Any]


def data_facts(data: Any) -> dict[str, Any]:
    """The properties of a dataset that are saved with a model, as JSON values. Unknown properties are left out.

    full_scale is the sample value by which images with more than 8 bits were divided; see
    `sightline.data.full_scale`. keypoint_names and keypoint_swap are those of the dataset.
    """
    facts: dict[str, Any] = {}
    if (scale := getattr(data, "full_scale", None)) is not None:
        facts[FULL_SCALE] = int(scale)
    fields = getattr(data, "fields", None)
    if fields is None or any(field_of(name).pairs for name in fields):
        if names := getattr(data, "keypoint_names", ()):
            facts[KEYPOINT_NAMES] = [str(name) for name in names]
        if (swap := getattr(data, "keypoint_swap", None)) is not None:
            facts[KEYPOINT_SWAP] = [int(other) for other in swap]
    return facts


def remember(model: HasMetadata, data: Any) -> None:
    """Store `data_facts` in the model's metadata, replacing those of earlier training data."""
    kept = {name: value for name, value in model.metadata.items() if name not in FACTS}
    model.metadata = {**kept, **data_facts(data)}


def full_scale_of(model: HasMetadata) -> int | None:
    """The full scale by which a model's training images were divided; None for 8-bit or floating-point images.

    Raises:
        InputError: the model's file holds an invalid value.
    """
    scale = model.metadata.get(FULL_SCALE)
    if scale is not None and not (type(scale) is int and 1 <= scale <= 65535):
        raise InputError(
            f"the full scale saved with the model is {scale!r}, but must be an integer from 1 to 65535; set "
            "full_scale, or use another file"
        )
    return scale


def with_training_full_scale(model: HasMetadata, data: Any) -> Any:
    """The data, with samples of more than 8 bits divided by the full scale of the model's training images.

    A full scale that was set for the data (`with_full_scale`) is kept.
    """
    scale = full_scale_of(model)
    own = getattr(getattr(data, "source", None), "full_scale", None)
    return data.with_full_scale(scale) if scale is not None and own is not None and own.stated is None else data


def log_unmirrored(data: Any, transform: Transform | None) -> None:
    """Log, once per training, that images are not mirrored because the keypoint pairs are unknown."""
    if transform is None or not transform.mirrors or not len(data):
        return
    target = data.target(0) if hasattr(data, "target") else data[0][1]
    if mirrors_wrongly(target, swap_for(transform.keypoint_swap, data)):
        log.warning(
            "images are not mirrored: the data does not define which keypoints are left and right; name them "
            "left_… and right_…, set flip_idx in data.yaml (YOLO), or use an augmentation with keypoint_swap"
        )

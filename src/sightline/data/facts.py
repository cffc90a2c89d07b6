"""What a model must know of the data it learnt from to see other images alike: full scale, and pairs of keypoints."""

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
"""Entries of a saved model's metadata."""


class Remembering(Protocol):
    """What keeps facts with its weights: a model."""

    metadata: dict[str, Any]


def data_facts(data: Any) -> dict[str, Any]:
    """What is saved with a model of its data: of JSON values, those that are known.

    full_scale: the sample value that was divided by, where images have more than 8 bits; see
    `sightline.data.full_scale`. keypoint_names and keypoint_swap: as of the data set.
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


def remember(model: Remembering, data: Any) -> None:
    """Put `data_facts` into the model's metadata, in the place of those of data it learnt from before."""
    kept = {name: value for name, value in model.metadata.items() if name not in FACTS}
    model.metadata = {**kept, **data_facts(data)}


def full_scale_of(model: Remembering) -> int | None:
    """The full scale that a model's training images were divided by; None where they had 8 bits or floats.

    Raises:
        InputError: the model's file holds another value there.
    """
    scale = model.metadata.get(FULL_SCALE)
    if scale is not None and not (type(scale) is int and 1 <= scale <= 65535):
        raise InputError(
            f"the full scale saved with the model is {scale!r}, but it must be a whole number from 1 to 65535; give "
            "full_scale, or take another file"
        )
    return scale


def scaled_as_learnt(model: Remembering, data: Any) -> Any:
    """The data, its samples of more than 8 bits divided by what the model's training images were divided by.

    A full scale that was stated for the data (`with_full_scale`) stays.
    """
    scale = full_scale_of(model)
    own = getattr(getattr(data, "source", None), "full_scale", None)
    return data.with_full_scale(scale) if scale is not None and own is not None and own.stated is None else data


def say_what_is_not_mirrored(data: Any, transform: Transform | None) -> None:
    """Log, once a training, that its images are not mirrored for want of the pairs of their keypoints."""
    if transform is None or not transform.mirrors or not len(data):
        return
    target = data.target(0) if hasattr(data, "target") else data[0][1]
    if mirrors_wrongly(target, swap_for(transform.keypoint_swap, data)):
        log.warning(
            "images are not mirrored: the data does not say which keypoints are left and which are right; name them "
            "(left_…, right_…), give flip_idx in data.yaml (YOLO), or an augmentation with keypoint_swap"
        )

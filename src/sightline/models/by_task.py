"""Defaults that all models of a task share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Shared:
    """Defaults of all catalog entries of a task.

    Attributes:
        published_data: dataset of their published weights, one of `sightline.models.published.DATA`.
        old_names: current names of arguments by former names.
        before_antialiasing: arguments for files that were saved before antialiasing was an option.
    """

    published_data: str = "coco"
    old_names: Mapping[str, str] = field(default_factory=dict)
    before_antialiasing: Mapping[str, Any] = field(default_factory=dict)


_SHARED = {
    "classification": Shared(
        published_data="imagenet",
        old_names={"crop": "image_size"},
        before_antialiasing={"interpolation": "bilinear", "antialias": False},
    ),
    "segmentation": Shared(
        published_data="voc", old_names={"min_size": "image_size"}, before_antialiasing={"max_size": 1333}
    ),
}


def shared(task: str) -> Shared:
    """The defaults of a task; those of `Shared` if the task has none of its own."""
    return _SHARED.get(task, Shared())

"""What the models of a task share without each saying it; a task that is not listed has nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Shared:
    """What holds for all catalog entries of a task.

    Attributes:
        published_data: the data of their published weights, as in `sightline.models.published.DATA`.
        old_names: new names of arguments by the names they once had.
        before_antialiasing: arguments that files need which were saved before images could be antialiased.
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
    """What the models of a task share."""
    return _SHARED.get(task, Shared())

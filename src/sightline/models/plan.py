"""The types of a plan: how a training chooses its own settings by its data and its budget.

A catalog entry may name a function that plans its trainings (`Entry.plan`). The function only decides; opening the
data, measuring the speed and applying the choices is the work of `sightline.verbs.planning`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sightline.structures import Size


@dataclass(frozen=True)
class Choice:
    """One setting that a training chose for itself.

    Attributes:
        name: an argument of the model's builder, such as "image_size", or a setting of `Recipe`, such as "batch_size".
        value: the chosen value.
        reason: why, in one clause that names the numbers it follows from.
    """

    name: str
    value: Any
    reason: str

    def __str__(self) -> str:
        shown = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        return f"{self.name} {shown}: {self.reason}"


@dataclass(frozen=True)
class Facts:
    """What a plan needs to know about the training images.

    Attributes:
        images: number of training images.
        validation: number of validation images.
        image_size: median (height, width) of the images in pixels.
        classes: names of the classes.
        objects: float [N, 2], width and height of every object as a fraction of the longer side of its image; None for
            labels without boxes.
        objects_per_image: mean number of objects in an image.
        mirrors: whether a mirrored image still has the same labels.
    """

    images: int
    validation: int
    image_size: Size
    classes: tuple[str, ...] = ()
    objects: np.ndarray | None = None
    objects_per_image: float = 0.0
    mirrors: bool = True


Speed = Callable[[Mapping[str, Any]], float]
"""Arguments of the builder → measured seconds per training image."""


@dataclass(frozen=True)
class Budget:
    """What the user fixed.

    Attributes:
        minutes: time of the whole run, or None.
        epochs: number of epochs, or None.
        pretrained: whether the training starts from pretrained weights.
        takes_backbone: whether the model has the backbone of a classification network, so that its `norm` and
            `trainable_layers` have an effect.
        given: arguments and settings that the user named, and the arguments of a model that exists already; a plan
            takes them as they are.
        speed: measures the time of a step; None if it must not be measured, because nothing depends on it.
    """

    minutes: float | None = None
    epochs: int | None = None
    pretrained: bool = False
    takes_backbone: bool = True
    given: Mapping[str, Any] = field(default_factory=dict)
    speed: Speed | None = None


Planner = Callable[[Facts, Budget], list[Choice]]
"""A function that plans the trainings of a model."""

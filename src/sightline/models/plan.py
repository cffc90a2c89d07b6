"""The types of a plan: how a training run chooses its settings from the dataset and the time budget.

A catalog entry may name a function that plans its training runs (`Entry.plan`). The function only decides; opening the
data, measuring the speed and applying the choices are done by `sightline.verbs.planning`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sightline.structures import Size


@dataclass(frozen=True)
class Choice:
    """One setting that a training run chose.

    Attributes:
        name: an argument of the model's builder, such as "image_size", or a setting of `Recipe`, such as "batch_size".
        value: the chosen value.
        reason: one clause that explains the choice with its numbers.
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
"""Arguments of the builder, and optionally the recipe's `precision` → measured seconds per training image."""


@dataclass(frozen=True)
class Budget:
    """What the user has fixed.

    Attributes:
        minutes: time of the whole run, or None.
        epochs: number of epochs, or None.
        pretrained: whether the training starts from pretrained weights.
        takes_backbone: whether the backbone is a classification network, so that `norm` and `trainable_layers` have an
            effect.
        given: arguments and settings given by the user, and the arguments of an existing model; a plan does not change
            them.
        speed: measures the time of a step; None if it must not be measured, because nothing depends on it.
        bf16: whether the device is a processor that computes in bf16, so that measuring a step in it is worthwhile.
    """

    minutes: float | None = None
    epochs: int | None = None
    pretrained: bool = False
    takes_backbone: bool = True
    given: Mapping[str, Any] = field(default_factory=dict)
    speed: Speed | None = None
    bf16: bool = False


Planner = Callable[[Facts, Budget], list[Choice]]
"""A function that plans the training runs of a model."""

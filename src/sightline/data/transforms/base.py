"""What an augmentation is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Size

Augmentation = Callable[[Tensor, Any, np.random.Generator], tuple[Tensor, Any]]
"""Changes an image [C, H, W] and its target together: `(image, target, generator) -> (image, target)`.

All randomness comes from the generator, so that the same seed gives the same result. A function will do; a `Transform`
can say more of itself.
"""


class Transform(ABC):
    """An augmentation, and what training must know of it.

    Attributes:
        closing: share of a training, its last, for which training takes `closed()` instead.
        keypoint_swap: for each keypoint the index of its mirror image; None where it is not known.
        mirrors: it may mirror images.
        combines: it makes one image of several of the data.
    """

    closing: float = 0.0
    keypoint_swap: tuple[int, ...] | None = None

    @property
    def mirrors(self) -> bool:
        return False

    @property
    def combines(self) -> bool:
        return False

    @abstractmethod
    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        """Augment one image and its target.

        Args:
            image: [C, H, W] uint8, or float in [0, 1], on the CPU.
            target: what is known of the same image.
            generator: the only source of randomness.
        """

    def bind(self, data: Any, size: Size | None) -> Transform:
        """The same with what it needs of the data; as it is by default.

        Args:
            data: gives (image, target) by position, and may have `keypoint_swap`.
            size: (height, width) that the model sees images at, where it is known.
        """
        return self

    def closed(self) -> Transform:
        """What training takes in its last part, in which the network sees images as they are; itself by default."""
        return self


class Function(Transform):
    """A function `(image, target, generator) -> (image, target)` as a transform."""

    def __init__(self, function: Augmentation):
        if not callable(function):
            raise InputError(f"an augmentation must be callable as (image, target, generator), but {function!r} is not")
        self.function = function

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        return self.function(image, target, generator)

    def __repr__(self) -> str:
        return repr(self.function)


def as_transform(augmentation: Augmentation) -> Transform:
    """A transform as it is; a function as a transform.

    Raises:
        InputError: it cannot be called.
    """
    return augmentation if isinstance(augmentation, Transform) else Function(augmentation)

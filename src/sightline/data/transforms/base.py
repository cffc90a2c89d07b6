"""The interface of augmentations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import Size

Augmentation = Callable[[Tensor, Any, np.random.Generator], tuple[Tensor, Any]]
"""Transforms an image [C, H, W] and its target together: `(image, target, generator) -> (image, target)`.

All randomness comes from the generator, so the same seed gives the same result. A plain function can be used; a
`Transform` has additional properties.
"""


class Transform(ABC):
    """Base class of augmentations, with the properties that training uses.

    Attributes:
        closing: fraction of training, at its end, in which `closed()` is used instead.
        keypoint_swap: for each keypoint the index of its mirror image; None if unknown.
        mirrors: True if it may mirror images.
        combines: True if it combines several images into one.
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
            target: the target of the image.
            generator: the only source of randomness.
        """

    def bind(self, data: Any, size: Size | None) -> Transform:
        """Return this augmentation with everything it needs from the data; by default itself.

        Args:
            data: returns (image, target) by index, and may have `keypoint_swap`.
            size: (height, width) at which the model sees images, if known.
        """
        return self

    def closed(self) -> Transform:
        """The augmentation for the last part of training, in which images are not combined; by default itself."""
        return self


class FunctionTransform(Transform):
    """Wraps a function `(image, target, generator) -> (image, target)` as a transform."""

    def __init__(self, function: Augmentation):
        if not callable(function):
            raise InputError(f"an augmentation must be callable as (image, target, generator), but {function!r} is not")
        self.function = function

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        return self.function(image, target, generator)

    def __repr__(self) -> str:
        return repr(self.function)


def as_transform(augmentation: Augmentation) -> Transform:
    """Return a transform unchanged, and wrap a function as a transform.

    Raises:
        InputError: it is not callable.
    """
    return augmentation if isinstance(augmentation, Transform) else FunctionTransform(augmentation)

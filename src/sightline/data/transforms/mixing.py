"""Augmentations that mix two images and their labels: blended (mix-up), or with a box of the other one (cut-mix).

As those of `mosaic`, they draw the other image from the data that they are bound to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.base import Augmentation, Transform, as_transform
from sightline.data.transforms.compose import Compose
from sightline.data.transforms.mosaic import Samples, as_instances, joined, other
from sightline.data.transforms.objects import objects_within
from sightline.data.transforms.resample import warp_image
from sightline.data.transforms.tone import to_dtype
from sightline.errors import InputError
from sightline.ops.geometry import place_instances
from sightline.structures import ClassScores, Instances, Size


@dataclass(frozen=True)
class _WithAnother(Transform):
    """Base class of augmentations that mix an image with another one, each augmented by an inner augmentation first."""

    augmentation: Augmentation | None = None
    p: float = 1.0
    data: Samples | None = field(default=None, kw_only=True)
    size: Size | None = field(default=None, kw_only=True)

    def bind(self, data: Samples, size: Size | None) -> Self:
        """Return this augmentation with other images from `data`."""
        inner = None if self.augmentation is None else as_transform(self.augmentation).bind(data, size)
        return replace(self, augmentation=inner, data=data, size=size or self.size)

    @property
    def mirrors(self) -> bool:
        return self.augmentation is not None and as_transform(self.augmentation).mirrors

    @property
    def combines(self) -> bool:
        return True

    def closed(self) -> Transform:
        """`closed()` of the inner augmentation."""
        return Compose([]) if self.augmentation is None else as_transform(self.augmentation).closed()


@dataclass(frozen=True)
class MixUp(_WithAnother):
    """With probability `p`, blend another sample with this one; the labels of both are kept.

    Of images with one class each, the result has both classes, with their weights as probabilities.

    Args:
        augmentation: applied to both samples first, such as a `Mosaic`; None for nothing.
        p: probability.
        beta: parameter of the Beta distribution of the blending weight; for larger values the weight is closer to 0.5.
        class_beta: the same for images with one class each (0.1 to 0.4 on ImageNet, section 3.1).
        data, size: set by `bind`.

    Source: Zhang et al., "mixup", 2018, section 2; for detection Zhang et al., "Bag of freebies", 2019, section 3.1:
    the objects of both have full weight. The smaller image is at the top left of the larger one; of images with one
    class each, the other one is resized to the size of this one.
    """

    p: float = 0.1
    beta: float = 8.0
    class_beta: float = 0.2

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        """An image [C, H, W] and its `Instances` or `ClassScores` → augmented, and possibly blended with another."""
        image, own, second = augmented_pair(self.augmentation, self.data, image, mixable(target), generator, self.p)
        if second is None:
            return image, own
        over, theirs = second
        return blended(own, theirs, image, over, self, generator)


@dataclass(frozen=True)
class CutMix(_WithAnother):
    """With probability `p`, paste a box of another image into this one; the classes of both are kept as probabilities.

    The probability of a class is the share of the area that its image has.

    Args:
        augmentation: applied to both samples first; None for nothing.
        p: probability.
        beta: parameter of the Beta distribution of the share that remains of this image; 1 is uniform.
        data, size: set by `bind`.

    Source: Yun et al., "CutMix", 2019, section 3.1: the box has the aspect ratio of the image and a uniform centre, and
    is clipped to the image. The other image is resized to the size of this one.
    """

    beta: float = 1.0

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        """An image [C, H, W] and its `ClassScores` → augmented, and possibly with a box of another image.

        Raises:
            InputError: the target is not the class of a whole image.
        """
        target = class_of_image(target)
        image, own, second = augmented_pair(self.augmentation, self.data, image, target, generator, self.p)
        if second is None:
            return image, own
        over = resized_to(second[0], image)
        height, width = int(image.shape[1]), int(image.shape[2])
        side = math.sqrt(1 - generator.beta(self.beta, self.beta))
        x1, x2 = _interval(width, side, generator)
        y1, y2 = _interval(height, side, generator)
        pasted = image.clone()
        pasted[:, y1:y2, x1:x2] = over[:, y1:y2, x1:x2]
        return pasted, mixed(own, second[1], 1 - (x2 - x1) * (y2 - y1) / (width * height))


@dataclass(frozen=True)
class OneOf(Transform):
    """Apply one of several augmentations, drawn uniformly for each image."""

    augmentations: tuple[Transform, ...]

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        return self.augmentations[int(generator.integers(len(self.augmentations)))](image, target, generator)

    def bind(self, data: Any, size: Size | None) -> OneOf:
        """Return this augmentation with all of its augmentations bound to the data."""
        return OneOf(tuple(own.bind(data, size) for own in self.augmentations))

    def closed(self) -> OneOf:
        """The same with `closed()` of its augmentations."""
        return OneOf(tuple(own.closed() for own in self.augmentations))

    @property
    def mirrors(self) -> bool:
        return any(own.mirrors for own in self.augmentations)

    @property
    def combines(self) -> bool:
        return any(own.combines for own in self.augmentations)


def augmented_pair(
    augmentation: Augmentation | None,
    data: Samples | None,
    image: Tensor,
    target: Any,
    generator: np.random.Generator,
    p: float,
) -> tuple[Tensor, Any, tuple[Tensor, Any] | None]:
    """An augmented image, its target and, with probability `p`, another augmented sample of the data; else None."""
    second = other(data, image, target, generator, mixable) if generator.random() < p else None
    if augmentation is not None:
        image, target = augmentation(image, target, generator)
        if second is not None:
            second = augmentation(*second, generator)
    return image, target, second


def resized_to(image: Tensor, like: Tensor) -> Tensor:
    """An image [C, H, W] resized to the height and width of another, without keeping its aspect ratio."""
    size = (int(like.shape[1]), int(like.shape[2]))
    factors = [size[1] / image.shape[2], size[0] / image.shape[1], 1.0]
    return warp_image(image, np.diag(factors), size, 0.0)


def mixed(first: ClassScores, second: ClassScores, share: float) -> ClassScores:
    """The soft target of an image that shows `share` of one image and 1 − `share` of another.

    Raises:
        InputError: the classes have no names, so that their number is unknown.
    """
    scores = share * probabilities(first) + (1 - share) * probabilities(second)
    return replace(first, label=None, scores=scores)


def probabilities(target: ClassScores) -> Tensor:
    """[K] the probability of each class by a target: its scores, or 1 for its label.

    Raises:
        InputError: the target has only a label, and its classes have no names, so that their number is unknown.
    """
    if target.scores is not None and target.label is None:
        return target.scores.float()
    if target.classes is None:
        raise InputError(
            f"{target.source or 'a target'} has a label without class names, so it cannot be mixed with another; name "
            "the classes of the data"
        )
    return torch.eye(len(target.classes))[int(target.label or 0)]


@singledispatch
def mixable(target: Any) -> Any:
    """A target as it can be mixed with another: objects clipped to their image, or the class of a whole image."""
    raise InputError(
        f"{getattr(target, 'source', None) or 'the target'} is of type {type(target).__name__}, but mixing images "
        "requires objects with boxes or one class per image; choose an augmentation without mixup and cutmix"
    )


mixable.register(Instances, objects_within)


@mixable.register
def _(target: ClassScores) -> ClassScores:
    return target


@singledispatch
def blended(
    target: Any, second: Any, image: Tensor, over: Tensor, settings: MixUp, generator: np.random.Generator
) -> tuple[Tensor, Any]:
    """An image [C, H, W] blended with another, and the target of both, by the type of what `mixable` returned."""
    own, theirs = as_instances(target), as_instances(second)
    share = generator.beta(settings.beta, settings.beta)
    size = (max(int(image.shape[1]), int(over.shape[1])), max(int(image.shape[2]), int(over.shape[2])))
    blend = torch.zeros((image.shape[0], *size))
    for part, weight in ((image, share), (over, 1 - share)):
        blend[:, : part.shape[1], : part.shape[2]] += weight * part.float()
    return to_dtype(blend, image.dtype), joined([place_instances(objects, (0, 0), size) for objects in (own, theirs)])


@blended.register
def _(
    target: ClassScores,
    second: ClassScores,
    image: Tensor,
    over: Tensor,
    settings: MixUp,
    generator: np.random.Generator,
) -> tuple[Tensor, ClassScores]:
    share = generator.beta(settings.class_beta, settings.class_beta)
    over = resized_to(over, image)
    return to_dtype(share * image.float() + (1 - share) * over.float(), image.dtype), mixed(target, second, share)


@singledispatch
def class_of_image(target: Any) -> ClassScores:
    """A target that is the class of a whole image, for `CutMix`.

    Raises:
        InputError: the target is of another type.
    """
    raise InputError(
        f"{getattr(target, 'source', None) or 'the target'} is of type {type(target).__name__}, but cutmix requires "
        "one class per image; choose an augmentation without cutmix"
    )


@class_of_image.register
def _(target: ClassScores) -> ClassScores:
    return target


def _interval(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    """An interval of `share` of a length about a uniform centre, clipped to it."""
    middle, half = int(generator.integers(length)), int(length * share) // 2
    return max(0, middle - half), min(length, middle + half)

"""Augmentations in sequence, with all geometry in ONE resampling and all linear colour changes in ONE pass.

An augmentation is a pure function of its generator: the same seed gives the same result. Geometric transforms do not
touch pixels: each contributes a 3×3 matrix and an output size; `Compose` multiplies the matrices of consecutive
transforms and resamples the image and its target once. A crop is therefore only a window: what it cuts off is not lost,
and a later rotation or zoom-out shows it again instead of fill.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any, cast

import numpy as np
from torch import Tensor

from sightline.data.transforms.base import Augmentation, Transform, as_transform
from sightline.data.transforms.mirroring import swap_for, unmirrored
from sightline.data.transforms.motion import Affine, transform_boxes
from sightline.data.transforms.objects import visible_share
from sightline.data.transforms.resample import warp_image
from sightline.data.transforms.targets import boxes_to_keep, follow, mirrors_wrongly, within_image
from sightline.data.transforms.tone import Tone, apply_tone, mean_colour
from sightline.errors import InputError
from sightline.structures import Clip, Size, camera_of, with_camera


@dataclass(frozen=True)
class Viewport:
    """The image as composed so far, without resampling: a geometric transform uses it to choose its step.

    Attributes:
        matrix: [3, 3] float64, pixels of the source image → pixels of the composed image.
        size: (height, width) of the composed image.
        source_boxes: [N, 4] xyxy of the objects that crops must keep, in the source image.
        source_size: (height, width) of the source image.
        min_visible: minimum visible fraction of an object's area for the object to be kept.
    """

    matrix: np.ndarray
    size: Size
    source_boxes: np.ndarray
    source_size: Size
    min_visible: float = 0.3

    def then(self, step: np.ndarray, size: Size) -> Viewport:
        """The viewport after one more step."""
        return Viewport(step @ self.matrix, size, self.source_boxes, self.source_size, self.min_visible)

    @property
    def boxes(self) -> np.ndarray:
        """[N, 4] xyxy of the objects in the composed image, not clipped."""
        return transform_boxes(self.source_boxes, self.matrix)

    def kept(self, windows: np.ndarray, boxes: np.ndarray | None = None) -> np.ndarray:
        """[K, N] bool: whether object n is kept if the image is cropped to window k ([K, 4] xyxy)."""
        boxes = self.boxes if boxes is None else boxes
        share, width, height = visible_share(boxes, windows)
        return (share >= self.min_visible) & (width >= 1) & (height >= 1)


class Geometric(Transform):
    """A transform that moves pixels: it returns a matrix and an output size, and `Compose` does the resampling."""

    @abstractmethod
    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        """The [3, 3] matrix from the composed image to the next one, and the (height, width) of the next one."""

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        return Compose((self,))(image, target, generator)

    def sized(self, size: Size | None) -> Geometric:
        """Return this transform adapted to a model that sees images at (height, width); by default itself."""
        return self

    def bind(self, data: Any, size: Size | None) -> Compose:
        """Return a `Compose` that knows the keypoint pairs of the data."""
        return Compose((self,)).bind(data, size)


class Photometric(Transform):
    """A transform that changes colour linearly: it is composed into a `Tone`, and `Compose` changes the pixels."""

    @abstractmethod
    def tone(self, tone: Tone, generator: np.random.Generator) -> Tone:
        """`tone` followed by the change of this transform."""

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        return Compose((self,))(image, target, generator)


class Drawn(Transform):
    """A transform that draws others for each image. `Compose` puts them in its place and composes their geometry."""

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Sequence[Transform]:
        """The transforms for one image. They are not bound to the data."""

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        return Compose((self,))(image, target, generator)

    def bind(self, data: Any, size: Size | None) -> Compose:
        """Return a `Compose` that knows the keypoint pairs of the data."""
        return Compose((self,)).bind(data, size)


@dataclass(frozen=True, repr=False)
class Compose(Transform):
    """Apply transforms in sequence: consecutive geometric ones in one resampling, linear colours in one pass.

    Args:
        transforms: augmentations, applied in order.
        min_visible: objects are dropped if a smaller fraction of their area remains in the image (a crowd region is
            kept while one pixel is visible). Objects smaller than one pixel are always dropped; boxes are always
            clipped.
        fill: value beyond the image's border, in [0, 1] of full scale.
        keypoint_swap: for each keypoint the index of its mirror image (left eye ↔ right eye), used if the composed
            geometry mirrors; see `PERSON_SWAP`. If None, `bind` takes it from the data. Without it, images whose
            objects have keypoints are not mirrored.
        closing: fraction of training, at its end, in which `closed()` is used instead.
    """

    transforms: tuple[Transform, ...]
    min_visible: float = 0.3
    fill: float = 0.45
    keypoint_swap: tuple[int, ...] | None = None
    closing: float = 0.0

    def __init__(
        self,
        transforms: Iterable[Augmentation],
        min_visible: float = 0.3,
        fill: float = 0.45,
        keypoint_swap: Iterable[int] | None = None,
        closing: float = 0.0,
    ):
        for name, value in (("min_visible", min_visible), ("fill", fill), ("closing", closing)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}, but must be a fraction from 0 to 1")
        swap = None if keypoint_swap is None else tuple(int(i) for i in keypoint_swap)
        if swap is not None and sorted(swap) != list(range(len(swap))):
            raise InputError(f"keypoint_swap is {swap}, but must contain each index from 0 to P−1 exactly once")
        object.__setattr__(self, "transforms", tuple(map(as_transform, transforms)))
        object.__setattr__(self, "min_visible", float(min_visible))
        object.__setattr__(self, "fill", float(fill))
        object.__setattr__(self, "keypoint_swap", swap)
        object.__setattr__(self, "closing", float(closing))

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        """Augment one image and its target.

        Args:
            image: [C, H, W] uint8, or float in [0, 1], on the CPU; any number of channels.
            target: the target of the image; `targets` describes how each type of target is transformed.
            generator: the only source of randomness.

        Returns:
            image of the same dtype (contiguous), target of the same type.

        Raises:
            InputError: the target is for another image size, or has fields that cannot be transformed; or it is that
                of a video, which only the empty sequence takes.
        """
        if isinstance(image, Clip):
            if self.transforms:
                raise InputError(
                    f"{target.source or 'the item'} is a video, and videos cannot be augmented; train with the "
                    'augmentation "none" (--augmentation none)'
                )
            return image, target
        if image.ndim != 3 or tuple(target.image_size) != tuple(image.shape[1:]):
            raise InputError(
                f"{target.source or 'the image'} has shape {list(image.shape)}, but its target is for an image of "
                f"height and width {list(target.image_size)}; they must agree"
            )
        target = within_image(target)
        drawn = (own.draw(generator) if isinstance(own, Drawn) else (own,) for own in self.transforms)
        for kind, group in groupby((transform for own in drawn for transform in own), _kind):
            if kind is Geometric:
                image, target = self._move(image, target, cast("list[Geometric]", list(group)), generator)
            elif kind is Photometric:
                image = _recolour(image, cast("list[Photometric]", list(group)), generator)
            else:
                for transform in group:
                    image, target = transform(image, target, generator)
        return image.contiguous(), target

    def _move(
        self, image: Tensor, target: Any, transforms: list[Geometric], generator: np.random.Generator
    ) -> tuple[Tensor, Any]:
        size = (int(image.shape[1]), int(image.shape[2]))
        view = Viewport(np.eye(3), size, boxes_to_keep(target), size, self.min_visible)
        straight = mirrors_wrongly(target, self.keypoint_swap)
        for transform in transforms:
            step, output = transform.step(view, generator)
            view = view.then(unmirrored(step, output) if straight else step, output)
        if view.size == size and np.allclose(view.matrix, np.eye(3), rtol=0, atol=1e-9):
            return image, target
        camera = camera_of(image)
        motion = Affine(view.matrix, view.size, camera is not None)
        moved = follow(target, motion, self.min_visible, self.keypoint_swap)
        warped = warp_image(image, view.matrix, view.size, self.fill)
        return (warped if camera is None else with_camera(warped, camera.moved(view.matrix, view.size))), moved

    def bind(self, data: Any, size: Size | None) -> Compose:
        """Return this augmentation with transforms that combine several images bound to `data`; see `mosaic`.

        Args:
            data: returns (image, target) by index, and may have `keypoint_swap`.
            size: (height, width) at which the model sees images, if known.
        """
        bound = (
            # a bound geometric transform would be resampled separately
            transform.sized(size)
            if isinstance(transform, Geometric)
            else (transform if isinstance(transform, Drawn) else transform.bind(data, size))
            for transform in self.transforms
        )
        return Compose(bound, self.min_visible, self.fill, swap_for(self.keypoint_swap, data), self.closing)

    def closed(self) -> Compose:
        """The augmentation for the last part of training, without transforms that combine several images."""
        transforms = (transform.closed() for transform in self.transforms)
        return Compose(transforms, self.min_visible, self.fill, self.keypoint_swap, self.closing)

    @property
    def mirrors(self) -> bool:
        return any(transform.mirrors for transform in self.transforms)

    @property
    def combines(self) -> bool:
        return any(transform.combines for transform in self.transforms)

    def __repr__(self) -> str:
        lines = ",\n    ".join(repr(transform) for transform in self.transforms)
        text = f"Compose([\n    {lines},\n]" if self.transforms else "Compose([]"
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                text += f", {field.name}={value!r}"
        return text + ")"


@dataclass(frozen=True)
class Sometimes(Transform):
    """Apply `augmentation` with probability `p`. If it is geometric, it is resampled separately."""

    augmentation: Augmentation
    p: float = 0.5

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        if generator.random() >= self.p:
            return image, target
        return self.augmentation(image, target, generator)

    def bind(self, data: Any, size: Size | None) -> Sometimes:
        """Return this augmentation with the inner one bound to the data."""
        return replace(self, augmentation=as_transform(self.augmentation).bind(data, size))

    def closed(self) -> Sometimes:
        """The same with `closed()` of the inner augmentation."""
        return replace(self, augmentation=as_transform(self.augmentation).closed())

    @property
    def mirrors(self) -> bool:
        return self.p > 0 and as_transform(self.augmentation).mirrors

    @property
    def combines(self) -> bool:
        return as_transform(self.augmentation).combines


def _kind(transform: Transform) -> type | None:
    """The class that consecutive transforms must share to be composed into one pass."""
    return next((kind for kind in (Geometric, Photometric) if isinstance(transform, kind)), None)


def _recolour(image: Tensor, transforms: list[Photometric], generator: np.random.Generator) -> Tensor:
    channels = int(image.shape[0])
    tone = Tone(np.eye(channels), np.zeros(channels), mean_colour(image))
    for transform in transforms:
        tone = transform.tone(tone, generator)
    return with_camera(apply_tone(image, tone), camera_of(image))

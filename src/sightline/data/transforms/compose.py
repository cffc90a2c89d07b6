"""Augmentations one after the other, with all geometry in ONE resampling and all linear colour in ONE pass.

An augmentation is a callable `(image, target, generator) -> (image, target)` and a pure function of the generator: the
same seed gives the same result. Geometric pieces do not touch pixels: each contributes a 3×3 matrix and an output size,
`Compose` multiplies the matrices of neighbouring pieces and moves the image, boxes, masks and keypoints once. A crop is
therefore a window that moves: what it cut off is not lost, and a later rotation or zoom-out shows it again in place
of fill.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from torch import Tensor

from sightline.data.transforms.mirroring import mirrors_wrongly, swap_for, unmirrored
from sightline.data.transforms.resample import warp_image
from sightline.data.transforms.targets import transform_boxes, visible_share, warp_target, within_image
from sightline.data.transforms.tone import Tone, apply_tone, mean_colour
from sightline.errors import InputError
from sightline.structures import Instances, Size, Target


@runtime_checkable
class Augmentation(Protocol):
    """Changes an image and its target together; all randomness comes from `generator`."""

    def __call__(self, image: Tensor, target: Target, generator: np.random.Generator) -> tuple[Tensor, Target]: ...


@dataclass(frozen=True)
class View:
    """The picture as composed so far, without a pixel moved: what a geometric piece looks at to choose its step.

    Attributes:
        matrix: [3, 3] float64, pixels of the source image → pixels of the picture.
        size: (height, width) of the picture.
        source_boxes: [N, 4] xyxy of the objects that crops must keep, in the source image.
        source_size: (height, width) of the source image.
        min_visible: the share of an object's area that must stay inside for the object to stay.
    """

    matrix: np.ndarray
    size: Size
    source_boxes: np.ndarray
    source_size: Size
    min_visible: float = 0.3

    def then(self, step: np.ndarray, size: Size) -> View:
        """The view after one more step."""
        return View(step @ self.matrix, size, self.source_boxes, self.source_size, self.min_visible)

    @property
    def boxes(self) -> np.ndarray:
        """[N, 4] xyxy of the objects in the picture, not clipped."""
        return transform_boxes(self.source_boxes, self.matrix)

    def kept(self, windows: np.ndarray, boxes: np.ndarray | None = None) -> np.ndarray:
        """[K, N] bool: whether object n stays when the picture is cut to window k ([K, 4] xyxy)."""
        boxes = self.boxes if boxes is None else boxes
        share, width, height = visible_share(boxes, windows)
        return (share >= self.min_visible) & (width >= 1) & (height >= 1)


class Geometric(ABC):
    """A piece that moves pixels: it gives a matrix and an output size, and leaves the moving to `Compose`."""

    @abstractmethod
    def step(self, view: View, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        """The [3, 3] matrix from the picture so far to the next one, and the next one's (height, width)."""

    def __call__(self, image: Tensor, target: Target, generator: np.random.Generator) -> tuple[Tensor, Target]:
        return Compose((self,))(image, target, generator)

    def bind(self, data: Any, size: Size | None) -> Compose:
        """The same as a `Compose` that knows which of the data's keypoints change places in a mirror."""
        return Compose((self,)).bind(data, size)


class Photometric(ABC):
    """A piece that changes colour linearly: it composes into a `Tone`, and leaves the pixels to `Compose`."""

    @abstractmethod
    def tone(self, tone: Tone, generator: np.random.Generator) -> Tone:
        """`tone` followed by this piece's change."""

    def __call__(self, image: Tensor, target: Target, generator: np.random.Generator) -> tuple[Tensor, Target]:
        return Compose((self,))(image, target, generator)


@dataclass(frozen=True, repr=False)
class Compose:
    """Pieces one after the other: neighbouring geometric ones are one resampling, linear colours one pass.

    Args:
        pieces: augmentations, applied in order.
        min_visible: objects of which a smaller share of the area stays in the picture are dropped (a crowd region stays
            while one pixel of it is seen). Objects below one pixel are always dropped, boxes always clipped.
        fill: what is seen beyond the image's border, in [0, 1] of full scale.
        keypoint_swap: for each keypoint the index of its mirror image (left eye ↔ right eye), used where the composed
            geometry mirrors; see `PERSON_SWAP`. `bind` takes it from the data where it is None. Without it, images
            whose objects have keypoints are not mirrored.
        closing: share of a training, its last, for which training takes `closed()` instead.
    """

    pieces: tuple[Augmentation, ...]
    min_visible: float = 0.3
    fill: float = 0.45
    keypoint_swap: tuple[int, ...] | None = None
    closing: float = 0.0

    def __init__(
        self,
        pieces: Iterable[Augmentation],
        min_visible: float = 0.3,
        fill: float = 0.45,
        keypoint_swap: Iterable[int] | None = None,
        closing: float = 0.0,
    ):
        for name, value in (("min_visible", min_visible), ("fill", fill), ("closing", closing)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}, but it is a share; give a number from 0 to 1")
        swap = None if keypoint_swap is None else tuple(int(i) for i in keypoint_swap)
        if swap is not None and sorted(swap) != list(range(len(swap))):
            raise InputError(f"keypoint_swap is {swap}, but it must hold each keypoint's index 0 to P−1 exactly once")
        object.__setattr__(self, "pieces", tuple(pieces))
        object.__setattr__(self, "min_visible", float(min_visible))
        object.__setattr__(self, "fill", float(fill))
        object.__setattr__(self, "keypoint_swap", swap)
        object.__setattr__(self, "closing", float(closing))
        for piece in self.pieces:
            if not callable(piece):
                raise InputError(
                    f"an augmentation must be callable as (image, target, generator), but {piece!r} is not"
                )

    def __call__(self, image: Tensor, target: Target, generator: np.random.Generator) -> tuple[Tensor, Target]:
        """Augment one image and its target.

        Args:
            image: [C, H, W] uint8, or float in [0, 1], on the CPU; any number of channels.
            target: `Instances`, `ClassMap` or `ClassScores` of the same image.
            generator: the only source of randomness.

        Returns:
            image of the same dtype (contiguous), target of the same type.

        Raises:
            InputError: the target is of another size than the image, or has fields that cannot move with it.
        """
        if image.ndim != 3 or tuple(target.image_size) != tuple(image.shape[1:]):
            raise InputError(
                f"{target.source or 'the image'} has shape {list(image.shape)}, but its target is for an image of "
                f"height and width {list(target.image_size)}; they must agree"
            )
        target = within_image(target)
        for kind, group in groupby(self.pieces, _kind):
            if kind is Geometric:
                image, target = self._move(image, target, cast("list[Geometric]", list(group)), generator)
            elif kind is Photometric:
                image = _recolour(image, cast("list[Photometric]", list(group)), generator)
            else:
                for piece in group:
                    image, target = piece(image, target, generator)
        return image.contiguous(), target

    def _move(
        self, image: Tensor, target: Target, pieces: list[Geometric], generator: np.random.Generator
    ) -> tuple[Tensor, Target]:
        size = (int(image.shape[1]), int(image.shape[2]))
        view = View(np.eye(3), size, _objects(target), size, self.min_visible)
        straight = mirrors_wrongly(target, self.keypoint_swap)
        for piece in pieces:
            step, output = piece.step(view, generator)
            view = view.then(unmirrored(step, output) if straight else step, output)
        if view.size == size and np.allclose(view.matrix, np.eye(3), rtol=0, atol=1e-9):
            return image, target
        moved = warp_target(target, view.matrix, view.size, self.min_visible, self.keypoint_swap)
        return warp_image(image, view.matrix, view.size, self.fill), moved

    def bind(self, data: Any, size: Size | None) -> Compose:
        """The same, its pieces that make one picture of several taking them from `data`; see `mosaic`.

        Args:
            data: gives (image, target) by position, and may have `keypoint_swap`.
            size: (height, width) that the model sees pictures at, where it is known.
        """
        bound = (
            piece.bind(data, size) if hasattr(piece, "bind") and not isinstance(piece, Geometric) else piece
            for piece in self.pieces
        )
        return Compose(bound, self.min_visible, self.fill, swap_for(self.keypoint_swap, data), self.closing)

    def closed(self) -> Compose:
        """The same for the last part of a training, its pieces that make one picture of several left out."""
        return self._with(piece.closed() if hasattr(piece, "closed") else piece for piece in self.pieces)

    def _with(self, pieces: Iterable[Augmentation]) -> Compose:
        return Compose(pieces, self.min_visible, self.fill, self.keypoint_swap, self.closing)

    def __repr__(self) -> str:
        lines = ",\n    ".join(repr(piece) for piece in self.pieces)
        text = f"Compose([\n    {lines},\n]" if self.pieces else "Compose([]"
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                text += f", {field.name}={value!r}"
        return text + ")"


@dataclass(frozen=True)
class Sometimes:
    """`augmentation` with probability `p`, else nothing. A geometric one inside is a resampling of its own."""

    augmentation: Augmentation
    p: float = 0.5

    def __call__(self, image: Tensor, target: Target, generator: np.random.Generator) -> tuple[Tensor, Target]:
        if generator.random() >= self.p:
            return image, target
        return self.augmentation(image, target, generator)

    def bind(self, data: Any, size: Size | None) -> Sometimes:
        """The same, its augmentation given the data set."""
        inner = self.augmentation
        return replace(self, augmentation=inner.bind(data, size)) if hasattr(inner, "bind") else self

    def closed(self) -> Sometimes:
        """The same with what its augmentation becomes."""
        inner = self.augmentation
        return replace(self, augmentation=inner.closed()) if hasattr(inner, "closed") else self


def _kind(piece: Augmentation) -> type | None:
    """What neighbouring pieces must share to be composed into one pass."""
    return next((kind for kind in (Geometric, Photometric) if isinstance(piece, kind)), None)


def _objects(target: Target) -> np.ndarray:
    """[N, 4] float64 boxes a crop has to care for: those of objects, not of crowd regions."""
    if not isinstance(target, Instances) or "boxes" not in target or not len(target):
        return np.zeros((0, 4))
    boxes = target.boxes.detach().cpu().numpy().astype(np.float64)
    return boxes[~target.crowd.cpu().numpy()] if "crowd" in target else boxes


def _recolour(image: Tensor, pieces: list[Photometric], generator: np.random.Generator) -> Tensor:
    channels = int(image.shape[0])
    tone = Tone(np.eye(channels), np.zeros(channels), mean_colour(image))
    for piece in pieces:
        tone = piece.tone(tone, generator)
    return apply_tone(image, tone)

"""Augmentations one after the other, with all geometry in ONE resampling and all linear colour in ONE pass.

An augmentation is a pure function of its generator: the same seed gives the same result. Geometric pieces do not touch
pixels: each contributes a 3×3 matrix and an output size, `Compose` multiplies the matrices of neighbouring pieces and
moves the image and its target once. A crop is therefore a window that moves: what it cut off is not lost, and a later
rotation or zoom-out shows it again in place of fill.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
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
from sightline.structures import Size, camera_of, with_camera


@dataclass(frozen=True)
class Viewport:
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

    def then(self, step: np.ndarray, size: Size) -> Viewport:
        """The view after one more step."""
        return Viewport(step @ self.matrix, size, self.source_boxes, self.source_size, self.min_visible)

    @property
    def boxes(self) -> np.ndarray:
        """[N, 4] xyxy of the objects in the picture, not clipped."""
        return transform_boxes(self.source_boxes, self.matrix)

    def kept(self, windows: np.ndarray, boxes: np.ndarray | None = None) -> np.ndarray:
        """[K, N] bool: whether object n stays when the picture is cut to window k ([K, 4] xyxy)."""
        boxes = self.boxes if boxes is None else boxes
        share, width, height = visible_share(boxes, windows)
        return (share >= self.min_visible) & (width >= 1) & (height >= 1)


class Geometric(Transform):
    """A piece that moves pixels: it gives a matrix and an output size, and leaves the moving to `Compose`."""

    @abstractmethod
    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        """The [3, 3] matrix from the picture so far to the next one, and the next one's (height, width)."""

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        return Compose((self,))(image, target, generator)

    def sized(self, size: Size | None) -> Geometric:
        """The same for a model that sees images at (height, width); as it is by default."""
        return self

    def bind(self, data: Any, size: Size | None) -> Compose:
        """The same as a `Compose` that knows which of the data's keypoints change places in a mirror."""
        return Compose((self,)).bind(data, size)


class Photometric(Transform):
    """A piece that changes colour linearly: it composes into a `Tone`, and leaves the pixels to `Compose`."""

    @abstractmethod
    def tone(self, tone: Tone, generator: np.random.Generator) -> Tone:
        """`tone` followed by this piece's change."""

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        return Compose((self,))(image, target, generator)


@dataclass(frozen=True, repr=False)
class Compose(Transform):
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

    pieces: tuple[Transform, ...]
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
        object.__setattr__(self, "pieces", tuple(map(as_transform, pieces)))
        object.__setattr__(self, "min_visible", float(min_visible))
        object.__setattr__(self, "fill", float(fill))
        object.__setattr__(self, "keypoint_swap", swap)
        object.__setattr__(self, "closing", float(closing))

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        """Augment one image and its target.

        Args:
            image: [C, H, W] uint8, or float in [0, 1], on the CPU; any number of channels.
            target: of the same image; what becomes of each type of target is in `targets`.
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
        self, image: Tensor, target: Any, pieces: list[Geometric], generator: np.random.Generator
    ) -> tuple[Tensor, Any]:
        size = (int(image.shape[1]), int(image.shape[2]))
        view = Viewport(np.eye(3), size, boxes_to_keep(target), size, self.min_visible)
        straight = mirrors_wrongly(target, self.keypoint_swap)
        for piece in pieces:
            step, output = piece.step(view, generator)
            view = view.then(unmirrored(step, output) if straight else step, output)
        if view.size == size and np.allclose(view.matrix, np.eye(3), rtol=0, atol=1e-9):
            return image, target
        moved = follow(target, Affine(view.matrix, view.size), self.min_visible, self.keypoint_swap)
        warped = warp_image(image, view.matrix, view.size, self.fill)
        camera = camera_of(image)
        return (warped if camera is None else with_camera(warped, camera.moved(view.matrix, view.size))), moved

    def bind(self, data: Any, size: Size | None) -> Compose:
        """The same, its pieces that make one picture of several taking them from `data`; see `mosaic`.

        Args:
            data: gives (image, target) by position, and may have `keypoint_swap`.
            size: (height, width) that the model sees pictures at, where it is known.
        """
        bound = (
            # a geometric piece would become a resampling of its own
            piece.sized(size) if isinstance(piece, Geometric) else piece.bind(data, size)
            for piece in self.pieces
        )
        return Compose(bound, self.min_visible, self.fill, swap_for(self.keypoint_swap, data), self.closing)

    def closed(self) -> Compose:
        """The same for the last part of a training, its pieces that make one picture of several left out."""
        pieces = (piece.closed() for piece in self.pieces)
        return Compose(pieces, self.min_visible, self.fill, self.keypoint_swap, self.closing)

    @property
    def mirrors(self) -> bool:
        return any(piece.mirrors for piece in self.pieces)

    @property
    def combines(self) -> bool:
        return any(piece.combines for piece in self.pieces)

    def __repr__(self) -> str:
        lines = ",\n    ".join(repr(piece) for piece in self.pieces)
        text = f"Compose([\n    {lines},\n]" if self.pieces else "Compose([]"
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                text += f", {field.name}={value!r}"
        return text + ")"


@dataclass(frozen=True)
class Sometimes(Transform):
    """`augmentation` with probability `p`, else nothing. A geometric one inside is a resampling of its own."""

    augmentation: Augmentation
    p: float = 0.5

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        if generator.random() >= self.p:
            return image, target
        return self.augmentation(image, target, generator)

    def bind(self, data: Any, size: Size | None) -> Sometimes:
        """The same, its augmentation given the data set."""
        return replace(self, augmentation=as_transform(self.augmentation).bind(data, size))

    def closed(self) -> Sometimes:
        """The same with what its augmentation becomes."""
        return replace(self, augmentation=as_transform(self.augmentation).closed())

    @property
    def mirrors(self) -> bool:
        return self.p > 0 and as_transform(self.augmentation).mirrors

    @property
    def combines(self) -> bool:
        return as_transform(self.augmentation).combines


def _kind(piece: Transform) -> type | None:
    """What neighbouring pieces must share to be composed into one pass."""
    return next((kind for kind in (Geometric, Photometric) if isinstance(piece, kind)), None)


def _recolour(image: Tensor, pieces: list[Photometric], generator: np.random.Generator) -> Tensor:
    channels = int(image.shape[0])
    tone = Tone(np.eye(channels), np.zeros(channels), mean_colour(image))
    for piece in pieces:
        tone = piece.tone(tone, generator)
    return with_camera(apply_tone(image, tone), camera_of(image))

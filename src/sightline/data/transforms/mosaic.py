"""Augmentations made of several pictures: four as the tiles of one (mosaic), or two laid over each other (mix-up).

They need more samples than the one they are given: `bind(data, size)` gives them the data set, from which they take
others by their own generator, so that they stay pure functions of it. Unbound, as for one picture alone, every other
picture is the same one. `closed()` is what becomes of them in the last part of a training, in which the network shall
see pictures as they are (Ge et al., "YOLOX", 2021, section 2.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.base import Augmentation, Transform, as_transform
from sightline.data.transforms.compose import Compose
from sightline.data.transforms.geometry import HorizontalFlip, VerticalFlip
from sightline.data.transforms.mirroring import swap_for
from sightline.data.transforms.motion import Affine
from sightline.data.transforms.objects import objects_within
from sightline.data.transforms.resample import warp_image
from sightline.data.transforms.targets import follow, mirrors_wrongly
from sightline.errors import InputError
from sightline.ops.geometry import place_instances
from sightline.structures import Instances, Size
from sightline.structures.fields import FIELDS, Field


class Samples(Protocol):
    """A data set, as far as it is needed here."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Tensor, Any]: ...


class Remembered:
    """A data set whose samples are kept once read, while there is room.

    Args:
        data: gives (image, target) by position.
        room: bytes of images that are kept; what comes later is read each time.
    """

    def __init__(self, data: Samples, room: int = 1 << 29):
        self.data, self.room = data, room
        self._kept: dict[int, tuple[Tensor, Any]] = {}

    def __len__(self) -> int:
        return len(self.data)

    @property
    def keypoint_swap(self) -> tuple[int, ...] | None:
        """As of the data set."""
        return getattr(self.data, "keypoint_swap", None)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        """(image, target) of a position; not to be written into."""
        if index in self._kept:
            return self._kept[index]
        sample = self.data[index]
        size = sample[0].numel() * sample[0].element_size()
        if size <= self.room:
            self.room -= size
            self._kept[index] = sample
        return sample

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}}  # another process reads for itself


@dataclass(frozen=True)
class Mosaic(Transform):
    """Four pictures as the tiles of one, each at a scale and a place of its own, resampled once.

    The tiles meet at a random point of the middle. In its tile each picture is as large as the model would see it,
    times a random factor; of what is larger than the tile a random part is seen, what is smaller lies at a random place
    in it. So an object is seen whole or cut, large or small, in ever new company, and four images' objects give each
    step a steadier gradient.

    Args:
        scale: range of the factor, drawn uniformly in its logarithm.
        aspect: range of the factor's width / height.
        flip: probability of mirroring a picture left and right.
        vertical_flip: probability of mirroring it top and bottom.
        middle: range of the meeting point along each side, in shares of it.
        p: probability; else the picture alone, in one tile.
        min_visible: objects of which a smaller share of the area stays are dropped.
        fill: what is seen beside the pictures, in [0, 1] of full scale.
        keypoint_swap: for each keypoint the index of its mirror image, as in `Compose`; by default that of `data`.
        data, size: of `bind`: the other pictures, and (height, width) of the result. By default the picture itself,
            and a square of its longer side.

    Source: Bochkovskiy et al., "YOLOv4", 2020, section 3.3. Departures: tiles show random parts of their pictures, not
    the corners that meet; scale is drawn for each picture, not for the whole, so that nothing is resampled twice.
    """

    scale: tuple[float, float] = (0.5, 1.5)
    aspect: tuple[float, float] = (0.9, 1.11)
    flip: float = 0.5
    vertical_flip: float = 0.0
    middle: tuple[float, float] = (0.25, 0.75)
    p: float = 1.0
    min_visible: float = 0.3
    fill: float = 0.45
    keypoint_swap: tuple[int, ...] | None = None
    data: Samples | None = None
    size: Size | None = None

    def __post_init__(self) -> None:
        for name in ("scale", "aspect"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} is {(low, high)}, but it must be (low, high) with 0 < low ≤ high")
        if not 0 <= self.middle[0] <= self.middle[1] <= 1:
            raise InputError(f"middle is {self.middle}, but it must be two rising shares of the side, from 0 to 1")

    def bind(self, data: Samples, size: Size | None) -> Mosaic:
        """The same, taking its other pictures from `data`, and making pictures of `size`."""
        swap = swap_for(self.keypoint_swap, data)
        return replace(self, data=data, size=size or self.size, keypoint_swap=swap)

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        """An image [C, H, W] and its `Instances` → a mosaic of `size` with the first among its four."""
        own = _instances(target)
        height, width = self.size or (max(image.shape[1:]),) * 2
        x, y = width, height
        if generator.random() < self.p:
            x, y = (round(side * generator.uniform(*self.middle)) for side in (width, height))
        tiles = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
        tiles = [tile for tile in tiles if tile[2] > tile[0] and tile[3] > tile[1]]
        first = int(generator.integers(len(tiles)))
        canvas = image.new_empty((image.shape[0], height, width))
        parts = []
        for position, (x1, y1, x2, y2) in enumerate(tiles):
            picture, objects = (image, own) if position == first else other(self.data, image, own, generator)
            size = (y2 - y1, x2 - x1)
            own_size = (int(picture.shape[1]), int(picture.shape[2]))
            straight = mirrors_wrongly(objects, self.keypoint_swap)
            matrix = self._view(own_size, (height, width), size, generator, straight)
            canvas[:, y1:y2, x1:x2] = warp_image(picture, matrix, size, self.fill)
            seen = follow(objects, Affine(matrix, size), self.min_visible, self.keypoint_swap)
            parts.append(place_instances(seen, (x1, y1), (height, width)))
        return canvas, joined(parts)

    @property
    def mirrors(self) -> bool:
        return self.flip > 0 or self.vertical_flip > 0

    @property
    def combines(self) -> bool:
        return True

    def closed(self) -> Compose:
        """The picture alone, mirrored as before."""
        flips = [HorizontalFlip(self.flip)] * (self.flip > 0) + [VerticalFlip(self.vertical_flip)] * (
            self.vertical_flip > 0
        )
        return Compose(flips, self.min_visible, self.fill, self.keypoint_swap)

    def _view(
        self, picture: Size, whole: Size, tile: Size, generator: np.random.Generator, straight: bool
    ) -> np.ndarray:
        """[3, 3] pixels of a picture → pixels of its tile; `straight` keeps it from being mirrored."""
        factor = min(whole[0] / picture[0], whole[1] / picture[1]) * _between(generator, self.scale)
        stretch = math.sqrt(_between(generator, self.aspect))
        matrix = np.eye(3)
        mirrored = generator.random() < self.flip, generator.random() < self.vertical_flip
        for axis, (side, room) in enumerate(((picture[1], tile[1]), (picture[0], tile[0]))):
            # whole pixels, so that the picture's border falls between pixels of the tile
            length = max(1, round(side * factor * (stretch if axis == 0 else 1 / stretch)))
            shift = int(generator.integers(min(room - length, 0), max(room - length, 0) + 1))
            matrix[axis, axis], matrix[axis, 2] = length / side, shift
            if mirrored[axis] and not straight:
                matrix[axis] = -matrix[axis]
                matrix[axis, 2] = shift + length
        return matrix


@dataclass(frozen=True)
class MixUp(Transform):
    """With probability `p`, another sample laid over this one: pixels blended, objects of both.

    Args:
        augmentation: what either sample goes through first, such as a `Mosaic`; None for nothing.
        p: probability.
        beta: of the Beta distribution that the share of this sample is drawn from: the larger, the nearer to a half.
        data, size: of `bind`.

    Source: Zhang et al., "mixup", 2018, section 2; for detection Zhang et al., "Bag of freebies", 2019, section 3.1:
    the objects of both count in full. The smaller picture lies at the top left of the larger.
    """

    augmentation: Augmentation | None = None
    p: float = 0.1
    beta: float = 8.0
    data: Samples | None = None
    size: Size | None = None

    def bind(self, data: Samples, size: Size | None) -> MixUp:
        """The same, taking its other pictures from `data`."""
        inner = None if self.augmentation is None else as_transform(self.augmentation).bind(data, size)
        return replace(self, augmentation=inner, data=data, size=size or self.size)

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        """An image [C, H, W] and its `Instances` → both augmented, and perhaps blended with others."""
        own = _instances(target)
        second = other(self.data, image, own, generator) if generator.random() < self.p else None
        if self.augmentation is not None:
            image, target = self.augmentation(image, own, generator)
            own = _instances(target)
        if second is None:
            return image, own
        over, objects = second
        if self.augmentation is not None:
            over, moved = self.augmentation(over, objects, generator)
            objects = _instances(moved)
        share = generator.beta(self.beta, self.beta)
        size = (max(int(image.shape[1]), int(over.shape[1])), max(int(image.shape[2]), int(over.shape[2])))
        blend = torch.zeros((image.shape[0], *size))
        for picture, weight in ((image, share), (over, 1 - share)):
            blend[:, : picture.shape[1], : picture.shape[2]] += weight * picture.float()
        blend = blend.round_().clamp_(0, 255).to(torch.uint8) if image.dtype == torch.uint8 else blend.to(image.dtype)
        return blend, joined([place_instances(part, (0, 0), size) for part in (own, objects)])

    @property
    def mirrors(self) -> bool:
        return self.augmentation is not None and as_transform(self.augmentation).mirrors

    @property
    def combines(self) -> bool:
        return True

    def closed(self) -> Transform:
        """What the inner augmentation becomes."""
        return Compose([]) if self.augmentation is None else as_transform(self.augmentation).closed()


def other(
    data: Samples | None, image: Tensor, target: Instances, generator: np.random.Generator
) -> tuple[Tensor, Instances]:
    """A sample of the data set in the image's dtype; the given one where there is no data set.

    Raises:
        InputError: it has other channels, or its target is no `Instances`.
    """
    index = int(generator.integers(len(data))) if data is not None else 0
    if data is None:
        return image, target
    picture, found = data[index]
    found = _instances(found)
    if picture.shape[0] != image.shape[0]:
        raise InputError(
            f"{found.source or f'image {index}'} has {picture.shape[0]} channels, but "
            f"{target.source or 'another image'} has {image.shape[0]}; open the data with one number of channels to "
            "make mosaics of it"
        )
    if picture.dtype != image.dtype:
        picture = (
            (picture.float() * 255).round().to(torch.uint8)
            if image.dtype == torch.uint8
            else (picture / 255 if picture.dtype == torch.uint8 else picture).to(image.dtype)
        )
    return picture, found


def joined(parts: list[Instances]) -> Instances:
    """The objects of several targets of one image size as one.

    It has the fields that all with objects have; where only some have a field with a value for the others (`missing`,
    as crowd and difficult), these get it.
    """
    parts = [part for part in parts if len(part)] or parts[:1]
    for row in FIELDS.values():
        if row.missing is not None and any(row.name in part for part in parts):
            parts = [part if row.name in part else _with_missing(part, row) for part in parts]
    first = parts[0]
    names = [name for name in first.fields if all(name in part for part in parts)]
    fields: dict[str, Any] = {}
    for name in names:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], Tensor):
            full = [value for value in values if len(value)] or values[:1]  # an empty one may have no shape
            fields[name] = torch.cat(full)
        else:
            fields[name] = [entry for value in values for entry in value]
    return Instances.unchecked(first.image_size, classes=first.classes, source=first.source, **fields)


def _with_missing(target: Instances, row: Field) -> Instances:
    return target.replace(**{row.name: row.fitted([row.missing] * len(target))})


@singledispatch
def _instances(target: Any) -> Instances:
    """Objects as far as they lie in their image; other targets cannot be joined."""
    raise InputError(
        f"{getattr(target, 'source', None) or 'the target'} is a {type(target).__name__}, but pictures of several "
        "samples are for objects with boxes; choose an augmentation without mosaic"
    )


_instances.register(Instances, objects_within)


def _between(generator: np.random.Generator, limits: tuple[float, float]) -> float:
    return math.exp(generator.uniform(math.log(limits[0]), math.log(limits[1])))

"""Mosaic: four images as the tiles of one, and what all augmentations that combine several images share.

Those need other samples: `bind(data, size)` gives them the dataset, from which they draw others with their generator,
so they stay pure functions of it. If they are not bound, as for a single image, every other image is the same image.
`closed()` replaces them in the last part of training, in which the network should see unmodified images (Ge et al.,
"YOLOX", 2021, section 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.base import Transform
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
from sightline.structures.relations import with_distinct_keys


class Samples(Protocol):
    """The part of a dataset's interface that is used here."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Tensor, Any]: ...


class CachedSamples:
    """A dataset that caches samples once read, up to a limit.

    Args:
        data: returns (image, target) by index.
        room: maximum number of bytes of cached images; other images are read each time.
    """

    def __init__(self, data: Samples, room: int = 1 << 29):
        self.data, self.room = data, room
        self._kept: dict[int, tuple[Tensor, Any]] = {}

    def __len__(self) -> int:
        return len(self.data)

    @property
    def keypoint_swap(self) -> tuple[int, ...] | None:
        """Keypoint pairs of the dataset."""
        return getattr(self.data, "keypoint_swap", None)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        """(image, target) by index; must not be modified in place."""
        if index in self._kept:
            return self._kept[index]
        sample = self.data[index]
        size = sample[0].numel() * sample[0].element_size()
        if size <= self.room:
            self.room -= size
            self._kept[index] = sample
        return sample

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}}  # another process has its own cache


@dataclass(frozen=True)
class Mosaic(Transform):
    """Combine four images as the tiles of one, each with its own scale and position, resampled once.

    The tiles meet at a random point near the centre. In its tile, each image has the size at which the model would see
    it, times a random factor. Of a larger image, a random part is visible; a smaller one is at a random position in its
    tile. Objects therefore appear whole or cut, large or small, in varying context, and the objects of four images
    give a less noisy gradient per step.

    Args:
        scale: range of the factor, drawn log-uniformly.
        aspect: range of the factor's width / height.
        flip: probability of mirroring an image horizontally.
        vertical_flip: probability of mirroring it vertically.
        middle: range of the meeting point along each side, as a fraction of the side.
        p: probability; otherwise the image alone fills one tile.
        min_visible: objects are dropped if a smaller fraction of their area remains.
        fill: value beside the images, in [0, 1] of full scale.
        keypoint_swap: for each keypoint the index of its mirror image, as in `Compose`; by default that of `data`.
        data, size: set by `bind`: the other images, and (height, width) of the result. By default the image itself, and
            a square of its longer side.

    Source: Bochkovskiy et al., "YOLOv4", 2020, section 3.3. Departures: tiles show random parts of their images, not
    the corners that meet; scale is drawn per image, not for the whole, so that nothing is resampled twice.
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
                raise InputError(f"{name} is {(low, high)}, but must be (low, high) with 0 < low ≤ high")
        if not 0 <= self.middle[0] <= self.middle[1] <= 1:
            raise InputError(f"middle is {self.middle}, but must be two increasing fractions of the side, from 0 to 1")

    def bind(self, data: Samples, size: Size | None) -> Mosaic:
        """Return this augmentation with other images from `data`, creating images of `size`."""
        swap = swap_for(self.keypoint_swap, data)
        return replace(self, data=data, size=size or self.size, keypoint_swap=swap)

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        """An image [C, H, W] and its `Instances` → a mosaic of `size` that contains the image."""
        own = as_instances(target)
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
            sample_image, objects = (image, own) if position == first else other(self.data, image, own, generator)
            size = (y2 - y1, x2 - x1)
            own_size = (int(sample_image.shape[1]), int(sample_image.shape[2]))
            straight = mirrors_wrongly(objects, self.keypoint_swap)
            matrix = self._view(own_size, (height, width), size, generator, straight)
            canvas[:, y1:y2, x1:x2] = warp_image(sample_image, matrix, size, self.fill)
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
        """The image alone, mirrored as before."""
        flips = [HorizontalFlip(self.flip)] * (self.flip > 0) + [VerticalFlip(self.vertical_flip)] * (
            self.vertical_flip > 0
        )
        return Compose(flips, self.min_visible, self.fill, self.keypoint_swap)

    def _view(
        self, source: Size, whole: Size, tile: Size, generator: np.random.Generator, straight: bool
    ) -> np.ndarray:
        """[3, 3] pixels of an image → pixels of its tile; `straight` prevents mirroring."""
        factor = min(whole[0] / source[0], whole[1] / source[1]) * _between(generator, self.scale)
        stretch = math.sqrt(_between(generator, self.aspect))
        matrix = np.eye(3)
        mirrored = generator.random() < self.flip, generator.random() < self.vertical_flip
        for axis, (side, room) in enumerate(((source[1], tile[1]), (source[0], tile[0]))):
            # whole pixels, so that the image's border falls between pixels of the tile
            length = max(1, round(side * factor * (stretch if axis == 0 else 1 / stretch)))
            shift = int(generator.integers(min(room - length, 0), max(room - length, 0) + 1))
            matrix[axis, axis], matrix[axis, 2] = length / side, shift
            if mirrored[axis] and not straight:
                matrix[axis] = -matrix[axis]
                matrix[axis, 2] = shift + length
        return matrix


def other(
    data: Samples | None,
    image: Tensor,
    target: Any,
    generator: np.random.Generator,
    check: Callable[[Any], Any] | None = None,
) -> tuple[Tensor, Any]:
    """A sample of the dataset in the image's dtype; the given one if there is no dataset.

    Args:
        data: the dataset.
        image, target: the given sample.
        generator: the only source of randomness.
        check: returns a target as it can be combined; by default its objects, clipped to their image.

    Raises:
        InputError: it has another number of channels, or its target is not one that `check` accepts.
    """
    index = int(generator.integers(len(data))) if data is not None else 0
    if data is None:
        return image, target
    sample_image, found = data[index]
    found = (check or as_instances)(found)
    if sample_image.shape[0] != image.shape[0]:
        raise InputError(
            f"{found.source or f'image {index}'} has {sample_image.shape[0]} channels, but "
            f"{target.source or 'another image'} has {image.shape[0]}; open the data with one number of channels to "
            "combine images"
        )
    if sample_image.dtype != image.dtype:
        sample_image = (
            (sample_image.float() * 255).round().to(torch.uint8)
            if image.dtype == torch.uint8
            else (sample_image / 255 if sample_image.dtype == torch.uint8 else sample_image).to(image.dtype)
        )
    return sample_image, found


def joined(parts: list[Instances]) -> Instances:
    """Concatenate the objects of several targets with one image size.

    The result has the fields of all targets that have objects. If a field exists in only some targets and has a default
    value (`missing`, as crowd and difficult), the others get this value.
    """
    parts = with_distinct_keys([part for part in parts if len(part)] or parts[:1])
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
def as_instances(target: Any) -> Instances:
    """Objects clipped to their image; other targets cannot be tiles."""
    raise InputError(
        f"{getattr(target, 'source', None) or 'the target'} is a {type(target).__name__}, but combining several images "
        "requires objects with boxes; choose an augmentation without mosaic"
    )


as_instances.register(Instances, objects_within)


def _between(generator: np.random.Generator, limits: tuple[float, float]) -> float:
    return math.exp(generator.uniform(math.log(limits[0]), math.log(limits[1])))

"""Random erasing: Zhong, Zheng, Kang, Li, Yang, "Random erasing data augmentation", AAAI 2020."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.base import Transform
from sightline.data.transforms.targets import boxes_to_keep, within_image
from sightline.errors import InputError
from sightline.structures import IGNORE, ClassMap, Instances, camera_of, with_camera

Window = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in whole pixels."""


@dataclass(frozen=True)
class RandomErasing(Transform):
    """With probability `p`, replace a random rectangle by random values; also inside each object's box, each with `p`.

    Objects keep their labels, boxes and masks, as if something were in front of them. Objects are dropped if less than
    `min_visible` of their box remains. Erased pixels of a class map are ignored.

    Args:
        p: probability.
        area: range of the rectangle's area as a fraction of that of the image, or of the box.
        aspect: range of its width / height.
        inside: whether rectangles are also erased inside boxes.
        tries: number of rectangles tried; the first that fits is used.
        min_visible: minimum visible fraction of an object's box for the object to be kept.

    Source: Zhong et al. 2020, algorithm 1 and section 3.3 (image-aware and object-aware, "I+ORE"), with a random value
    for every pixel (RE-R, section 4). Departures: width / height is drawn log-uniformly; objects
    that are hidden almost entirely are dropped.

    Raises:
        InputError: a range is empty, or an area is above 1.
    """

    p: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    inside: bool = True
    tries: int = 20
    min_visible: float = 0.3

    def __post_init__(self) -> None:
        for name, (low, high) in (("area", self.area), ("aspect", self.aspect)):
            if not 0 < low <= high or (name == "area" and high > 1):
                limit = " ≤ 1" if name == "area" else ""
                raise InputError(f"{name} is {(low, high)}, but must be (low, high) with 0 < low ≤ high{limit}")

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        target = within_image(target)
        whole = (0.0, 0.0, float(image.shape[2]), float(image.shape[1]))
        places = [whole, *(boxes_to_keep(target).tolist() if self.inside else [])]
        windows = [window for place in places if (window := self._window(place, generator)) is not None]
        if not windows:
            return image, target
        erased = image.clone()
        for x1, y1, x2, y2 in windows:
            source = torch.Generator().manual_seed(int(generator.integers(2**63)))
            shape = (int(image.shape[0]), y2 - y1, x2 - x1)
            if image.dtype == torch.uint8:
                values = torch.randint(256, shape, dtype=torch.uint8, generator=source)
            else:
                values = torch.rand(shape, generator=source).to(image.dtype)
            erased[:, y1:y2, x1:x2] = values
        return with_camera(erased, camera_of(image)), without_pixels(target, windows, self.min_visible)

    def _window(self, place: Sequence[float], generator: np.random.Generator) -> Window | None:
        """The rectangle to erase inside a box x1, y1, x2, y2 of the image; None for none."""
        if generator.random() >= self.p:
            return None
        left, top = math.ceil(place[0]), math.ceil(place[1])
        width, height = math.floor(place[2]) - left, math.floor(place[3]) - top
        for _ in range(self.tries):
            area = width * height * generator.uniform(*self.area)
            aspect = math.exp(generator.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            w, h = round(math.sqrt(max(area, 0) * aspect)), round(math.sqrt(max(area, 0) / aspect))
            if 0 < w < width and 0 < h < height:
                x, y = left + int(generator.integers(width - w + 1)), top + int(generator.integers(height - h + 1))
                return x, y, x + w, y + h
        return None


@singledispatch
def without_pixels(target: Any, windows: Sequence[Window], min_visible: float) -> Any:
    """The target of an image in which rectangles show something else; by default it does not change."""
    return target


@without_pixels.register
def _(target: Instances, windows: Sequence[Window], min_visible: float) -> Instances:
    if "boxes" not in target or not len(target):
        return target
    hidden = torch.zeros(target.image_size, dtype=torch.bool)
    for x1, y1, x2, y2 in windows:
        hidden[y1:y2, x1:x2] = True
    keep = torch.ones(len(target), dtype=torch.bool)
    for i, (x1, y1, x2, y2) in enumerate(target.boxes.tolist()):
        inside = hidden[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)]
        keep[i] = inside.numel() == 0 or 1 - float(inside.float().mean()) >= min_visible
    if "crowd" in target:
        keep |= target.crowd
    return target if bool(keep.all()) else target[keep]


@without_pixels.register
def _(target: ClassMap, windows: Sequence[Window], min_visible: float) -> ClassMap:
    labels = target.labels.clone()
    for x1, y1, x2, y2 in windows:
        labels[y1:y2, x1:x2] = IGNORE
    return ClassMap(labels, target.classes, source=target.source)

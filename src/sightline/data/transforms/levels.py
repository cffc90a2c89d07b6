"""Transforms that change the levels of each channel, not linearly, and sharpness; each needs a separate pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.data.transforms.base import Transform
from sightline.data.transforms.tone import to_dtype
from sightline.errors import InputError
from sightline.structures import camera_of, with_camera


@dataclass(frozen=True)
class AutoContrast(Transform):
    """Stretch each channel so that its darkest value becomes 0 and its lightest full scale, with probability `p`."""

    p: float = 1.0

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        if generator.random() >= self.p:
            return image, target
        return with_camera(stretched(image), camera_of(image)), target


@dataclass(frozen=True)
class Equalize(Transform):
    """Equalise the histogram of each channel, so that all levels are equally frequent, with probability `p`."""

    p: float = 1.0

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        if generator.random() >= self.p:
            return image, target
        return with_camera(equalized(image), camera_of(image)), target


@dataclass(frozen=True)
class Posterize(Transform):
    """Keep the highest `bits` of the eight bits of each value, with probability `p`.

    Raises:
        InputError: `bits` is not from 1 to 8.
    """

    bits: int = 4
    p: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise InputError(f"bits is {self.bits}, but an image keeps 1 to 8 bits of each value; 4 is usual")

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        if generator.random() >= self.p:
            return image, target
        return with_camera(posterized(image, self.bits), camera_of(image)), target


@dataclass(frozen=True)
class Solarize(Transform):
    """Invert the values from `threshold` on (a fraction of full scale), with probability `p`.

    Raises:
        InputError: the threshold is negative.
    """

    threshold: float = 0.5
    p: float = 1.0

    def __post_init__(self) -> None:
        if self.threshold < 0:
            raise InputError(f"threshold is {self.threshold}, but must be a fraction of full scale, such as 0.5")

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        if generator.random() >= self.p:
            return image, target
        return with_camera(solarized(image, self.threshold), camera_of(image)), target


@dataclass(frozen=True)
class Sharpness(Transform):
    """Scale the difference to the smoothed image by a factor from (1 − amount, 1 + amount), with probability `p`."""

    amount: float = 0.5
    p: float = 1.0

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        if generator.random() >= self.p:
            return image, target
        factor = generator.uniform(1 - self.amount, 1 + self.amount)
        return with_camera(sharpened(image, factor), camera_of(image)), target


def stretched(image: Tensor) -> Tensor:
    """Each channel of an image [C, H, W] stretched to full scale; a channel of a single value does not change."""
    full = 255.0 if image.dtype == torch.uint8 else 1.0
    flat = image.flatten(1).float()
    low, high = flat.amin(1)[:, None, None], flat.amax(1)[:, None, None]
    scale = torch.where(high > low, full / (high - low).clamp(min=1e-12), torch.ones_like(high))
    shift = torch.where(high > low, low, torch.zeros_like(low))
    return to_dtype((image.float() - shift) * scale, image.dtype)


def equalized(image: Tensor) -> Tensor:
    """Each channel of an image [C, H, W] with equally frequent levels; of uint8, as Pillow computes it.

    A value of a float image becomes the share of smaller values.
    """
    channels = []
    for plane in image.numpy():
        if image.dtype == torch.uint8:
            counts = np.bincount(plane.reshape(-1), minlength=256)
            step = (int(counts.sum()) - int(counts[np.flatnonzero(counts)[-1]])) // 255
            if step:
                before = np.concatenate([[0], np.cumsum(counts)[:-1]])
                plane = ((step // 2 + before) // step).clip(0, 255).astype(np.uint8)[plane]
        else:
            values = np.sort(plane, axis=None)
            rank = np.searchsorted(values, plane)
            others = len(values) - np.searchsorted(values, values[-1])
            plane = (rank / max(len(values) - others, 1)).astype(plane.dtype)
        channels.append(torch.from_numpy(np.ascontiguousarray(plane)))
    return torch.stack(channels)


def posterized(image: Tensor, bits: int) -> Tensor:
    """An image [C, H, W] with the highest `bits` of eight bits of each value."""
    step = 2 ** (8 - bits)
    if image.dtype == torch.uint8:
        return image // step * step
    return ((image * 255 / step + 1e-6).floor() * step / 255).to(image.dtype)


def solarized(image: Tensor, threshold: float) -> Tensor:
    """An image [C, H, W] whose values from `threshold` · full scale on are inverted."""
    full = 255 if image.dtype == torch.uint8 else 1
    return torch.where(image < threshold * full, image, full - image)


def sharpened(image: Tensor, factor: float) -> Tensor:
    """An image [C, H, W] whose difference to its smoothed self is scaled by `factor`; border pixels do not change."""
    if min(image.shape[1:]) < 3:
        return image
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    own = image.float()
    smooth = own.clone()
    smooth[:, 1:-1, 1:-1] = F.conv2d(own[:, None], kernel[None, None])[:, 0]
    return to_dtype(smooth + factor * (own - smooth), image.dtype)

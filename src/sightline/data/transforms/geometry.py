"""Geometric transforms: flips, rotations, shifts. Each returns a 3×3 matrix and a size; `Compose` resamples.

Ranges are (low, high) pairs; a single number r means (−r, r). All randomness comes from the generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sightline.data.transforms.compose import Geometric, Viewport
from sightline.structures import Size

Range = float | tuple[float, float]


@dataclass(frozen=True)
class HorizontalFlip(Geometric):
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    @property
    def mirrors(self) -> bool:
        return self.p > 0

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        if generator.random() >= self.p:
            return np.eye(3), view.size
        return affine(-1, 0, view.size[1], 0, 1, 0), view.size


@dataclass(frozen=True)
class VerticalFlip(Geometric):
    """Mirror top and bottom with probability `p`."""

    p: float = 0.5

    @property
    def mirrors(self) -> bool:
        return self.p > 0

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        if generator.random() >= self.p:
            return np.eye(3), view.size
        return affine(1, 0, 0, 0, -1, view.size[0]), view.size


@dataclass(frozen=True)
class QuarterTurn(Geometric):
    """Rotate by 90°, 180° or 270° (equally likely) with probability `p`: for images without an up direction."""

    p: float = 0.75

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        if generator.random() >= self.p:
            return np.eye(3), view.size
        return turn(view.size, 90.0 * int(generator.integers(1, 4)), expand=True)


@dataclass(frozen=True)
class Resize(Geometric):
    """Resize to (height, width), or so that the longer side has `size` pixels and the aspect ratio is kept."""

    size: int | tuple[int, int]

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        height, width = view.size
        if isinstance(self.size, int):
            factor = self.size / max(height, width)
            size = (max(1, round(height * factor)), max(1, round(width * factor)))
        else:
            size = self.size
        return affine(size[1] / width, 0, 0, 0, size[0] / height, 0), size


@dataclass(frozen=True)
class Rotate(Geometric):
    """Rotate about the centre by a random angle in degrees, counter-clockwise; `expand` enlarges the canvas to fit."""

    degrees: Range = 10.0
    expand: bool = False
    p: float = 1.0

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        if generator.random() >= self.p:
            return np.eye(3), view.size
        return turn(view.size, generator.uniform(*_pair(self.degrees)), self.expand)


@dataclass(frozen=True)
class Translate(Geometric):
    """Shift by whole pixels, by at most `fraction` of the width and of the height in either direction."""

    fraction: float = 0.1
    p: float = 1.0

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        if generator.random() >= self.p:
            return np.eye(3), view.size
        most = np.round(self.fraction * np.array([view.size[1], view.size[0]])).astype(np.int64)
        shift = generator.integers(-most, most + 1)
        return affine(1, 0, shift[0], 0, 1, shift[1]), view.size


@dataclass(frozen=True)
class Shear(Geometric):
    """Shear about the centre by random angles in degrees, horizontally (x) and vertically (y)."""

    degrees: Range = 5.0
    p: float = 1.0

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        if generator.random() >= self.p:
            return np.eye(3), view.size
        x, y = np.tan(np.radians(generator.uniform(*_pair(self.degrees), size=2)))
        return about_centre(affine(1, x, 0, y, 1, 0), view.size), view.size


def affine(a: float, b: float, c: float, d: float, e: float, f: float) -> np.ndarray:
    """The [3, 3] float64 matrix of x' = a·x + b·y + c and y' = d·x + e·y + f."""
    return np.array([[a, b, c], [d, e, f], [0, 0, 1]], dtype=np.float64)


def about_centre(matrix: np.ndarray, size: Size, new_size: Size | None = None) -> np.ndarray:
    """`matrix` applied about the centre of an image of `size`, which is mapped to the centre of one of `new_size`."""
    new_size = new_size or size
    to_origin = affine(1, 0, -size[1] / 2, 0, 1, -size[0] / 2)
    return affine(1, 0, new_size[1] / 2, 0, 1, new_size[0] / 2) @ matrix @ to_origin


def turn(size: Size, degrees: float, expand: bool) -> tuple[np.ndarray, Size]:
    """The step that rotates an image of `size` counter-clockwise about its centre."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if degrees % 90 == 0:  # exact, so that no pixel is interpolated
        cosine, sine = round(cosine), round(sine)
    new_size = size
    if expand:
        new_size = (
            math.ceil(size[0] * abs(cosine) + size[1] * abs(sine) - 1e-6),
            math.ceil(size[1] * abs(cosine) + size[0] * abs(sine) - 1e-6),
        )
    # y points down, so the counter-clockwise rotation is the transpose of the textbook matrix.
    return about_centre(affine(cosine, sine, 0, -sine, cosine, 0), size, new_size), new_size


def _pair(value: Range) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (-value, value)

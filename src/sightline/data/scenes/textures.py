"""Surface patterns of floor, walls and solids before shading."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from sightline.data.scenes.world import Body, Colour, Plane

_CELLS = 256
"""Side of the noise tile, a power of two."""


@lru_cache(maxsize=1)
def noise_tile() -> np.ndarray:
    """[256 · 256] float32 smooth noise in about [−1, 1] that repeats seamlessly; the same in every scene."""
    generator = np.random.Generator(np.random.PCG64(20))
    total = np.zeros((_CELLS, _CELLS), np.float32)
    for points, strength in ((8, 0.45), (16, 0.3), (32, 0.2), (64, 0.15), (128, 0.15), (256, 0.12)):
        lattice: np.ndarray = generator.random((points, points), np.float32) * 2 - 1
        for axis in (0, 1):
            step = _CELLS // points
            ramp = (np.arange(_CELLS, dtype=np.float32) % step) / step
            ramp = ramp * ramp * (3 - 2 * ramp)
            low, high = np.repeat(lattice, step, axis), np.repeat(np.roll(lattice, -1, axis), step, axis)
            ramp = ramp[:, None] if axis == 0 else ramp[None]
            lattice = low + (high - low) * ramp
        total += strength * lattice
    return total.ravel()


def noise(u: Any, v: Any) -> np.ndarray:
    """Smooth noise in about [−1, 1] at (u, v) with period 1."""
    column = (u * np.float32(_CELLS)).astype(np.int32) & (_CELLS - 1)
    row = (v * np.float32(_CELLS)).astype(np.int32) & (_CELLS - 1)
    return noise_tile()[(row << 8) | column]


def _scatter(number: Any) -> np.ndarray:
    """A pseudo-random number in [0, 1) for each integer."""
    mixed = number.astype(np.int32).view(np.uint32) * np.uint32(0x9E3779B1)  # wraps around, as hashes do
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x85EBCA6B)
    return (mixed >> np.uint32(22)).astype(np.float32) * np.float32(1 / 1024)


def _line(position: Any, width: float, blur: Any) -> np.ndarray:
    """The fraction of a pixel that is covered by lines at the integers: 0 … 1.

    Args:
        position: position of the pixel.
        width: width of the lines, in the same unit.
        blur: extent of a pixel, in the same unit; lines narrower than a pixel become faint rather than jagged.
    """
    off = position - np.floor(position)
    off = np.minimum(off, 1 - off)
    blur = blur + np.float32(width)
    return np.clip((width + blur - off) / blur, 0, 1) * (width / blur)


def tiles(u: Any, v: Any, pixel: Any) -> tuple[Any, Any]:
    """Square tiles with slightly different tones and joints."""
    tone = _scatter(np.floor(u) * 57 + np.floor(v))
    joint = np.maximum(_line(u, 0.015, pixel), _line(v, 0.015, pixel))
    return joint, 0.92 + 0.16 * tone + 0.1 * noise(u * 0.21, v * 0.21)


def checker(u: Any, v: Any, pixel: Any) -> tuple[Any, Any]:
    """A checkerboard of two colours, antialiased at the edges."""

    def wave(x: Any) -> np.ndarray:
        x = x * 0.5
        off = abs((x - np.floor(x)) * 2 - 1) - 0.5  # distance from the nearest edge, −0.5 … 0.5
        return np.clip(off / np.maximum(pixel, np.float32(1e-3)), -1, 1)

    return 0.5 - 0.5 * wave(u) * wave(v), 1 + 0.08 * noise(u * 0.17, v * 0.17)


def planks(u: Any, v: Any, pixel: Any) -> tuple[Any, Any]:
    """Long boards with grain, with a different tone each."""
    board = np.floor(v)
    tone = _scatter(board)
    along = u * 0.2 + tone * 7
    joint = np.maximum(_line(v, 0.02, pixel), _line(along, 0.004, pixel * 0.2))
    tone = _scatter(board * 31 + np.floor(along))
    grain = noise(along * 0.15, v * 0.31 + tone)
    return np.maximum(joint, np.clip(0.35 * tone + 0.45 * grain, 0, 1)), 0.9 + 0.2 * tone


def stone(u: Any, v: Any, pixel: Any) -> tuple[Any, Any]:
    """Cloudy stone, concrete or plaster."""
    cloud = noise(u, v)
    return np.clip(0.5 + 0.9 * cloud, 0, 1), 1 + 0.05 * noise(u * 2.7 + 0.3, v * 2.7)


def carpet(u: Any, v: Any, pixel: Any) -> tuple[Any, Any]:
    """Soft stripes of a woven carpet."""
    fine = noise(u * 1.3, v * 1.3)
    off = u - np.floor(u)
    stripe = np.clip((0.3 - abs(off - 0.5)) * 8, 0, 1)
    return stripe, 1 + 0.22 * fine


def bricks(u: Any, v: Any, pixel: Any) -> tuple[Any, Any]:
    """Courses of bricks with mortar."""
    v = v * 2.6
    course = np.floor(v)
    u = u + 0.5 * (course - 2 * np.floor(course * 0.5))
    tone = _scatter(course * 57 + np.floor(u))
    mortar = np.maximum(_line(u, 0.02, pixel), _line(v, 0.05, pixel * 2.6))
    return mortar, 0.86 + 0.28 * tone + 0.08 * noise(u * 0.13, v * 0.13)


def stripes(u: Any, v: Any, pixel: Any) -> tuple[Any, Any]:
    """Wallpaper of broad stripes."""
    off = u - np.floor(u)
    edge = abs(abs(off - 0.5) - 0.25) / np.maximum(pixel, np.float32(1e-3))
    inside = np.where(abs(off - 0.5) < 0.25, edge, -edge)
    return np.clip(0.5 + inside, 0, 1) * np.float32(0.7), 1 + 0.04 * noise(u * 0.2, v * 0.2)


def panels(u: Any, v: Any, pixel: Any) -> tuple[Any, Any]:
    """Large plates with thin joints."""
    joint = np.maximum(_line(u, 0.006, pixel), _line(v, 0.006, pixel))
    return joint, 0.97 + 0.06 * _scatter(np.floor(u) * 57 + np.floor(v)) + 0.05 * noise(u * 0.3, v * 0.3)


PATTERNS: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    function.__name__: function for function in (tiles, checker, planks, stone, carpet, bricks, stripes, panels)
}
"""Name → function of (u, v, pixel), in units of the pattern scale: weight of the second colour, and brightness."""


def plane_albedo(plane: Plane, p: tuple[Any, Any, Any], pixel: Any) -> list[np.ndarray]:
    """Reflectance for red, green and blue light at points of the floor or a wall.

    Args:
        plane: the floor or wall.
        p: world coordinates of the points, in metres.
        pixel: extent of a pixel at the points, in metres.
    """
    scale = 1 / plane.scale
    (a, b, _), (d, e, f) = plane.across, plane.along
    # An offset of one unit avoids truncation towards zero at zero.
    u = (p[0] * (a * scale) + p[1] * (b * scale)) + (plane.shift[0] + 40.0)
    v = (p[0] * (d * scale) + p[1] * (e * scale) if f == 0 else p[2] * (f * scale)) + (plane.shift[1] + 40.0)
    mix, gain = PATTERNS[plane.pattern](u, v, pixel * scale)
    colours = [(first + (second - first) * mix) * gain for first, second in zip(*plane.colours, strict=True)]
    if plane.skirting is not None:
        strip = np.clip((0.14 - p[2]) / pixel + 0.5, 0, 1)
        colours = [value + (tone - value) * strip for value, tone in zip(colours, plane.skirting, strict=True)]
    return colours


def solid_pattern(body: Body, p: tuple[Any, Any, Any]) -> np.ndarray | None:
    """Where a solid has its second colour.

    Args:
        body: the solid.
        p: points of its surface in the solid's frame, in metres.

    Returns:
        bool array, or None for materials with one colour.
    """
    x, y, z = body.shape.half
    if body.material == "striped":
        # Along the axis, except for a ring, which is too thin for stripes along its axis.
        value, reach = (p[0], x) if body.class_name == "ring" else (p[2], z)
        return (value * (2.5 / reach) + 40.25).astype(np.int32) & 1 == 1
    if body.material == "checkered":
        scale = 1.9 / max(x, y, z)
        cells = [(value * scale + 40.37).astype(np.int32) for value in p]
        return (cells[0] + cells[1] + cells[2]) & 1 == 1
    return None


def second_tint(tint: Colour) -> Colour:
    """The second colour of striped and checkered solids: a light cream, or near black on pale solids."""
    if min(tint) > 0.5:
        return 0.1, 0.1, 0.1
    return 0.78, 0.74, 0.66

"""A world before rendering: solids on a floor between walls, a light and a camera.

World frame: metres, x to the right, y away from the camera, z up, the origin on the floor below the camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from sightline.data.scenes.camera import Camera, outline_box
from sightline.data.scenes.shapes import Shape

Colour = tuple[float, float, float]
"""Red, green and blue, linear."""

T = TypeVar("T")


class Dice:
    """Random choices from a stream of numbers in [0, 1) that is the same on all machines and NumPy versions."""

    def __init__(self, seed: int, attempt: int = 0, frame: int = 0):
        words = [
            seed & 0xFFFFFFFF,
            seed >> 32,
            attempt,
            frame,
        ]  # always four: short seeds are zero-padded
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(self._generator.random())

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, inclusive."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        return items[self.integer(0, len(items) - 1)]

    def bytes(self, count: int) -> np.ndarray:
        """`count` integers from 0 to 255, uint8."""
        return np.frombuffer(self._generator.bytes(count), np.uint8)


@dataclass(frozen=True, eq=False)
class Body:
    """A solid with a position.

    Attributes:
        id: its number in the scene or video, from 1.
        class_name, colour, material, size: names in the catalogue.
        shape: the solid in its own frame.
        rotation: [3, 3] float64, from the solid's frame to the world.
        centre: [3] float64, centre of its bounding cuboid in the world, in metres.
        tint: its reflectance, close to that of its colour.
        on: id of the body it stands on, or None for the floor.
    """

    id: int
    class_name: str
    colour: str
    material: str
    size: str
    shape: Shape
    rotation: np.ndarray
    centre: np.ndarray
    tint: Colour
    on: int | None = None

    def outline(self, camera: Camera) -> list[float]:
        """x1, y1, x2, y2 of the whole outline in pixels, including occluded parts and parts outside the image."""
        known = self.__dict__.get("_outline")  # cached, because it is used whenever another body is placed
        if known is None or known[0] is not camera:
            known = (camera, outline_box(self.shape, self.rotation, self.centre, camera))
            object.__setattr__(self, "_outline", known)
        return known[1]


@dataclass(frozen=True)
class Plane:
    """The floor or a wall, with its pattern.

    Attributes:
        kind: "floor" or "wall".
        normal: unit vector into the room, in the world frame.
        offset: normal · x of the plane's points x, in metres.
        across, along: unit vectors in the plane for the pattern's u and v.
        pattern: name of a function in `textures.PATTERNS`.
        colours: the two colours of the pattern.
        scale: size of the pattern, in metres.
        shift: (u, v) of the pattern's origin, in metres.
        skirting: colour of the strip above the floor, for walls only; None for no strip.
    """

    kind: str
    normal: Colour
    offset: float
    across: Colour
    along: Colour
    pattern: str
    colours: tuple[Colour, Colour]
    scale: float
    shift: tuple[float, float]
    skirting: Colour | None = None


@dataclass(frozen=True, eq=False)
class Light:
    """A distant lamp with a disc, and ambient light.

    Attributes:
        direction: unit vector from the scene to the centre of the lamp.
        disc: [9, 3] unit vectors to nine points of the lamp, for soft shadows.
        spread: tangent of the lamp's angular radius.
        colour: light of the lamp.
        above, below: ambient light from above and from below.
        pool: (x, y) on the floor where the light is brightest, in metres; it falls off from there.
    """

    direction: Colour
    disc: np.ndarray
    spread: float
    colour: Colour
    above: Colour
    below: Colour
    pool: tuple[float, float]


@dataclass(frozen=True, eq=False)
class World:
    """Everything that is rendered.

    Attributes:
        camera: the camera.
        light: the light.
        planes: the floor and one or two walls; together they close the view.
        bodies: the solids.
        grain: strength of the sensor noise, in levels of 255.
        exposure: brightness of the image.
    """

    camera: Camera
    light: Light
    planes: tuple[Plane, ...]
    bodies: tuple[Body, ...]
    grain: float
    exposure: float

    @cached_property
    def outlines(self) -> list[list[float]]:
        """For each body, x1, y1, x2, y2 of the whole outline in pixels."""
        return [body.outline(self.camera) for body in self.bodies]

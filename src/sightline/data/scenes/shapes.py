"""The five solids: ray intersection, surface normals, extents, and meshes.

Every solid has its own frame: metres, centred on its bounding cuboid, z along its axis. Pixel values depend only on +,
−, ×, ÷ and square roots, because these are rounded identically on all machines: the same seed gives the same image.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.data.scenes.meshes import Mesh, lathe, turns

Vector = tuple[Any, Any, Any]
"""Three coordinates: floats, or float32 arrays of one shape. They are separate because this is fast and exact."""

_TINY = 1e-12
_STEPS = 24
"""Maximum number of steps of a ray towards a ring."""
_ARRIVED, _GRAZED = 1e-4, 1e-3
"""Distance in metres at which a ray has reached a ring: during the steps, and after the last one."""


def dot(a: Vector, b: Vector) -> Any:
    """The scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


class Shape(ABC):
    """A solid in its own frame."""

    convex = True

    @property
    @abstractmethod
    def half(self) -> tuple[float, float, float]:
        """Half the sides of the bounding cuboid, metres along x, y, z."""

    @property
    def bound(self) -> float:
        """Radius in metres of a sphere about the centre that contains the solid."""
        return math.sqrt(dot(self.half, self.half))

    @abstractmethod
    def hit(self, o: Vector, d: Vector, start: Any) -> np.ndarray:
        """Intersect the lines o + t·d with the solid.

        Args:
            o: points of the lines near the solid (where float32 is precise), arrays of one shape.
            d: directions of any length, of the same shape.
            start: t at which the search begins; convex solids return the first entry of the line even if it is before.

        Returns:
            t of the entry, float32, of the shape of the coordinates; infinity if a line misses.
        """

    @abstractmethod
    def normal(self, p: Vector) -> Vector:
        """Outward unit normals at points of the surface."""

    @abstractmethod
    def support(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """The point of the solid farthest along the direction (x, y, z)."""

    @abstractmethod
    def mesh(self) -> Mesh:
        """Triangles whose vertices lie on the surface."""


def _entry(near: np.ndarray, far: np.ndarray) -> np.ndarray:
    return np.where(near < far, near, np.float32(np.inf))


@dataclass(frozen=True)
class Sphere(Shape):
    """A sphere; `radius` in metres."""

    radius: float

    @property
    def half(self) -> tuple[float, float, float]:
        return self.radius, self.radius, self.radius

    @property
    def bound(self) -> float:
        return self.radius

    def hit(self, o: Vector, d: Vector, start: Any) -> np.ndarray:
        a, b = dot(d, d), dot(o, d)
        room = b * b - a * (dot(o, o) - self.radius**2)
        return np.where(room > 0, (-b - np.sqrt(np.maximum(room, 0))) / a, np.float32(np.inf))

    def normal(self, p: Vector) -> Vector:
        return p[0] / self.radius, p[1] / self.radius, p[2] / self.radius

    def support(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        scale = self.radius / math.sqrt(x * x + y * y + z * z)
        return x * scale, y * scale, z * scale

    def mesh(self) -> Mesh:
        return lathe([(self.radius * s, -self.radius * c) for c, s in turns(12, math.pi)], 24)


@dataclass(frozen=True)
class Box(Shape):
    """A cuboid; `half` are its half sides in metres."""

    half: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def hit(self, o: Vector, d: Vector, start: Any) -> np.ndarray:
        near = far = None
        for origin, direction, half in zip(o, d, self.half, strict=True):
            inverse = 1 / np.where(direction == 0, np.float32(_TINY), direction)
            middle, reach = -origin * inverse, abs(inverse) * half
            near = middle - reach if near is None else np.maximum(near, middle - reach)
            far = middle + reach if far is None else np.minimum(far, middle + reach)
        assert near is not None
        assert far is not None
        return _entry(near, far)

    def normal(self, p: Vector) -> Vector:
        depths = [abs(value) - half for value, half in zip(p, self.half, strict=True)]
        on_x = (depths[0] >= depths[1]) & (depths[0] >= depths[2])
        on_y = ~on_x & (depths[1] >= depths[2])
        return np.sign(p[0]) * on_x, np.sign(p[1]) * on_y, np.sign(p[2]) * ~(on_x | on_y)

    def support(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        a, b, c = self.half
        return math.copysign(a, x), math.copysign(b, y), math.copysign(c, z)

    def mesh(self) -> Mesh:
        signs = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], np.float32)
        quads = [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]]
        faces = [triangle for q in quads for triangle in ([q[0], q[1], q[2]], [q[0], q[2], q[3]])]
        return signs * np.array(self.half, np.float32), np.array(faces, np.int64)


@dataclass(frozen=True)
class Cylinder(Shape):
    """A cylinder along z; `radius` and `height` in metres."""

    radius: float
    height: float

    @property
    def half(self) -> tuple[float, float, float]:
        return self.radius, self.radius, self.height / 2

    @property
    def bound(self) -> float:
        return math.hypot(self.radius, self.height / 2)

    def hit(self, o: Vector, d: Vector, start: Any) -> np.ndarray:
        a = np.maximum(d[0] * d[0] + d[1] * d[1], np.float32(_TINY))
        b = o[0] * d[0] + o[1] * d[1]
        room = b * b - a * (o[0] * o[0] + o[1] * o[1] - self.radius**2)
        root = np.sqrt(np.maximum(room, 0))
        near_z, far_z = _slab(o[2], d[2], -self.height / 2, self.height / 2)
        t = _entry(np.maximum((-b - root) / a, near_z), np.minimum((-b + root) / a, far_z))
        return np.where(room > 0, t, np.float32(np.inf))

    def normal(self, p: Vector) -> Vector:
        distance = np.maximum(np.sqrt(p[0] * p[0] + p[1] * p[1]), np.float32(_TINY))
        cap = abs(p[2]) - self.height / 2 > distance - self.radius
        side = ~cap / distance
        return p[0] * side, p[1] * side, np.sign(p[2]) * cap

    def support(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        scale = self.radius / max(math.hypot(x, y), _TINY)
        return x * scale, y * scale, math.copysign(self.height / 2, z)

    def mesh(self) -> Mesh:
        low, high = -self.height / 2, self.height / 2
        return lathe([(0.0, low), (self.radius, low), (self.radius, high), (0.0, high)], 24)


@dataclass(frozen=True)
class Cone(Shape):
    """A cone with its apex at z = height / 2 and its base at −height / 2; `radius` of the base; both in metres."""

    radius: float
    height: float

    @property
    def half(self) -> tuple[float, float, float]:
        return self.radius, self.radius, self.height / 2

    @property
    def bound(self) -> float:
        return math.hypot(self.radius, self.height / 2)

    def hit(self, o: Vector, d: Vector, start: Any) -> np.ndarray:
        slope = self.radius / self.height
        squared = slope * slope
        o_w, d_w = self.height / 2 - o[2], -d[2]  # w runs from the apex, 0, to the base, the height
        a = d[0] * d[0] + d[1] * d[1] - squared * d_w * d_w
        b = o[0] * d[0] + o[1] * d[1] - squared * o_w * d_w
        c = o[0] * o[0] + o[1] * o[1] - squared * o_w * o_w
        room = b * b - a * c
        root = np.sqrt(np.maximum(room, 0))
        a = np.where(abs(a) < _TINY, np.float32(_TINY), a)
        first, second = (-b - root) / a, (-b + root) / a
        near, far = np.minimum(first, second), np.maximum(first, second)
        # A shallow ray is inside between its hits; a steep one is inside one half of the double cone from a hit on.
        steep, down = a < 0, d_w > 0
        infinite = np.float32(np.inf)
        near, far = (
            np.where(steep, np.where(down, far, -infinite), near),
            np.where(steep & ~down, near, np.where(steep, infinite, far)),
        )
        near_w, far_w = _slab(o_w, d_w, 0.0, self.height)
        t = _entry(np.maximum(near, near_w), np.minimum(far, far_w))
        return np.where(room > 0, t, infinite)

    def normal(self, p: Vector) -> Vector:
        slope = self.radius / self.height
        lean = 1 / math.sqrt(1 + slope * slope)
        distance = np.maximum(np.sqrt(p[0] * p[0] + p[1] * p[1]), np.float32(_TINY))
        below = -self.height / 2 - p[2]
        base = below > (distance - slope * (self.height / 2 - p[2])) * lean
        side = ~base * np.float32(lean)
        return p[0] / distance * side, p[1] / distance * side, side * np.float32(slope) - base

    def support(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        across = math.hypot(x, y)
        if z * self.height > across * self.radius:
            return 0.0, 0.0, self.height / 2
        scale = self.radius / max(across, _TINY)
        return x * scale, y * scale, -self.height / 2

    def mesh(self) -> Mesh:
        return lathe([(0.0, -self.height / 2), (self.radius, -self.height / 2), (0.0, self.height / 2)], 24)


@dataclass(frozen=True)
class Ring(Shape):
    """A torus about z; `radius` from the centre to the middle of the tube, `tube` is its radius; both in metres."""

    radius: float
    tube: float
    convex = False

    @property
    def half(self) -> tuple[float, float, float]:
        return self.radius + self.tube, self.radius + self.tube, self.tube

    @property
    def bound(self) -> float:
        return self.radius + self.tube

    def hit(self, o: Vector, d: Vector, start: Any) -> np.ndarray:
        """See `Shape.hit`; uses sphere tracing (Hart 1996) between entry and exit of the bounding cylinder.

        Rays that graze the tube converge slowly; those within a millimetre of it after the last step count as hits.
        """
        a = np.maximum(d[0] * d[0] + d[1] * d[1], np.float32(_TINY))
        b = o[0] * d[0] + o[1] * d[1]
        room = b * b - a * (o[0] * o[0] + o[1] * o[1] - (self.radius + self.tube) ** 2)
        root = np.sqrt(np.maximum(room, 0))
        near_z, far_z = _slab(o[2], d[2], -self.tube, self.tube)
        near = np.maximum(np.maximum((-b - root) / a, near_z), start)
        far = np.minimum((-b + root) / a, far_z)
        result = np.full(near.shape, np.inf, np.float32)
        chosen = np.flatnonzero((room > 0) & (near < far))
        if chosen.size:
            o = (o[0].ravel()[chosen], o[1].ravel()[chosen], o[2].ravel()[chosen])
            d = (d[0].ravel()[chosen], d[1].ravel()[chosen], d[2].ravel()[chosen])
            result.ravel()[chosen] = self._polish(o, d, self._march(o, d, near.ravel()[chosen], far.ravel()[chosen]))
        return result

    def _march(self, o: Vector, d: Vector, t: np.ndarray, far: np.ndarray) -> np.ndarray:
        result = np.full(t.shape, np.inf, np.float32)
        alive = np.arange(t.size)
        pace = 1 / np.sqrt(dot(d, d))
        for step in range(1, _STEPS + 1):
            x, y, z = o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]
            off = np.sqrt(x * x + y * y) - self.radius
            distance = np.sqrt(off * off + z * z) - self.tube
            t = t + distance * pace
            if step % 4 and step < _STEPS:  # finished rays are removed only now and then: it costs as much as a step
                continue
            arrived = distance < (_ARRIVED if step < _STEPS else _GRAZED)
            result[alive[arrived]] = t[arrived]
            on = np.flatnonzero(~arrived & (t < far))
            if not on.size:
                break
            alive, t, far, pace = alive[on], t[on], far[on], pace[on]
            o, d = (o[0][on], o[1][on], o[2][on]), (d[0][on], d[1][on], d[2][on])
        return result

    def _polish(self, o: Vector, d: Vector, t: np.ndarray) -> np.ndarray:
        """Two Newton steps: a ray at a grazing angle is still millimetres away along its direction."""
        on = np.flatnonzero(t < np.inf)
        o, d, t_on = (o[0][on], o[1][on], o[2][on]), (d[0][on], d[1][on], d[2][on]), t[on]
        steepest = -0.03 * np.sqrt(dot(d, d))
        for _ in range(2):
            x, y, z = o[0] + t_on * d[0], o[1] + t_on * d[1], o[2] + t_on * d[2]
            distance = np.sqrt(x * x + y * y)
            off = distance - self.radius
            away = np.sqrt(off * off + z * z)
            slope = (off * (x * d[0] + y * d[1]) / distance + z * d[2]) / away
            t_on = t_on - (away - self.tube) / np.minimum(slope, steepest)
        t[on] = t_on
        return t

    def normal(self, p: Vector) -> Vector:
        distance = np.maximum(np.sqrt(p[0] * p[0] + p[1] * p[1]), np.float32(_TINY))
        inward = self.radius / distance
        x, y, z = p[0] - p[0] * inward, p[1] - p[1] * inward, p[2]
        scale = 1 / np.maximum(np.sqrt(x * x + y * y + z * z), np.float32(_TINY))
        return x * scale, y * scale, z * scale

    def support(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        wide = self.radius / max(math.hypot(x, y), _TINY)
        round_ = self.tube / math.sqrt(x * x + y * y + z * z)
        return x * (wide + round_), y * (wide + round_), z * round_

    def mesh(self) -> Mesh:
        rim = [(self.radius + self.tube * c, self.tube * s) for c, s in turns(12, 2 * math.pi)]
        return lathe(rim, 24)


def _slab(o: Any, d: Any, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    inverse = 1 / np.where(d == 0, np.float32(_TINY), d)
    middle, reach = ((low + high) / 2 - o) * inverse, abs(inverse) * ((high - low) / 2)
    return middle - reach, middle + reach

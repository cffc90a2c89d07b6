"""Shading: the colours of the points hit by rays."""

from __future__ import annotations

import math

import numpy as np

from sightline.data.scenes.shapes import Vector, dot
from sightline.data.scenes.textures import plane_albedo, second_tint, solid_pattern
from sightline.data.scenes.world import Body, World

_GLOSS = {"shiny": 0.55, "metal": 0.8}
"""Strength of the highlight."""


def cast(body: Body, origin: Vector, direction: Vector, start: float = 0.0) -> np.ndarray:
    """Intersect rays from `origin` along `direction` (world frame) with `body`.

    Args:
        body: the solid.
        origin: floats or float32 arrays, in metres.
        direction: float32 arrays, of any length.
        start: the minimum t.

    Returns:
        t of the first entry at origin + t · direction, float32; infinity if a ray misses.
    """
    local_o, local_d = to_local(body, origin, body.centre.tolist()), to_local(body, direction)
    # Relative to the point of the ray nearest to the solid, numbers are small and float32 is precise to 0.1 mm.
    shift = -dot(local_o, local_d) / dot(local_d, local_d)
    near: Vector = tuple(o + shift * d for o, d in zip(local_o, local_d, strict=True))
    t = body.shape.hit(near, local_d, start - shift) + shift
    return np.where(t > start, t, np.float32(np.inf))


def to_local(body: Body, v: Vector, centre: list[float] | None = None) -> Vector:
    """World vectors, or world points minus `centre`, in the body's frame."""
    x, y, z = v if centre is None else (v[0] - centre[0], v[1] - centre[1], v[2] - centre[2])
    (a, b, c), (d, e, f), (g, h, i) = body.rotation.tolist()
    return a * x + d * y + g * z, b * x + e * y + h * z, c * x + f * y + i * z


def to_world(body: Body, v: Vector) -> Vector:
    """Vectors in the body's frame, converted to the world frame."""
    x, y, z = v
    (a, b, c), (d, e, f), (g, h, i) = body.rotation.tolist()
    return a * x + b * y + c * z, d * x + e * y + f * z, g * x + h * y + i * z


class Points:
    """The points hit by rays, with their surface properties before shading.

    Args:
        world: the world.
        direction: direction of the rays from the camera, scaled so that t is the depth; float32 arrays [N].
        t: depth of the hit in metres, float32 [N].
        owner: the object hit: index in `world.bodies`, or their number plus the index in `world.planes`, int8 [N].
    """

    def __init__(self, world: World, direction: Vector, t: np.ndarray, owner: np.ndarray):
        self.world, self.direction, self.t, self.owner = world, direction, t, owner
        camera = world.camera.position.tolist()
        self.position: Vector = (
            direction[0] * t + camera[0],
            direction[1] * t + camera[1],
            direction[2] * t + camera[2],
        )
        count = len(t)
        self.normal: Vector = (np.empty(count, np.float32), np.empty(count, np.float32), np.empty(count, np.float32))
        self.albedo = np.empty((3, count), np.float32)
        self.edges = owner.copy()
        """The owner, and for solids with two colours which of them; neighbouring pixels that differ form an edge."""
        self.members = [np.flatnonzero(owner == k) for k in range(len(world.bodies) + len(world.planes))]
        for body, ids in zip(world.bodies, self.members, strict=False):
            if ids.size:
                self._describe_body(body, ids)
        for plane, ids in zip(world.planes, self.members[len(world.bodies) :], strict=True):
            if ids.size:
                for axis in range(3):
                    self.normal[axis][ids] = plane.normal[axis]
                lean = abs(sum(self.direction[axis][ids] * plane.normal[axis] for axis in range(3)))
                pixel = t[ids] / np.maximum(lean, np.float32(0.15)) * np.float32(0.7 / world.camera.focal)
                colours = plane_albedo(plane, self.at(ids), pixel)
                for channel in range(3):
                    self.albedo[channel][ids] = colours[channel]

    def at(self, ids: np.ndarray) -> Vector:
        """World coordinates of the selected points."""
        return self.position[0][ids], self.position[1][ids], self.position[2][ids]

    def _describe_body(self, body: Body, ids: np.ndarray) -> None:
        local = to_local(body, self.at(ids), body.centre.tolist())
        for axis, values in enumerate(to_world(body, body.shape.normal(local))):
            self.normal[axis][ids] = values
        second = solid_pattern(body, local)
        for channel in range(3):
            first = body.tint[channel]
            if second is None:
                self.albedo[channel][ids] = first
            else:
                other = second_tint(body.tint)[channel]
                self.albedo[channel][ids] = np.where(second, np.float32(other), np.float32(first))
        if second is not None:
            self.edges[ids] += np.int8(64) * second


def lamp_light(points: Points, lamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The light from the lamp at each point: cosine of the incidence angle, and 0 if it is occluded, else 1.

    Args:
        points: the points.
        lamp: which of the nine sample points on the lamp's disc each point uses, [N] integers.

    Returns:
        [N] float32 cosine and [N] float32 visibility.
    """
    light = points.world.light
    slant = np.maximum(dot(points.normal, light.direction), 0)
    seen = np.ones(len(slant), np.float32)
    lit = slant > 0
    # Projected along the light, points and solids lie in a plane; a solid can only shade points near it in that plane.
    first, second = _sheet(light.direction)
    u, v = dot(points.position, first), dot(points.position, second)
    disc = light.disc.astype(np.float32)
    for number, body in enumerate(points.world.bodies):
        centre: Vector = tuple(body.centre.tolist())
        bound = body.shape.bound
        thrown = (centre[2] + bound) / light.direction[2]  # from its top to the floor
        reach = bound + light.spread * thrown  # light from the edge of the disc is oblique
        x, y = u - dot(centre, first), v - dot(centre, second)
        ids = np.flatnonzero((x * x + y * y < reach * reach) & lit)
        if body.shape.convex:
            ids = ids[points.owner[ids] != number]  # a convex solid casts no shadow on itself
        if not ids.size:
            continue
        towards = disc[lamp[ids]]
        direction = (towards[:, 0], towards[:, 1], towards[:, 2])
        px, py, pz = points.at(ids)
        nx, ny, nz = (n[ids] * np.float32(0.004) for n in points.normal)
        seen[ids[cast(body, (px + nx, py + ny, pz + nz), direction) < np.inf]] = 0
    return slant, seen


def _sheet(direction: Vector) -> tuple[Vector, Vector]:
    """Two unit vectors perpendicular to `direction` (which is not vertical) and to each other."""
    x, y, z = direction
    across = math.sqrt(x * x + y * y)
    return (-y / across, x / across, 0.0), (-z * x / across, -z * y / across, across)


def open_sky(points: Points) -> np.ndarray:
    """The ambient light that reaches each point: less near solids, which are approximated by spheres.

    A sphere of radius r at distance d occludes cos · (r / d)² of the light at a small surface (the form factor of a
    sphere); occlusions are multiplied.

    Returns:
        [N] float32 in (0, 1].
    """
    share = np.ones(len(points.t), np.float32)
    for number, body in enumerate(points.world.bodies):
        cx, cy, cz = body.centre.tolist()
        radius = 0.8 * body.shape.bound
        x, y = cx - points.position[0], cy - points.position[1]
        near = (x * x + y * y < 9 * radius * radius) & (points.owner != number)
        ids = np.flatnonzero(near)
        if not ids.size:
            continue
        away = (x[ids], y[ids], cz - points.position[2][ids])
        squared = np.maximum(dot(away, away), np.float32(radius * radius))
        cosine = np.maximum(dot(tuple(n[ids] for n in points.normal), away), 0)
        taken = cosine / np.sqrt(squared) * (radius * radius / squared)
        share[ids] *= 1 - np.float32(0.75) * taken
    return share


def colour(points: Points, slant: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The light from the points to the camera.

    Args:
        points: the points.
        slant, seen: the results of `lamp_light`.

    Returns:
        [3, N] float32, linear.
    """
    world = points.world
    light = world.light
    x, y = points.position[0] - light.pool[0], points.position[1] - light.pool[1]
    fullness = 1 / (1 + (x * x + y * y) * np.float32(0.012))
    direct = slant * seen * fullness
    around = open_sky(points) * (np.float32(0.4) + np.float32(0.6) * fullness)
    upward = (np.float32(0.5) + np.float32(0.5) * points.normal[2]) * around
    rgb = points.albedo
    for channel in range(3):
        below, above = light.below[channel], light.above[channel]
        rgb[channel] *= direct * light.colour[channel] + upward * (above - below) + around * below
    for number, body in enumerate(world.bodies):
        ids = points.members[number]
        if ids.size and body.material in _GLOSS:
            _add_gloss(points, body, ids, direct[ids], seen[ids], around[ids], rgb)
    return rgb


def _add_gloss(
    points: Points,
    body: Body,
    ids: np.ndarray,
    direct: np.ndarray,
    seen: np.ndarray,
    around: np.ndarray,
    rgb: np.ndarray,
) -> None:
    """Add highlights and reflections of a shiny or metal body, in place."""
    light = points.world.light
    normal: Vector = tuple(n[ids] for n in points.normal)
    ray: Vector = tuple(d[ids] for d in points.direction)
    inverse = 1 / np.sqrt(dot(ray, ray))
    ray = (ray[0] * inverse, ray[1] * inverse, ray[2] * inverse)
    facing = dot(ray, normal)
    mirrored = (ray[0] - 2 * facing * normal[0], ray[1] - 2 * facing * normal[1], ray[2] - 2 * facing * normal[2])
    shine = np.maximum(dot(mirrored, light.direction), 0)
    for _ in range(4 if body.material == "metal" else 5):  # to the power of 16 or 32
        shine = shine * shine
    shine = shine * seen * _GLOSS[body.material]
    edge = np.clip(1 + facing, 0, 1)
    edge = edge * edge
    edge = edge * edge * np.clip(1 + facing, 0, 1)  # fifth power, as in Schlick's approximation
    metal = body.material == "metal"
    around_colour = _surroundings(points, ids, mirrored)
    for channel in range(3):
        tint = body.tint[channel] if metal else 1.0
        share = 0.3 + 0.7 * tint if metal else 1.0
        mirror = (0.95 + 0.3 * edge) * (0.12 + 0.88 * tint) if metal else 0.04 + 0.5 * edge
        value = rgb[channel][ids]
        if metal:
            value = value * np.float32(0.22)
        rgb[channel][ids] = value + shine * (share * light.colour[channel]) + mirror * around_colour[channel] * around


def _surroundings(points: Points, ids: np.ndarray, mirrored: Vector) -> list[np.ndarray]:
    """The light that a mirror reflects from floor, walls and from above."""
    world = points.world
    floor, wall = world.planes[0], world.planes[1]
    x, y, z = points.at(ids)
    down = np.minimum(mirrored[2], np.float32(-0.05))
    t = np.minimum(-z / down, np.float32(12))
    place = (x + t * mirrored[0], y + t * mirrored[1], z * 0)
    ground = plane_albedo(floor, place, np.full(len(x), 0.05, np.float32))
    is_ground = np.clip(-mirrored[2] * 6 + np.float32(0.2), 0, 1)
    height = np.clip(mirrored[2], 0, 1)
    light = world.light
    lit = max(light.direction[2], 0.3)
    colours = []
    for channel in range(3):
        up = wall.colours[0][channel] * (light.above[channel] * 0.9) + height * (1.1 * light.above[channel])
        low = ground[channel] * (light.colour[channel] * lit * 0.8 + light.above[channel] * 0.7)
        colours.append(up + (low - up) * is_ground)
    return colours

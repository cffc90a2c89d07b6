"""Eight named points of every solid, and their visibility."""

from __future__ import annotations

import math

import numpy as np

from sightline.data.scenes.camera import Camera, cross
from sightline.data.scenes.catalog import POINTS
from sightline.data.scenes.light import cast
from sightline.data.scenes.shapes import Box, Cone, Cylinder, Ring, Sphere
from sightline.data.scenes.world import Body

_TOLERANCE = 0.005
"""Distance in metres by which another solid must be nearer to occlude a point."""
_ROUND = 0.35
"""The same within one round solid, as a fraction of its radius: seen from nearby, the leftmost point of a ball is
slightly behind the ball's outline, and must count as visible."""


def surface_points(body: Body, camera: Camera) -> np.ndarray:
    """[P, 3] float64 world coordinates of the body's named points, in the order of `catalog.KEYPOINTS`; P ≤ 8."""
    shape, centre = body.shape, body.centre
    up = np.array([0.0, 0.0, 1.0])
    towards = _unit((camera.position - centre) * (1, 1, 0))
    right = cross(up, towards)
    axis = body.rotation[:, 2]
    if isinstance(shape, Box):
        x, y, z = (body.rotation * shape.half).T
        below = [-x - y, x - y, x + y, y - x]  # counter-clockwise seen from above
        first = int(np.argmax([corner @ towards for corner in below]))
        below = [below[(first + k) % 4] for k in range(4)]
        return centre + np.array([corner + side * z for side in (1, -1) for corner in below])
    if isinstance(shape, Sphere):
        return centre + shape.radius * np.array([up, -up, towards, right, -towards, -right])
    if abs(axis[2]) > 0.7:
        front, side = _unit(towards - axis * (axis @ towards)), right
    else:
        front = _unit(up - axis * (axis @ up))
        side = cross(axis, front)
        side = -side if side @ right < 0 else side
    if isinstance(shape, Ring):
        rims = [
            radius * way
            for radius in (shape.radius + shape.tube, shape.radius - shape.tube)
            for way in (front, side, -front, -side)
        ]
        return centre + np.array(rims)
    assert isinstance(shape, Cylinder | Cone)
    end = axis * (shape.height / 2)
    if isinstance(shape, Cone):
        return centre + np.array([end, -end, *(shape.radius * way - end for way in (front, side, -front, -side))])
    if end @ (up if abs(axis[2]) > 0.7 else towards) < 0:
        end = -end
    rims = [e + shape.radius * way for e in (end, -end) for way in (front, side, -side)]
    return centre + np.array([end, -end, *rims])


def _unit(v: np.ndarray) -> np.ndarray:
    return v / math.sqrt(float(v @ v))


def keypoints_of(bodies: tuple[Body, ...], camera: Camera) -> np.ndarray:
    """[N, 8, 3] float32: x, y in pixels and visibility of the named points of all bodies in an image.

    2: visible. 1: in the image, but occluded by a solid. 0: outside the image or not used (x = y = 0).
    """
    result = np.zeros((len(bodies), POINTS, 3), np.float32)
    if not bodies:
        return result
    points = [surface_points(body, camera) for body in bodies]
    owner = np.repeat(np.arange(len(bodies)), [len(p) for p in points])
    slot = np.concatenate([np.arange(len(p)) for p in points])
    world = np.concatenate(points)
    pixels = camera.project(world)
    way = world - camera.position
    length = np.sqrt((way * way).sum(1))
    direction = tuple(way.T.astype(np.float32))
    hidden = np.zeros(len(world), bool)
    for number, body in enumerate(bodies):
        gap = (1 - cast(body, camera.position.tolist(), direction)) * length
        own = _TOLERANCE if isinstance(body.shape, Box) else _ROUND * body.shape.bound
        hidden |= gap > np.where(owner == number, own, _TOLERANCE)
        if isinstance(body.shape, Ring):  # its tube may be thinner than the tolerance: check which way the point faces
            mine = owner == number
            outwards = world[mine] - body.centre
            outwards[4:] *= -1
            hidden[mine] |= (outwards * way[mine]).sum(1) > _ROUND * length[mine] * np.sqrt((outwards**2).sum(1))
    height, width = camera.size
    inside = (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    result[owner, slot, :2] = np.where(inside[:, None], pixels, 0)
    result[owner, slot, 2] = np.where(inside, np.where(hidden, 1, 2), 0)
    return result

"""The solids once more, as implicit functions and naive marching: independent truth for the ray caster."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sightline.data.scenes import Scene, SceneObject
from sightline.data.scenes.shapes import Box, Cone, Cylinder, Ring, Shape, Sphere


def inside(shape: Shape, p: np.ndarray) -> np.ndarray:
    """Points [..., 3] of the solid's frame → [...] float64, negative inside, and near the surface about metres."""
    x, y, z = np.moveaxis(np.asarray(p, np.float64), -1, 0)
    across = np.hypot(x, y)
    if isinstance(shape, Sphere):
        return np.sqrt(x**2 + y**2 + z**2) - shape.radius
    if isinstance(shape, Box):
        a, b, c = shape.half
        return np.max([abs(x) - a, abs(y) - b, abs(z) - c], axis=0)
    if isinstance(shape, Cylinder):
        return np.maximum(across - shape.radius, abs(z) - shape.height / 2)
    if isinstance(shape, Cone):
        flank = (across - shape.radius * (0.5 - z / shape.height)) * shape.height / np.hypot(shape.radius, shape.height)
        return np.maximum(flank, -z - shape.height / 2)
    assert isinstance(shape, Ring)
    return np.hypot(across - shape.radius, z) - shape.tube


def inside_object(item: SceneObject, world: np.ndarray) -> np.ndarray:
    """The same for world points [..., 3] and an object of a scene."""
    return inside(item.body.shape, (world - item.body.centre) @ item.body.rotation)


def march(value: Callable[[np.ndarray], np.ndarray], low: float, high: float, step: float) -> tuple[float, float]:
    """The first t in [low, high] at which value(t [M]) → [M] turns negative, by steps and bisection; else infinity.

    And the least value met.
    """
    t = np.arange(low, high, step)
    values = value(t)
    below = np.flatnonzero(values < 0)
    if not below.size:
        return np.inf, float(values.min())
    right = t[below[0]]
    left = right - step
    for _ in range(40):
        middle = (left + right) / 2
        left, right = (left, middle) if value(np.array([middle]))[0] < 0 else (middle, right)
    return float(right), float(values.min())


def view_rays(scene: Scene, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[N, 3] world directions through the middles of pixels, of depth 1, from the matrices alone."""
    inverse = np.linalg.inv(scene.camera.matrix)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], 1)
    return pixels @ inverse.T @ scene.camera.extrinsics[:, :3]


def eye(scene: Scene) -> np.ndarray:
    """[3] the camera's place, from the matrices alone."""
    matrix = scene.camera.extrinsics
    return -matrix[:, :3].T @ matrix[:, 3]

"""The solids against implicit functions, naive marching and known volumes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sightline.data.scenes.shapes import Box, Cone, Cylinder, Ring, Shape, Sphere
from tests.data.scenes.solids import inside, march

SHAPES = [
    Sphere(0.4),
    Box((0.3, 0.5, 0.2)),
    Cylinder(0.3, 0.8),
    Cylinder(0.5, 0.3),
    Cone(0.3, 0.9),
    Cone(0.6, 0.5),
    Ring(0.4, 0.1),
    Ring(0.35, 0.13),
]
VOLUMES = [
    4 / 3 * math.pi * 0.4**3,
    8 * 0.3 * 0.5 * 0.2,
    math.pi * 0.3**2 * 0.8,
    math.pi * 0.5**2 * 0.3,
    math.pi * 0.3**2 * 0.9 / 3,
    math.pi * 0.6**2 * 0.5 / 3,
    2 * math.pi**2 * 0.4 * 0.1**2,
    2 * math.pi**2 * 0.35 * 0.13**2,
]


def _lines(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points within the solids' surroundings and directions of length about 1, through every part of them."""
    generator = np.random.default_rng(seed)
    ways = generator.normal(size=(count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True) * generator.uniform(0.5, 2, (count, 1))
    return generator.uniform(-0.55, 0.55, (count, 3)), ways


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_hit_is_where_a_naive_march_arrives(shape: Shape) -> None:
    places, ways = _lines(250, 1)
    lengths = np.linalg.norm(ways, axis=1)
    o = tuple(np.float32(places).T)
    d = tuple(np.float32(ways).T)
    found = shape.hit(o, d, np.full(len(places), -4, np.float32) / np.float32(lengths))
    hits = 0
    for place, way, length, t in zip(places, ways, lengths, found, strict=True):
        expected, least = march(lambda s, p=place, w=way: inside(shape, p + s[:, None] * w), -4, 4, 0.002 / length)
        if abs(least) < 0.003:
            continue  # grazing
        assert np.isfinite(t) == np.isfinite(expected)
        if np.isfinite(expected):
            hits += 1
            assert t * length == pytest.approx(expected * length, abs=2e-3)
    assert hits > 30


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_normals_are_the_gradient(shape: Shape) -> None:
    places, ways = _lines(300, 2)
    t = shape.hit(tuple(np.float32(places).T), tuple(np.float32(ways).T), np.full(300, -9, np.float32))
    hit = np.isfinite(t)
    points = places[hit] + t[hit, None] * ways[hit]
    normals = np.stack(np.broadcast_arrays(*shape.normal(tuple(np.float32(points).T))), 1)
    step = 1e-5
    sides = [inside(shape, points + step * axis) - inside(shape, points - step * axis) for axis in np.eye(3)]
    gradient = np.stack(sides, 1) / (2 * step)
    agree = np.einsum("ij,ij->i", normals, gradient) / np.linalg.norm(gradient, axis=1)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.quantile(agree, 0.03) > 0.999  # the rest lies on an edge, where two faces meet


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_support_is_the_farthest_point(shape: Shape) -> None:
    vertices, _ = shape.mesh()
    for direction in _lines(60, 3)[1]:
        point = np.array(shape.support(*direction.tolist()))
        reach = (vertices @ direction).max()
        assert inside(shape, point) < 1e-9
        assert point @ direction >= reach - 1e-6
        assert point @ direction <= reach + 0.02 * np.linalg.norm(direction)


@pytest.mark.parametrize(("shape", "volume"), list(zip(SHAPES, VOLUMES, strict=True)), ids=str)
def test_mesh_is_closed_outward_and_on_the_surface(shape: Shape, volume: float) -> None:
    vertices, faces = shape.mesh()
    assert vertices.dtype == np.float32
    assert faces.dtype == np.int64
    assert abs(inside(shape, vertices)).max() < 1e-6
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges)  # each edge once in each direction: closed, and turned the same way everywhere
    assert {(b, a) for a, b in directed} == directed
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6 == pytest.approx(volume, rel=0.07)
    assert abs(vertices).max(0) == pytest.approx(shape.half, abs=1e-6)

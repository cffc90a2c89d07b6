"""Surfaces of revolution as triangle meshes."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

Mesh = tuple[np.ndarray, np.ndarray]
"""Vertices [V, 3] float32 in metres and triangles [F, 3] int64, counter-clockwise seen from outside."""


def turns(steps: int, angle: float) -> list[tuple[float, float]]:
    """(cosine, sine) of steps + 1 angles from 0 to `angle`."""
    return [(math.cos(angle * i / steps), math.sin(angle * i / steps)) for i in range(steps + 1)]


def lathe(profile: list[tuple[float, float]], segments: int) -> Mesh:
    """Rotate the (distance, z) `profile`, given from bottom to top on the outside, about the z axis.

    Points with distance 0 become one vertex; a profile that ends where it begins gives a closed ring.
    """
    closed = math.dist(profile[0], profile[-1]) < 1e-9
    points = np.array(profile[:-1] if closed else profile, np.float64)
    row, turn, faces = _lathe_parts(tuple((points[:, 0] < 1e-9).tolist()), segments, closed)
    circle = np.array(turns(segments, 2 * math.pi), np.float64)
    across = points[row, :1] * circle[turn]
    return np.column_stack([across, points[row, 1]]).astype(np.float32), faces.copy()


@lru_cache
def _lathe_parts(poles: tuple[bool, ...], segments: int, closed: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each vertex its index in the profile and on the circle; and the triangles."""
    counts = [1 if pole else segments for pole in poles]
    starts = np.cumsum([0, *counts])
    rows = [start + np.arange(segments) % count for start, count in zip(starts, counts, strict=False)]
    faces: list[np.ndarray] = []
    for k in range(len(rows) if closed else len(rows) - 1):
        low, high = rows[k], rows[(k + 1) % len(rows)]
        next_low, next_high = np.roll(low, -1), np.roll(high, -1)
        if not poles[k]:
            faces.append(np.column_stack([low, next_low, next_high]))
        if not poles[(k + 1) % len(rows)]:
            faces.append(np.column_stack([low, next_high, high]))
    turn = np.concatenate([np.arange(count) for count in counts])
    return np.repeat(np.arange(len(poles)), counts), turn, np.concatenate(faces).astype(np.int64)

"""The ray caster: computes depth, owner and colour of every pixel of a world."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sightline.data.scenes.catalog import MIN_VISIBILITY
from sightline.data.scenes.light import Points, cast, colour, lamp_light
from sightline.data.scenes.shapes import Vector
from sightline.data.scenes.world import Dice, World

_CORNERS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))
"""Offsets of the four rays of an edge pixel from its centre: a rotated square, as used by graphics cards."""


@dataclass(frozen=True, eq=False)
class TraceResult:
    """What the rays through the pixel centres hit.

    Attributes:
        world: the world, without bodies that were removed because they are occluded.
        depth: [H, W] float32, z in the camera frame, in metres.
        owner: [H, W] int8, index in `world.bodies`, or their number plus the index in `world.planes`.
        outline_pixels: for each body, the number of pixels it would cover without occlusion and image borders.
        visible_pixels: for each body, the number of visible pixels.
    """

    world: World
    depth: np.ndarray
    owner: np.ndarray
    outline_pixels: list[int]
    visible_pixels: list[int]


def rays(world: World, x: np.ndarray, y: np.ndarray) -> Vector:
    """Directions, in the world frame, of rays through image positions, scaled so that t is the depth.

    Args:
        world: the world.
        x, y: pixel coordinates, float32, of shapes that can be broadcast.
    """
    camera = world.camera
    height, width = camera.size
    u, v = (x - width / 2) / camera.focal, (y - height / 2) / camera.focal
    (a, b, c), (d, e, f), (g, h, i) = camera.rotation.tolist()
    return (u * a + (v * d + g), u * b + (v * e + h), u * c + (v * f + i))


def _cast_planes(world: World, direction: Vector) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the nearest plane along rays from the camera, float32, and its index among the owners, int8."""
    nearest, owner = None, None
    for number, plane in enumerate(world.planes):
        gap = plane.offset - sum(n * c for n, c in zip(plane.normal, world.camera.position.tolist(), strict=True))
        towards = direction[0] * plane.normal[0] + direction[1] * plane.normal[1] + direction[2] * plane.normal[2]
        t = np.float32(gap) / np.minimum(towards, np.float32(-1e-6))  # the camera is inside: every gap is negative
        if nearest is None or owner is None:
            nearest, owner = t, np.full(t.shape, len(world.bodies), np.int8)
        else:
            closer = t < nearest
            nearest = np.where(closer, t, nearest)
            owner[closer] = len(world.bodies) + number
    assert nearest is not None
    assert owner is not None
    return nearest, owner


def trace(world: World, drop_hidden: bool) -> TraceResult:
    """Trace one ray through the centre of each pixel.

    Args:
        world: the world.
        drop_hidden: remove bodies that show less than `MIN_VISIBILITY` of their outline.
    """
    height, width = world.camera.size
    columns, rows = np.arange(width, dtype=np.float32)[None] + 0.5, np.arange(height, dtype=np.float32)[:, None] + 0.5
    depth, background = _cast_planes(world, rays(world, columns, rows))
    camera = world.camera.position.tolist()
    patches: list[tuple[slice, slice, np.ndarray]] = []
    outline_pixels: list[int] = []
    for body, (x1, y1, x2, y2) in zip(world.bodies, world.outlines, strict=True):
        left, top, right, bottom = int(np.floor(x1)) - 1, int(np.floor(y1)) - 1, int(x2) + 2, int(y2) + 2
        x = np.arange(left, right, dtype=np.float32)[None] + 0.5
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5
        t = cast(body, camera, rays(world, x, y))
        outline_pixels.append(int(np.count_nonzero(t < np.inf)))
        inside = t[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
        top, left = max(0, top), max(0, left)
        patches.append((slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1]), inside))
    kept = list(range(len(world.bodies)))
    while True:
        nearest, owner = depth.copy(), background.copy()
        for k in kept:
            row, column, t = patches[k]
            closer = t < nearest[row, column]
            nearest[row, column][closer] = t[closer]
            owner[row, column][closer] = k
        counts = np.bincount(owner.ravel(), minlength=len(patches))
        visibility = {k: counts[k] / max(outline_pixels[k], 1) for k in kept}
        least = min(kept, key=visibility.__getitem__, default=None)
        if not drop_hidden or least is None or visibility[least] >= MIN_VISIBILITY:
            break
        kept.remove(least)  # bodies behind it may be visible now, so trace again
    visible = [int(counts[k]) for k in kept]
    if len(kept) < len(patches):
        numbers = np.zeros(len(patches) + len(world.planes), np.int8)
        numbers[kept] = np.arange(len(kept))
        numbers[len(patches) :] = len(kept) + np.arange(len(world.planes))
        owner = numbers[owner]
        world = replace(world, bodies=tuple(world.bodies[k] for k in kept))
    return TraceResult(world, nearest, owner, [outline_pixels[k] for k in kept], visible)


def paint(traced: TraceResult, dice: Dice, antialias: bool = True) -> np.ndarray:
    """Compute the colours of the image.

    Args:
        traced: the result of `trace`.
        dice: source of randomness for the sensor noise.
        antialias: trace four rays per pixel at edges.

    Returns:
        [H, W, 3] uint8.
    """
    world = traced.world
    height, width = world.camera.size
    columns, rows = np.arange(width, dtype=np.float32)[None] + 0.5, np.arange(height, dtype=np.float32)[:, None] + 0.5
    direction: Vector = tuple(d.ravel() for d in rays(world, columns, rows))
    points = Points(world, direction, traced.depth.ravel(), traced.owner.ravel())
    lamp = (np.arange(height)[:, None] % 3 * 3 + np.arange(width)[None] % 3).ravel()
    slant, seen = lamp_light(points, lamp)
    seen = _even_out(seen.reshape(height, width), traced.owner).ravel()
    rgb = colour(points, slant, seen)
    if antialias:
        ids = _edges(points.edges.reshape(height, width))
        rgb[:, ids] = _finer(world, ids)
    return _expose(world, rgb, dice)


def _even_out(seen: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Mean of `seen` over the 3×3 neighbours with the same owner, which cover all nine points of the lamp."""
    total, count = seen.copy(), np.ones_like(seen)
    height, width = seen.shape
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(dy, height), slice(max(0, dx), width + min(0, dx)))
        same = (owner[here] == owner[there]).astype(np.float32)
        total[here] += same * seen[there]
        total[there] += same * seen[here]
        count[here] += same
        count[there] += same
    return total / count


def _edges(owner: np.ndarray) -> np.ndarray:
    """Indices of the pixels that have a neighbour (of four) with another owner."""
    edge = np.zeros(owner.shape, bool)
    across, along = owner[:, 1:] != owner[:, :-1], owner[1:] != owner[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= along
    edge[:-1] |= along
    return np.flatnonzero(edge)


def _finer(world: World, ids: np.ndarray) -> np.ndarray:
    """Mean colours [3, N] of four rays through each of the pixels `ids`."""
    width = world.camera.size[1]
    offsets = np.array(_CORNERS, np.float32)
    x = ((ids % width).astype(np.float32)[:, None] + (offsets[:, 0] + 0.5)).ravel()
    y = ((ids // width).astype(np.float32)[:, None] + (offsets[:, 1] + 0.5)).ravel()
    direction = rays(world, x, y)
    t, owner = _cast_planes(world, direction)
    camera = world.camera.position.tolist()
    for number, (body, (x1, y1, x2, y2)) in enumerate(zip(world.bodies, world.outlines, strict=True)):
        near = np.flatnonzero((x > x1) & (x < x2) & (y > y1) & (y < y2))
        if near.size:
            found = cast(body, camera, (direction[0][near], direction[1][near], direction[2][near]))
            closer = found < t[near]
            t[near[closer]] = found[closer]
            owner[near[closer]] = number
    points = Points(world, direction, t, owner)
    lamp = (np.arange(len(x)) + ids.repeat(4)) % 9
    fine = colour(points, *lamp_light(points, lamp)).reshape(3, -1, 4)
    return (fine[..., 0] + fine[..., 1] + fine[..., 2] + fine[..., 3]) * np.float32(0.25)


def _expose(world: World, rgb: np.ndarray, dice: Dice) -> np.ndarray:
    """Convert linear light [3, H·W] to an image [H, W, 3] uint8: exposure, highlight compression, gamma 2, noise."""
    height, width = world.camera.size
    rgb = rgb * np.float32(world.exposure)
    rgb = rgb * (1 + rgb * np.float32(0.16)) / (1 + rgb)  # Reinhard's curve, white at 2.5
    rgb = np.sqrt(np.maximum(rgb, 0) * np.float32(1.9))
    raw = dice.bytes(2 * rgb.size).reshape(2, *rgb.shape)
    noise = raw[0].astype(np.float32) + raw[1].astype(np.float32)  # triangular about 255 with sigma 104
    rgb = rgb * 255 + ((noise - 255) * np.float32(world.grain / 104) + np.float32(0.5))
    return np.clip(rgb, 0, 255).astype(np.uint8).T.reshape(height, width, 3)

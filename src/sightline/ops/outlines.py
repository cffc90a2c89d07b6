"""The outlines of a bitmap, followed along the edges of its pixels without a loop over them.

Each unit edge between inside and outside is numbered, the edge that follows it is looked up, and the rings of this
permutation are put in order by doubling the step. NumPy on the CPU: outlines are for files, not for networks.
"""

from __future__ import annotations

import math

import numpy as np

_EAST, _SOUTH, _WEST, _NORTH = range(4)


def trace_outlines(inside: np.ndarray) -> list[np.ndarray]:
    """The corners of each connected part's outline.

    Args:
        inside: [H, W] bool.

    Returns:
        One [P, 2] float64 array (x, y) a part, in pixels with (0, 0) at the outer corner of the top-left pixel,
        clockwise as seen. Pixels that touch at a corner only are apart. A hole is joined to the outline by a slit of no
        width.
    """
    if not inside.any():
        return []
    start, direction = _outline_edges(inside)
    stride = inside.shape[1] + 1
    following = _following_edges(start, direction, stride)
    start, direction, following = _join_holes(start, direction, following, stride)
    ring, order = _walk(following)
    start, direction, ring = start[order], direction[order], ring[order]
    begins = np.flatnonzero(np.concatenate(([True], ring[1:] != ring[:-1])))
    before = np.arange(len(start)) - 1
    before[begins] = np.append(begins[1:], len(start)) - 1
    corner = direction != direction[before]
    points = np.stack((start % stride, start // stride), 1)[corner].astype(np.float64)
    corners = np.add.reduceat(corner.astype(np.int64), begins)
    return np.split(points, np.cumsum(corners)[:-1])


def trace_parts(inside: np.ndarray) -> list[list[np.ndarray]]:
    """The rings of each connected part: its outline and its holes, none of which touches itself.

    Args:
        inside: [H, W] bool.

    Returns:
        One list per part: the outline [P, 2] float64 (x, y), clockwise as seen, then its holes, counterclockwise;
        coordinates as in `trace_outlines`. Rings of a part can touch at single corners.
    """
    if not inside.any():
        return []
    start, direction = _outline_edges(inside)
    stride = inside.shape[1] + 1
    following = _following_edges(start, direction, stride)
    ring, order = _walk(following)
    into, out = _joints(start, direction, ring, stride)
    around = dict(zip(ring[into].tolist(), ring[out].tolist(), strict=True))  # hole → the ring left of it
    parts: dict[int, list[np.ndarray]] = {}
    for edges in np.split(order, np.flatnonzero(np.diff(ring[order])) + 1):
        own = outline = int(ring[edges[0]])
        while outline in around:
            outline = around[outline]
        corners = edges[direction[edges] != direction[np.roll(edges, 1)]]
        simple = _apart(np.stack((start[corners] % stride, start[corners] // stride), 1))
        rings = parts.setdefault(outline, [])
        for points in simple:
            x, y = points.T
            clockwise = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0
            rings.insert(0 if own == outline and clockwise else len(rings), points.astype(np.float64))
    return list(parts.values())


def _apart(points: np.ndarray) -> list[np.ndarray]:
    """Divide a ring [P, 2] where it touches itself; each of the rings has every point once."""
    found: list[np.ndarray] = []
    path: list[int] = []
    place: dict[tuple[int, int], int] = {}
    for i, point in enumerate(map(tuple, points.tolist())):
        if point in place:
            again = place[point]
            found.append(points[path[again:]])
            for gone in path[again:]:
                del place[tuple(points[gone].tolist())]
            del path[again:]
        place[point] = len(path)
        path.append(i)
    return [*found, points[path]]


def _outline_edges(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The unit edges between inside and outside, with the inside to the right of their direction.

    Returns:
        Each edge's first corner, numbered row · (W + 1) + column, and its direction.
    """
    stride = inside.shape[1] + 1
    padded = np.pad(inside, 1).astype(np.int8)
    below = np.diff(padded, axis=0)[:, 1:-1]  # [H + 1, W]: 1 where a lattice line has the inside below it
    right = np.diff(padded, axis=1)[1:-1]  # [H, W + 1]
    starts, directions = [], []
    for change, sign, direction, shift in (
        (below, 1, _EAST, 0),
        (below, -1, _WEST, 1),
        (right, -1, _SOUTH, 0),
        (right, 1, _NORTH, stride),
    ):
        row, column = np.nonzero(change == sign)
        starts.append(row * stride + column + shift)
        directions.append(np.full(len(row), direction))
    return np.concatenate(starts), np.concatenate(directions)


def _following_edges(start: np.ndarray, direction: np.ndarray, stride: int) -> np.ndarray:
    """For each edge the one that goes on where it ends: a right turn where there is one, which keeps apart what only
    touches at a corner, else straight on, else a left turn.
    """
    end = start + np.array([1, stride, -1, -stride])[direction]
    key = start * 4 + direction
    by_key = np.argsort(key)
    keys = key[by_key]
    following = np.full(len(start), -1)
    for turn in (3, 0, 1):  # the last to be found counts
        wanted = end * 4 + (direction + turn) % 4
        place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        following = np.where(keys[place] == wanted, by_key[place], following)
    return following


def _join_holes(
    start: np.ndarray, direction: np.ndarray, following: np.ndarray, stride: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join every hole to the outline left of it by two edges, there and back, along the hole's upper edge."""
    into, out = _joints(start, direction, _walk(following)[0], stride)
    if not len(into):
        return start, direction, following
    count, holes = len(start), np.arange(len(into))
    there, back = count + holes, count + len(into) + holes
    joined = np.concatenate((following, following[into], following[out]))
    joined[out], joined[into] = there, back
    return (
        np.concatenate((start, start[out] - stride, start[into] - 1)),
        np.concatenate((direction, np.full(len(into), _EAST), np.full(len(into), _WEST))),
        joined,
    )


def _joints(start: np.ndarray, direction: np.ndarray, ring: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """For each hole the edge that ends at its topmost, then leftmost corner, and the first edge to the left of it.

    Left of this corner lies the inside up to the first edge that goes north; that one belongs to the outline or to a
    hole that is itself joined further up or further left, so no hole is left out.
    """
    column = start % stride
    # ∮ x dy: above 0 for clockwise rings, below for holes.
    area = np.zeros(len(start), dtype=np.int64)
    np.add.at(area, ring, column * ((direction == _SOUTH).astype(np.int64) - (direction == _NORTH)))
    upper = np.flatnonzero((area[ring] < 0) & (direction == _WEST))
    corner = start[upper] - 1  # where these edges end; numbers rise by row, then column
    by_corner = np.lexsort((corner, ring[upper]))
    first = by_corner[np.concatenate(([True], np.diff(ring[upper][by_corner]) != 0))[: len(by_corner)]]
    into, corner = upper[first], corner[first]

    north = np.flatnonzero(direction == _NORTH)
    key = start[north] - stride  # the edge's upper corner
    by_key = np.argsort(key)
    place = np.searchsorted(key[by_key], corner) - 1
    return into, north[by_key][place]


def _walk(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rings of a permutation, found by doubling the step: log₂ of the length rounds, no walk edge by edge.

    Returns:
        ring: each edge's ring, named by the ring's smallest edge. order: the edges ring by ring, each in its order.
    """
    count = len(following)
    ring, jump = np.arange(count), following
    for _ in range(max(1, math.ceil(math.log2(count)))):
        ring = np.minimum(ring, ring[jump])
        jump = jump[jump]
    root = ring == np.arange(count)
    distance = np.where(root, 0, 1)  # steps to the ring's root, where the walk ends
    jump = np.where(root, np.arange(count), following)
    for _ in range(max(1, math.ceil(math.log2(count)))):
        distance = distance + distance[jump]
        jump = jump[jump]
    distance[root] = count  # the root itself comes first
    return ring, np.lexsort((-distance, ring))

"""Finding duplicate images: exact ones by their bytes, near ones by a perceptual hash confirmed on thumbnails.

The hash is the 64-bit difference hash (dHash): each bit says whether a cell of a 9×8 grey thumbnail is darker than its
right neighbour. Copies that were re-encoded, resized or brightened differ in a few bits at most. Such pairs are found
without comparing all pairs: if two hashes differ in at most r bits and are cut into r + 1 pieces, at least one piece is
equal, so only images that share a piece are compared. Hashes of plain images can agree by chance, so a pair is
reported only if the 16×16 grey thumbnails agree as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

BITS = 64
THUMBNAIL = 16
_BLOCK = 1 << 21  # number of pairs compared at once


def difference_hash(grey: np.ndarray) -> int:
    """dHash of a grey thumbnail [8, 9]: 64 bits, the first cell in the lowest bit."""
    bits = (grey[:, 1:] > grey[:, :-1]).flatten()
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


def close_pairs(hashes: np.ndarray, radius: int) -> np.ndarray:
    """All pairs i < j of hashes (uint64 [N]) that differ in at most `radius` bits: int64 [P, 2], sorted.

    Equal hashes give a pair for every combination, so remove exact duplicates first.
    """
    edges = np.linspace(0, BITS, radius + 2).round().astype(int)
    found: list[np.ndarray] = []
    for low, high in pairwise(edges.tolist()):
        piece = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        for first, second in _sharing(piece):
            distance = _popcount(hashes[first] ^ hashes[second])
            near = distance <= radius
            found.append(np.stack([first[near], second[near]], axis=1))
    if not found:
        return np.zeros((0, 2), dtype=np.int64)
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _sharing(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of positions with equal keys, in blocks of bounded size."""
    order = np.argsort(keys, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(keys[order]) != 0, True)) + 1 if len(keys) else np.zeros(0, np.int64)
    ends_of = np.repeat(ends, np.diff(ends, prepend=0))
    # Position p (in sorted order) is paired with positions p + 1 to the end of its run.
    partners = ends_of - np.arange(len(keys)) - 1
    cumulative = np.concatenate([[0], np.cumsum(partners)])
    start = 0
    while start < len(keys):
        stop = max(start + 1, int(np.searchsorted(cumulative, cumulative[start] + _BLOCK, side="right")) - 1)
        count = partners[start:stop]
        first = np.repeat(np.arange(start, stop), count)
        offset = np.arange(len(first)) - np.repeat(cumulative[start:stop] - cumulative[start], count)
        yield order[first], order[first + 1 + offset]
        start = stop


def _popcount(values: np.ndarray) -> np.ndarray:
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(values)
    return np.unpackbits(values[:, None].view(np.uint8), axis=1).sum(1)  # NumPy before 2.0


def similar_pairs(hashes: np.ndarray, thumbnails: np.ndarray, radius: int = 6) -> np.ndarray:
    """Pairs of nearly identical images.

    Args:
        hashes: uint64 [N] difference hashes.
        thumbnails: uint8 [N, 16, 16] grey thumbnails.
        radius: maximum number of differing bits.

    Returns:
        int64 [P, 2], i < j. Images without contrast are left out because the hash cannot distinguish them.
    """
    values = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    spread = values.std(1)
    telling = np.flatnonzero(spread >= 4)
    normal = (values[telling] - values[telling].mean(1, keepdims=True)) / spread[telling, None]
    pairs = close_pairs(hashes[telling], radius)
    good = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), 1 << 16):
        i, j = pairs[start : start + (1 << 16)].T
        correlation = (normal[i] * normal[j]).mean(1)
        good[start : start + (1 << 16)] = correlation > 0.975
    return telling[pairs[good]]


def groups(count: int, pairs: np.ndarray) -> list[list[int]]:
    """Connected components of at least two of `count` items joined by `pairs` [P, 2], sorted by their first item."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in pairs.tolist():
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    members: dict[int, list[int]] = {}
    for item in sorted({int(i) for i in pairs.flatten()}):
        members.setdefault(root(item), []).append(item)
    return list(members.values())

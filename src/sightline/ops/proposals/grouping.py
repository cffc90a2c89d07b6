"""Hierarchical grouping: the two most similar neighbours merge until one region is left.

Uijlings et al. 2013, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Literal

import numpy as np

from sightline.ops.proposals.regions import Regions

Cue = Literal["colour", "texture", "size", "fill"]


def group(regions: Regions, cues: Sequence[Cue]) -> np.ndarray:
    """Merge regions by the sum of the similarities `cues` (section 3.2.2).

    Args:
        regions: N regions of an image.
        cues: which similarities count: "colour", "texture", "size", "fill".

    Returns:
        float64 [2N − 1, 4]: boxes x1, y1, x2, y2 of the N regions and then of every merger in turn; the last is
        the whole image.
    """
    count = len(regions.sizes)
    room = 2 * count - 1
    columns = _columns(regions, cues)
    histograms = np.empty((room, columns.stop - columns.start), np.float32)
    histograms[:count] = regions.histograms[:, columns]
    extents = np.empty((room, 4))
    extents[:count] = regions.extents
    sizes = np.empty(room)
    sizes[:count] = regions.sizes
    # the shares of size and fill: 1 − (a + b) / image, and 1 − (box − a − b) / image
    by_size, by_fill = float("size" in cues), float("fill" in cues)
    size_weight, box_weight = (by_fill - by_size) / regions.area, by_fill / regions.area
    constant = by_size + by_fill
    use_histograms = columns.stop > columns.start

    def similarities(one: np.ndarray | int, others: np.ndarray) -> np.ndarray:
        union = np.maximum(extents[others], extents[one])
        boxes = (union[:, 0] + union[:, 2]) * (union[:, 1] + union[:, 3])
        total = constant + (sizes[others] + sizes[one]) * size_weight - boxes * box_weight
        if use_histograms:
            total += np.minimum(histograms[others], histograms[one]).sum(1)
        return total

    neighbours: list[set[int]] = [set() for _ in range(count)]
    heap: list[tuple[float, int, int]] = []
    for chunk in np.array_split(regions.pairs, len(regions.pairs) // 8192 + 1):
        a, b = chunk[:, 0], chunk[:, 1]
        for i, j, value in zip(a.tolist(), b.tolist(), similarities(a, b).tolist(), strict=True):
            neighbours[i].add(j)
            neighbours[j].add(i)
            heap.append((-value, i, j))
    heapify(heap)

    alive = [True] * count
    new = count
    while heap:
        _, i, j = heappop(heap)
        if not (alive[i] and alive[j]):
            continue
        alive[i] = alive[j] = False
        si, sj = sizes[i], sizes[j]
        sizes[new] = si + sj
        np.maximum(extents[i], extents[j], out=extents[new])
        if use_histograms:
            share = np.float32(si / (si + sj))
            histograms[new] = histograms[i] * share + histograms[j] * (1 - share)
        around = (neighbours[i] | neighbours[j]) - {i, j}
        neighbours[i] = neighbours[j] = set()
        neighbours.append(around)
        alive.append(True)
        if around:
            ids = list(around)
            for k, value in zip(ids, similarities(new, np.array(ids)).tolist(), strict=True):
                near = neighbours[k]
                near.discard(i)
                near.discard(j)
                near.add(new)
                heappush(heap, (-value, k, new))
        new += 1
    boxes = extents[:new].copy()
    boxes[:, :2] *= -1
    return boxes


def _columns(regions: Regions, cues: Sequence[Cue]) -> slice:
    """The columns of the histograms that these cues compare."""
    width = regions.histograms.shape[1]
    start = 0 if "texture" in cues else regions.texture
    stop = width if "colour" in cues else regions.texture
    return slice(start, max(start, stop))

"""Accuracy of the boundaries between classes in a class map.

Source: Csurka et al., "What is a good evaluation measure for semantic segmentation?" (BMVC 2013).
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from sightline.structures import IGNORE

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BAND = 0.0075
"""Maximum distance between matching boundary pixels, as a fraction of the image's diagonal."""


def boundary_scores(labels: Ints, found: Ints, classes: int, band: float = BAND) -> NDArray[np.float64]:
    """Boundary F1 of each class in one image; NaN for a class that has no boundary in either map.

    A pixel is on the boundary of its class if one of its four neighbours belongs to another class; ignored neighbours
    and the edge of the image make no boundary. Precision is the fraction of predicted boundary pixels that have a
    labelled one within `band` diagonals (at least one pixel); recall the reverse.

    Args:
        labels, found: [H, W] ids; `IGNORE` for ignored pixels.
        classes: number of classes.
        band: maximum distance, as a fraction of the image's diagonal.
    """
    radius = band_radius(labels.shape, band)
    scores = np.full(classes, np.nan)
    edges = [boundary_pixels(values) for values in (labels, found)]
    for k in range(classes):
        labelled, predicted = edges[0] & (labels == k), edges[1] & (found == k)
        counts = int(labelled.sum()), int(predicted.sum())
        if not any(counts):
            continue
        scores[k] = 0.0
        if all(counts):
            precision, recall = _fraction_near(predicted, labelled, radius), _fraction_near(labelled, predicted, radius)
            scores[k] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return scores


def band_radius(size: tuple[int, ...], band: float = BAND) -> int:
    """The maximum distance between matching boundary pixels of a map of (height, width) pixels, at least 1."""
    return max(1, int(np.ceil(band * np.hypot(size[0], size[1]))))


def boundary_pixels(labels: Ints) -> Bools:
    """Pixels [H, W] of a class map that have one of four neighbours in another class; neither may be ignored."""
    edges = np.zeros(labels.shape, bool)
    down = (labels[1:] != labels[:-1]) & (labels[1:] != IGNORE) & (labels[:-1] != IGNORE)
    right = (labels[:, 1:] != labels[:, :-1]) & (labels[:, 1:] != IGNORE) & (labels[:, :-1] != IGNORE)
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges


def dilate(mask: Bools, radius: int) -> Bools:
    """Dilate a mask [H, W] by a disc: pixels that have a pixel of the mask within `radius` (Euclidean distance)."""
    dilated, across, height = np.zeros_like(mask), _row_distance(mask, radius), len(mask)
    for step in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        low, high = max(0, -step), height - max(0, step)
        dilated[low:high] |= across[low + step : high + step] <= isqrt(radius**2 - step**2)
    return dilated


def _fraction_near(mask: Bools, other: Bools, radius: int) -> float:
    """Fraction of the pixels of one mask that have a pixel of the other within `radius`."""
    across, height = _row_distance(other, radius), len(other)
    rows, columns = np.nonzero(mask)
    near = np.zeros(len(rows), bool)
    for step in range(-radius, radius + 1):  # only at the pixels of the mask, which is faster than `dilate`
        row = rows + step
        inside = (row >= 0) & (row < height)
        near[inside] |= across[row[inside], columns[inside]] <= isqrt(radius**2 - step**2)
    return float(near.mean())


def _row_distance(mask: Bools, limit: int) -> NDArray[np.int32]:
    """Distance [H, W] of each pixel to the nearest pixel of the mask in its row; limit + 1 if it exceeds `limit`."""
    height, width = mask.shape
    columns = np.arange(width, dtype=np.int32)
    far = np.int32(height + width + limit)
    before = np.maximum.accumulate(np.where(mask, columns, -far), axis=1)
    after = np.minimum.accumulate(np.where(mask, columns, 2 * far)[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(np.minimum(columns - before, after - columns), np.int32(limit + 1))

"""The first regions of selective search: segments, what each looks like, and which of them touch.

Uijlings et al. 2013, sections 3.1 and 3.2.2; the segmentation is Felzenszwalb and Huttenlocher's (2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COLOUR_BINS = 25
TEXTURE_BINS = 10
_AXES = 4  # with both signs, the eight orientations of the paper


@dataclass(frozen=True)
class Regions:
    """Regions that cover an image, and where they touch.

    Attributes:
        sizes: float64 [N], pixels of each.
        extents: float64 [N, 4]: −x1, −y1, x2, y2 of each bounding box. The extents of a union are their maximum.
        histograms: float32 [N, T + C]: texture, then colour; each part sums to 1.
        texture: T, the columns of texture.
        pairs: int64 [E, 2], touching regions, the smaller id first.
        area: pixels of the image.
    """

    sizes: np.ndarray
    extents: np.ndarray
    histograms: np.ndarray
    texture: int
    pairs: np.ndarray
    area: int


def segment(pixels: np.ndarray, scale: float, min_size: int, sigma: float = 0.8) -> np.ndarray:
    """float32 [H, W, c] in [0, 1] → int64 [H, W], segments 0 … N−1.

    Args:
        pixels: the image.
        scale: the larger, the larger the segments (k of the paper, for colours up to 255).
        min_size: pixels; smaller segments join a neighbour.
        sigma: of the smoothing beforehand, in pixels.
    """
    from skimage.segmentation import felzenszwalb

    if min(pixels.shape[:2]) < 2:  # a single row has no graph to cut
        return np.zeros(pixels.shape[:2], np.int64)
    return felzenszwalb(pixels, scale=scale, sigma=sigma, min_size=min_size, channel_axis=-1).astype(np.int64)


def describe(labels: np.ndarray, codes: np.ndarray, bins: list[int]) -> Regions:
    """What the segments `labels` [H, W] look like, by the codes of their pixels (see `pixel_codes`)."""
    count = int(labels.max()) + 1
    flat = labels.ravel()
    sizes = np.bincount(flat, minlength=count).astype(np.float64)
    texture, colour = [], []
    for plane, width in zip(codes, bins, strict=True):
        found = np.bincount(flat * width + plane, minlength=count * width).reshape(count, width)
        if width == COLOUR_BINS:
            colour.append(found)
            continue
        # a pixel that falls along an axis rises by nothing: it is in the first bin of the other direction
        rising, falling = found[:, :TEXTURE_BINS], found[:, TEXTURE_BINS:]
        first_rising, first_falling = falling.sum(1), rising.sum(1)
        rising[:, 0] += first_rising
        falling[:, 0] += first_falling
        texture += [rising, falling]
    parts = [np.concatenate(part, 1) for part in (texture, colour)]
    histograms = np.concatenate([part / part.sum(1, keepdims=True) for part in parts], 1).astype(np.float32)
    return Regions(sizes, _extents(labels, count), histograms, parts[0].shape[1], touching(labels), labels.size)


def pixel_codes(pixels: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """What every pixel adds to the histograms of its region: int64 [P, H·W], and the number of bins of each row.

    Texture: Gaussian derivatives (σ = 1) along four axes of each channel, ten bins for each direction of an axis, up to
    the channel's steepest slope. Colour: 25 bins per channel.
    """
    from scipy.ndimage import gaussian_filter1d

    rows: list[np.ndarray] = []
    for channel in np.moveaxis(pixels, 2, 0):
        smooth = [gaussian_filter1d(channel, 1.0, axis=axis) for axis in (0, 1)]
        dx = gaussian_filter1d(smooth[0], 1.0, axis=1, order=1)
        dy = gaussian_filter1d(smooth[1], 1.0, axis=0, order=1)
        slopes = [dx, (dx + dy) * np.float32(0.5**0.5), dy, (dy - dx) * np.float32(0.5**0.5)]
        steepest = max(float(np.abs(slope).max()) for slope in slopes)
        factor = TEXTURE_BINS / max(steepest, 1e-6)
        for slope in slopes:
            height = np.minimum((np.abs(slope) * np.float32(factor)).astype(np.int64), TEXTURE_BINS - 1)
            rows.append(height + TEXTURE_BINS * (slope < 0))
    for channel in np.moveaxis(pixels, 2, 0):
        rows.append(np.minimum((channel * COLOUR_BINS).astype(np.int64), COLOUR_BINS - 1))
    channels = pixels.shape[2]
    bins = [2 * TEXTURE_BINS] * (_AXES * channels) + [COLOUR_BINS] * channels
    return np.stack(rows).reshape(len(rows), -1), bins


def touching(labels: np.ndarray) -> np.ndarray:
    """Pairs of segments with pixels side by side or corner to corner: int64 [E, 2], sorted, the smaller first."""
    count = int(labels.max()) + 1
    found = []
    for a, b in (
        (labels[:, :-1], labels[:, 1:]),
        (labels[:-1], labels[1:]),
        (labels[:-1, :-1], labels[1:, 1:]),
        (labels[1:, :-1], labels[:-1, 1:]),
    ):
        differ = a != b
        one, two = a[differ], b[differ]
        found.append(np.minimum(one, two) * count + np.maximum(one, two))
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // count, codes % count], 1)


def _extents(labels: np.ndarray, count: int) -> np.ndarray:
    height, width = labels.shape
    extents = np.full((count, 4), -np.inf)
    columns, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    # only the ends of each run of equal labels can be extreme in x; in y likewise down the columns
    starts = np.ones(labels.shape, bool)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    ends = np.ones(labels.shape, bool)
    ends[:, :-1] = starts[:, 1:]
    y, x = starts.nonzero()
    np.maximum.at(extents[:, 0], labels[y, x], -columns[x])
    np.maximum.at(extents[:, 1], labels[y, x], -rows[y])
    np.maximum.at(extents[:, 3], labels[y, x], rows[y] + 1)
    y, x = ends.nonzero()
    np.maximum.at(extents[:, 2], labels[y, x], columns[x] + 1)
    return extents

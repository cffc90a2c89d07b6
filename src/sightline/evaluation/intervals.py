"""Confidence intervals: Wilson intervals of proportions, and bootstrap intervals over images.

The bootstrap (Efron, "Bootstrap methods: another look at the jackknife", 1979) repeatedly draws as many images as there
are, with replacement, and takes the percentiles of the metric. Images are assumed to be independent; frames of one
video are not, and their true intervals are wider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError

DRAWS = 1000
"""Number of bootstrap samples of an interval."""
_AT_ONCE = 1 << 22
"""Number of values of the sample table that are in memory at a time."""

Floats = NDArray[np.float64]


def wilson(successes: float, total: int, level: float = 0.95) -> tuple[float, float] | None:
    """The Wilson interval of a proportion of `total` independent trials; None without trials.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    Raises:
        InputError: `level` is not between 0 and 1.
    """
    if not total:
        require_level(level)
        return None
    z = NormalDist().inv_cdf(0.5 + require_level(level) / 2)
    share = successes / total
    below = 1 + z * z / total
    centre = share + z * z / (2 * total)
    reach = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, (centre - reach) / below), min(1.0, (centre + reach) / below)


def resampled_weights(images: int, draws: int = DRAWS, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield how often each image is drawn, in pieces [some draws, images]; the same for the same seed."""
    rng = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // max(images, 1))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        chosen = rng.integers(0, images, (count, images))
        chosen += np.arange(count)[:, None] * images
        yield np.bincount(chosen.ravel(), minlength=count * images).reshape(count, images)


def resampled_sums(values: NDArray[np.generic], draws: int = DRAWS, seed: int = 0) -> Floats:
    """The sum over the images of each bootstrap sample.

    Args:
        values: [images, …], the contribution of each image.
        draws: number of bootstrap samples.
        seed: seed of the samples.

    Returns:
        [draws, …] float64.
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    sums = [weights.astype(np.float64) @ flat for weights in resampled_weights(len(values), draws, seed)]
    return np.concatenate(sums).reshape(draws, *values.shape[1:])


def percentiles(samples: Mapping[str, Floats], level: float = 0.95) -> dict[str, tuple[float, float]]:
    """The central `level` of each metric's samples [draws]; a metric missing (NaN) in most samples has no interval."""
    tail = (1 - require_level(level)) / 2
    found = {}
    for name, values in samples.items():
        there = values[~np.isnan(values)]
        if 2 * len(there) > len(values):
            low, high = np.quantile(there, [tail, 1 - tail])
            found[name] = (float(low), float(high))
    return found


def require_level(level: float) -> float:
    """Check the level of an interval and return it.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"the level of an interval is {level}, but must lie between 0 and 1, such as 0.95")
    return level

"""Confidence intervals: Wilson intervals of proportions, bootstrap intervals over images, t intervals of few runs.

The bootstrap (Efron, "Bootstrap methods: another look at the jackknife", 1979) repeatedly draws as many images as there
are, with replacement, and takes the percentiles of the metric. Images are assumed to be independent; frames of one
video are not, and their true intervals are wider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import exp, lgamma, log, log1p, sqrt
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


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean of a few independent values, such as the metric of runs with different seeds.

    The bootstrap is no substitute: with three values it has ten different samples, and its intervals are too narrow.
    The values are assumed to be roughly normally distributed.

    Source: Student, "The probable error of a mean", Biometrika 1908.

    Returns:
        Lower and upper bound; None for fewer than two values, or if all are equal, as the spread is then unknown.

    Raises:
        InputError: `level` is not between 0 and 1.
    """
    require_level(level)
    spread = _standard_error(values)
    if not spread:
        return None
    mean, reach = float(np.mean(values)), spread * _t_quantile(level, len(values) - 1)
    return mean - reach, mean + reach


def mean_p_value(values: Sequence[float]) -> float | None:
    """The two-sided p-value of Student's t test that the mean of these values is 0; None as for `mean_interval`."""
    spread = _standard_error(values)
    return t_tail(abs(float(np.mean(values))) / spread, len(values) - 1) if spread else None


@cache
def _t_quantile(level: float, degrees: int) -> float:
    """The t that |T| exceeds with probability 1 − `level`."""
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > 1 - level:
        low, high = high, 2 * high
    for _ in range(60):  # the tail falls with t
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) > 1 - level else (low, middle)
    return high


def _standard_error(values: Sequence[float]) -> float:
    """The standard error of the mean; 0 if it is unknown."""
    if len(values) < 2:
        return 0.0
    spread = float(np.std(values, ddof=1))
    return spread / sqrt(len(values)) if spread > 1e-12 * max(map(abs, values)) else 0.0


def t_tail(t: float, degrees: int) -> float:
    """The probability that |T| exceeds `t` ≥ 0, for Student's distribution with these degrees of freedom.

    It is the regularised incomplete beta function of ν / (ν + t²) with parameters ν / 2 and ½, computed by its
    continued fraction (Abramowitz & Stegun, 26.5.8 and 26.7.1).
    """
    a, b, x = degrees / 2, 0.5, degrees / (degrees + t * t)
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - _beta_fraction(b, a, 1 - x)
    return _beta_fraction(a, b, x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function for x ≤ (a + 1) / (a + b + 2)."""
    fraction = 1.0
    for m in range(100, 0, -1):  # from the inside out
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    scale = lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)
    return exp(scale) / (a * fraction)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted for the number of comparisons: at most 5 % of tables hold a false claim at p < 0.05.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for position, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


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


def paired_percentiles(
    before: Mapping[str, Floats], after: Mapping[str, Floats], level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """The intervals of after − before for metrics that both have.

    Args:
        before, after: metrics by name, [draws] each, of the same samples of images.
        level: level of the intervals.
    """
    return percentiles({name: after[name] - before[name] for name in before if name in after}, level)


def require_level(level: float) -> float:
    """Check the level of an interval and return it.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"the level of an interval is {level}, but must lie between 0 and 1, such as 0.95")
    return level

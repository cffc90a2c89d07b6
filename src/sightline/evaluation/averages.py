"""Ratios and means in which NaN stands for a value that is not available."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """`numerator / denominator`, elementwise for arrays of the same shape; NaN where the denominator is 0."""
    quotient: Floats = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return quotient


def nanmean(values: Floats) -> float:
    """Mean of the values [N] that are not NaN; NaN, without a warning, if there are none."""
    available = values[~np.isnan(values)]
    return float(available.mean()) if len(available) else float("nan")


def nanmean_along(values: Floats, axis: int) -> Floats:
    """`nanmean` along an axis, which is removed: [draws, K] → [draws] for axis 1."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0).sum(axis), there.sum(axis))


def none_if_nan(value: float) -> float | None:
    """The value as a Python float; None for NaN."""
    return None if np.isnan(value) else float(value)

"""Validate numbers given by a user before they are used."""

from __future__ import annotations

import math
import operator
from typing import Any

from sightline.errors import InputError
from sightline.runtime.limits import beyond, limits

LARGEST_SEED = 2**63 - 1


def require_whole(name: str, value: Any, low: int, limit: str | int, repair: str = "correct it") -> int:
    """Return an integer of any numeric type (8, 8.0, numpy.int64(8), torch.tensor(8)) as an int, if it is in range.

    Args:
        name: the name of the value, for the message.
        value: the value to check.
        low: the minimum.
        limit: the name of an attribute of `Limits`, or the maximum.
        repair: what to do, for the message.

    Raises:
        InputError: the value is not an integer, or out of range.
    """
    given = plain_number(value)
    if given is None or not _finite(given) or given != int(given) or given < low:
        raise InputError(f"{name} is {short(value)}, but it must be a whole number of at least {low}; {repair}")
    number = int(given)
    if isinstance(limit, int):
        if number > limit:
            raise InputError(f"{name} is {short(value)}, but it must be at most {limit}; {repair}")
    elif number > getattr(limits(), limit):
        raise beyond(name, number, getattr(limits(), limit))
    return number


def require_seed(value: Any, name: str = "seed") -> int:
    """Return a random seed, an integer from 0 to 2^63 − 1; errors as for `require_whole`."""
    return require_whole(name, value, 0, LARGEST_SEED, "give 0 if in doubt")


def require_number(
    name: str, value: Any, low: float, high: float, repair: str = "correct it", what: str = "a number"
) -> float:
    """Return a finite number of any numeric type (Python, NumPy, a tensor or array of one element) as a float.

    Args:
        name: the name of the value, for the message.
        value: the value to check.
        low: the minimum.
        high: the maximum; infinity for no maximum.
        repair: what to do, for the message.
        what: what the value is, for the message, such as "a score".

    Raises:
        InputError: the value is not a number, not finite, or out of range.
    """
    number = plain_number(value)
    if number is None or not _finite(number) or not low <= number <= high:
        rule = f"{what} from {low:g} to {high:g}" if math.isfinite(high) else f"{what} of at least {low:g}"
        raise InputError(f"{name} is {short(value)}, but it must be {rule}; {repair}")
    return float(number)


def plain_number(value: Any) -> int | float | None:
    """Convert a number of any numeric type to Python's int or float; None for anything else, such as True or "1"."""
    if isinstance(value, bool | str | bytes) or value is None:
        return None
    if isinstance(value, int | float):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        item = value.item()  # of NumPy and PyTorch, including 0-d arrays
        return item if isinstance(item, int | float) and not isinstance(item, bool) else None
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:  # Fraction, Decimal
        return float(value) if hasattr(type(value), "__float__") and not hasattr(value, "shape") else None
    except (TypeError, ValueError, OverflowError):
        return None


def require_area(name: str, height: int, width: int) -> None:
    """Check that an image is not too large: its sides and its number of pixels.

    Raises:
        InputError: it is; the message names the limit and how to raise it.
    """
    most = limits()
    if max(height, width) > most.image_side:
        raise beyond(name, max(height, width), most.image_side, "pixels a side")
    if height * width > most.image_pixels:
        raise beyond(name, height * width, most.image_pixels, "pixels")


def short(value: Any) -> str:
    """The value as text short enough for a message."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"{'-' if value < 0 else ''}{str(abs(value))[:3] if abs(value) < 10**4000 else ''}… (a very long number)"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number above the largest float
        return True

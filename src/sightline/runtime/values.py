"""Whether a number that a user gives is of the right kind and within its range, before anything is done with it."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from sightline.errors import InputError
from sightline.runtime.limits import beyond, limits

LARGEST_SEED = 2**63 - 1


def require_whole(name: str, value: Any, low: int, limit: str | int, repair: str = "correct it") -> int:
    """A whole number from `low` up to a limit.

    Args:
        name: of the value, for the message.
        value: to be checked.
        low: the least that is accepted.
        limit: the name of one of `Limits`, or the most that is accepted.
        repair: what to do, for the message.

    Raises:
        InputError: it is no whole number, or out of its range.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < low:
        raise InputError(f"{name} is {short(value)}, but it must be a whole number of at least {low}; {repair}")
    if isinstance(limit, int):
        if int(value) > limit:
            raise InputError(f"{name} is {short(value)}, but it must be at most {limit}; {repair}")
    elif int(value) > getattr(limits(), limit):
        raise beyond(name, int(value), getattr(limits(), limit))
    return int(value)


def require_seed(value: Any, name: str = "seed") -> int:
    """A seed of random numbers: a whole number from 0 to 2^63 − 1; errors as for `require_whole`."""
    return require_whole(name, value, 0, LARGEST_SEED, "give 0 if in doubt")


def require_number(name: str, value: Any, low: float, high: float, repair: str = "correct it") -> float:
    """A finite number from `low` to `high`.

    Raises:
        InputError: it is no number, not finite, or out of its range.
    """
    fits = isinstance(value, Real) and not isinstance(value, bool)
    if not fits or not math.isfinite(_float(value)) or not low <= value <= high:
        raise InputError(f"{name} is {short(value)}, but it must be a number from {low:g} to {high:g}; {repair}")
    return float(value)


def require_area(name: str, height: int, width: int) -> None:
    """Refuse a picture that has too long a side or too many pixels to be worked on.

    Raises:
        InputError: naming the limit and how to raise it.
    """
    most = limits()
    if max(height, width) > most.image_side:
        raise beyond(name, max(height, width), most.image_side, "pixels a side")
    if height * width > most.image_pixels:
        raise beyond(name, height * width, most.image_pixels, "pixels")


def short(value: Any) -> str:
    """The value as a message can hold it."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"{'-' if value < 0 else ''}{str(abs(value))[:3] if abs(value) < 10**4000 else ''}… (a very long number)"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf

"""Whether a number that a user gives is of the right kind and within its range, before anything is done with it."""

from __future__ import annotations

import math
import operator
from typing import Any

from sightline.errors import InputError
from sightline.runtime.limits import beyond, limits

LARGEST_SEED = 2**63 - 1


def require_whole(name: str, value: Any, low: int, limit: str | int, repair: str = "correct it") -> int:
    """A whole number of any numeric type (8, 8.0, numpy.int64(8), torch.tensor(8)) from `low` up to a limit, as an int.

    Args:
        name: of the value, for the message.
        value: to be checked.
        low: the least that is accepted.
        limit: the name of one of `Limits`, or the most that is accepted.
        repair: what to do, for the message.

    Raises:
        InputError: it is no whole number, or out of its range.
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
    """A seed of random numbers: a whole number from 0 to 2^63 − 1; errors as for `require_whole`."""
    return require_whole(name, value, 0, LARGEST_SEED, "give 0 if in doubt")


def require_number(
    name: str, value: Any, low: float, high: float, repair: str = "correct it", what: str = "a number"
) -> float:
    """A finite number of any numeric type (Python's, NumPy's, a tensor or array of one element), as a float.

    Args:
        name: of the value, for the message.
        value: to be checked.
        low: the least that is accepted.
        high: the most that is accepted; infinity for no bound.
        repair: what to do, for the message.
        what: the value is, for the message, such as "a score".

    Raises:
        InputError: it is no number, not finite, or out of its range.
    """
    number = plain_number(value)
    if number is None or not _finite(number) or not low <= number <= high:
        rule = f"{what} from {low:g} to {high:g}" if math.isfinite(high) else f"{what} of at least {low:g}"
        raise InputError(f"{name} is {short(value)}, but it must be {rule}; {repair}")
    return float(number)


def plain_number(value: Any) -> int | float | None:
    """Python's own number for a number of any numeric type; None for anything else, such as True or "1"."""
    if isinstance(value, bool | str | bytes) or value is None:
        return None
    if isinstance(value, int | float):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        item = value.item()  # of NumPy's and PyTorch's, 0-d arrays among them
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


def _finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number above the largest float
        return True

"""Keywords and numbers that callers give: names that are not known, and numbers of any numeric type."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from sightline.errors import InputError

_P = ParamSpec("_P")
_R = TypeVar("_R")


class UnknownKeyword(InputError, TypeError):
    """A function was called with a keyword it does not have; the message names the nearest, and all it has."""


def checked_keywords(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The same function; a keyword that it does not have is refused with the ones it has."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        require_known(function.__name__, kwargs, known)
        return function(*args, **kwargs)

    return checked


def require_known(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse keywords that are not known.

    Raises:
        UnknownKeyword: with the nearest known one, and all.
    """
    names = list(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UnknownKeyword(f"{function} has no argument {name!r}; {hint}It takes {', '.join(names)}")


def real(value: Any, name: str, low: float, high: float, repair: str, what: str = "a number") -> float:
    """A number of any numeric type (Python's, NumPy's, a tensor or array of one element) as a float.

    Raises:
        InputError: it is no number, not finite, or outside low … high; `repair` says what to do.
    """
    number = plain_number(value)
    if number is None or not math.isfinite(number) or not low <= number <= high:
        rule = f"{what} from {low:g} to {high:g}" if math.isfinite(high) else f"{what} of at least {low:g}"
        raise InputError(f"{name} is {value!r}, but it must be {rule}; {repair}")
    return float(number)


def whole(value: Any, name: str, low: int, repair: str) -> int:
    """A whole number of any numeric type (8, 8.0, numpy.int64(8), torch.tensor(8)) as an int.

    Raises:
        InputError: it is no whole number, or below `low`; `repair` says what to do.
    """
    number = plain_number(value)
    if number is None or not math.isfinite(number) or number != int(number) or number < low:
        raise InputError(f"{name} is {value!r}, but it must be a whole number of at least {low}; {repair}")
    return int(number)


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

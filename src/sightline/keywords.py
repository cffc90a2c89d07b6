"""Keywords that callers give: those that are not known are refused with the ones that are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from sightline.errors import InputError
from sightline.words import did_you_mean

_P = ParamSpec("_P")
_R = TypeVar("_R")


class UnknownKeyword(InputError, TypeError):
    """A function was called with a keyword it does not have; the message names the nearest, and all it has."""


def checked_keywords(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The same function; a keyword that it does not have is refused with the ones it has."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]

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
            sentences = [did_you_mean(name, names, ""), f"It takes {', '.join(names)}"]
            raise UnknownKeyword(f"{function} has no argument {name!r}; {' '.join(filter(None, sentences))}")

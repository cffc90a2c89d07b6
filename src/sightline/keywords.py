"""Check keyword arguments; for an unknown one, the error suggests the closest known name."""

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
    """A function was called with an unknown keyword; the message names the closest one and lists all."""


def checked_keywords(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a function so that an unknown keyword raises `UnknownKeyword`."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        require_known(function.__name__, kwargs, known)
        return function(*args, **kwargs)

    return checked


def require_known(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Check that all given keywords are known.

    Raises:
        UnknownKeyword: one is not; the message names the closest known keyword and lists all.
    """
    names = list(known)
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names, "")
            takes = f"{hint} It takes" if hint else "it takes"
            raise UnknownKeyword(f"{function} has no argument {name!r}; {takes} {', '.join(names)}")

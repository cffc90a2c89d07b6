"""Check the entries and types of values read from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sightline.errors import InputError
from sightline.runtime.reading import kind_of, shown

Spec = Any
"""A type or a tuple of types; [spec], a list of such values; {str: spec}, an object with any names; {"name": spec,
"name?": spec}, an object with these entries, of which the second is optional (additional entries are ignored)."""

NUMBER = (int, float)
OPTIONAL_NUMBER = (int, float, type(None))


def require_entries(value: Any, spec: Spec, where: str, repair: str = "restore the file", at: str = "") -> None:
    """Check that a value matches a spec.

    Args:
        value: a value from a file: plain values, lists and dictionaries.
        spec: the expected form.
        where: the file, for the message.
        repair: what to do, for the message.
        at: the path of the value's entry, for the message.

    Raises:
        InputError: it does not match; the message names the file, the entry, its value and the expected type.
    """
    if isinstance(spec, list):
        _require_type(value, (list, tuple), where, repair, at)
        for position, part in enumerate(value):
            require_entries(part, spec[0], where, repair, f"{at}[{position}]")
    elif isinstance(spec, Mapping):
        _require_type(value, dict, where, repair, at)
        if str in spec:
            for name, part in value.items():
                _require_type(name, str, where, repair, f"a name in {at or 'it'}")
                require_entries(part, spec[str], where, repair, _below(at, name))
            return
        for name, inner in spec.items():
            plain = name.removesuffix("?")
            if plain in value:
                require_entries(value[plain], inner, where, repair, _below(at, plain))
            elif plain == name:
                raise InputError(f"{shown(where)} lacks the entry {_below(at, plain)!r}; {repair}")
    else:
        _require_type(value, spec, where, repair, at)


def _below(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _require_type(value: Any, kinds: Any, where: str, repair: str, at: str) -> None:
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    fits = isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds or object in kinds)
    if fits and isinstance(value, float) and not math.isfinite(value):
        fits = False
    if fits:
        return
    given = repr(value)
    given = given if len(given) <= 60 else f"{given[:57]}…"
    what = f"the entry {at!r} of {shown(where)}" if at else shown(where)
    wanted = " or ".join(dict.fromkeys("null" if kind is type(None) else kind_of(kind) for kind in kinds))
    raise InputError(f"{what} is {shown(given)} ({kind_of(value)}), but {wanted} is expected; {repair}")

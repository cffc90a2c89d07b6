"""Read JSON with limits on the nesting depth and the length of numbers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.runtime.limits import VARIABLE, limits, require_within
from sightline.runtime.reading.files import CHUNK, PathLike
from sightline.runtime.reading.text import read_text
from sightline.words import kind_of, shown

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = np.zeros(256, np.int8)
_BRACKET[[ord("["), ord("{")]], _BRACKET[[ord("]"), ord("}")]] = 1, -1


def read_json(path: PathLike, kind: type | tuple[type, ...] = object, unique: bool = False) -> Any:
    """Read the value of a JSON file.

    Args:
        path: the file.
        kind: the type the value must have, such as `dict`.
        unique: refuse an object with a name that occurs twice, of which the last value would be read silently.

    Raises:
        InputError: as for `read_bytes`, or as for `parse_json`.
    """
    return parse_json(read_text(path), path, kind, unique)


def parse_json(text: str, where: PathLike, kind: type | tuple[type, ...] = object, unique: bool = False) -> Any:
    """Parse the value of a JSON text.

    Args:
        text: the text to parse.
        where: the file or other source of the text, for the message.
        kind: the type the value must have, such as `dict`.
        unique: as for `read_json`.

    Raises:
        InputError: it is not valid JSON, is nested too deeply, has too long a number, or has another type.
    """
    if not text.strip():
        raise InputError(f"{shown(where)} is empty, but JSON is expected; copy or save it again")
    require_depth(text, where)
    try:
        value = json.loads(
            text,
            parse_int=_whole if _has_long_number(text) else None,
            object_pairs_hook=_without_repetition if unique else None,
        )
    except _Repetition as error:
        raise InputError(
            f"{shown(where)} has two entries named {shown(error)!r}, of which only one can be read; join them, or "
            "remove one"
        ) from None
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        reason = "it ends too early" if cut else f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise InputError(f"{shown(where)} is not valid JSON: {reason}; correct or save it again") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown(where)} is not valid JSON: {error}; correct or save it again") from None
    if not isinstance(value, kind):
        raise InputError(f"{shown(where)} holds {kind_of(value)}, but {kind_of(kind)} is expected; correct it")
    return value


class _Repetition(Exception):
    """A name that occurs twice in a JSON object."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _Repetition(Counter(name for name, _ in pairs).most_common(1)[0][0])
    return made


def require_depth(text: str, where: PathLike) -> None:
    """Check the nesting depth of lists and objects in a JSON text."""
    most = limits().depth
    if text.count("[") + text.count("{") <= most:
        return
    plain = _STRING.sub("", text) if '"' in text else text
    steps = _BRACKET[np.frombuffer(plain.encode("utf-8", "replace"), np.uint8)]
    deepest = max((int(part.max()) for part in _running(steps)), default=0)
    require_within(f"{shown(where)}: the depth of lists and objects inside each other", deepest, "depth")


def _running(steps: np.ndarray) -> Iterator[np.ndarray]:
    """The cumulative sum, one block at a time."""
    total = 0
    for start in range(0, len(steps), CHUNK):
        part = np.cumsum(steps[start : start + CHUNK], dtype=np.int64) + total
        total = int(part[-1])
        yield part


def _has_long_number(text: str) -> bool:
    return re.search(r"[0-9]{32}", text) is not None


def _whole(digits: str) -> int:
    most = limits().digits
    if len(digits) > most:
        raise ValueError(
            f"a number has {len(digits)} digits, above the limit of {most} ({VARIABLE}=10 allows ten times as much)"
        )
    return int(digits)

"""Words for messages: counts with nouns and verbs, printable names, and kinds of values."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence


def counted(number: float, what: str = "image") -> str:
    """A number with its noun: 1 image, 2 images, 3 classes, 2.5 minutes."""
    ending = "" if number == 1 else "es" if what.endswith(("s", "x")) else "s"
    return f"{number:g} {what}{ending}" if isinstance(number, float) else f"{number} {what}{ending}"


def are(number: int) -> str:
    """The verb that follows a count: 1 image is, 2 images are."""
    return "is" if number == 1 else "are"


def have(number: int) -> str:
    """The verb that follows a count: 1 image has, 2 images have."""
    return "has" if number == 1 else "have"


def listed(names: Sequence[str], most: int = 6, what: str = "") -> str:
    """The first `most` names and the number of others: "a, b and 5 more"; with `what`, "5 more classes"."""
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more {what}".rstrip() if left > 0 else "")


def class_text(name: str) -> str:
    """The name of a class in a sentence: "class 0" for a class without a name, of which only the number is known."""
    return f"class {name}" if name.isdecimal() else name


def did_you_mean(name: object, known: Iterable[str], otherwise: str) -> str:
    """The question "did you mean 'x'?" with the known name closest to `name`; `otherwise` if none is close."""
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f"did you mean {near[0]!r}?" if near else otherwise


def nearest(word: str, known: Mapping[str, str | Sequence[str]]) -> list[str]:
    """The keys of `known` whose text, or one of whose texts, differs least from `word` by slips of the keyboard.

    Empty if all differ by more than one slip (a letter too many, too few, wrong, or two in the wrong order); in words
    of 7 letters or more by more than two.
    """
    most = 0 if len(word) < 3 else 1 if len(word) < 7 else 2
    slips: dict[str, int] = {}
    for name, texts in known.items():
        near = [text for text in ((texts,) if isinstance(texts, str) else texts) if abs(len(text) - len(word)) <= most]
        slips[name] = min((edit_distance(word, text) for text in near), default=most + 1)
    least = min(slips.values(), default=most + 1)
    return [name for name, count in slips.items() if count == least <= most]


def edit_distance(a: str, b: str) -> int:
    """Number of letters to insert, remove, replace or swap with their neighbour to turn one text into the other.

    The restricted distance of Damerau, "A technique for computer detection and correction of spelling errors", CACM
    1964: no letter is changed twice.
    """
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a):
        last, before, row = before, row, [i + 1]
        for j, other in enumerate(b):
            best = min(before[j] + (letter != other), before[j + 1] + 1, row[j] + 1)
            if i and j and letter == b[j - 1] and a[i - 1] == other:
                best = min(best, last[j - 1] + 1)
            row.append(best)
    return row[-1]


CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Control characters, line and paragraph separators, changes of writing direction, lone surrogates."""


def shown(text: object) -> str:
    """A name that is safe to print on one line: no line breaks, no control characters, no lone surrogates."""
    name = os.fsdecode(text) if isinstance(text, bytes | os.PathLike) else str(text)
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), name)


_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a whole number"}


def kind_of(value: object) -> str:
    """The kind of a JSON or YAML value in words; for a type, the kind of its values."""
    if isinstance(value, tuple) and value and all(isinstance(part, type) for part in value):
        return " or ".join(kind_of(part) for part in value)
    kind = value if isinstance(value, type) else type(value)
    if value is None:
        return "null"
    return _KINDS.get(kind, "a number" if kind is float else kind.__name__)

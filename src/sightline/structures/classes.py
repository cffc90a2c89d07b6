"""Class names by class id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import overload

from sightline.errors import ClassMismatch, InputError
from sightline.words import listed, nearest

_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")

_WORDS = re.compile(r"\w+")
_WHOLE = 3
"""Minimum number of letters of a word that counts as a part of a longer one."""

BACKGROUND = "background"
"""Name of the background class. `sightline.draw` does not tint pixels of a class with this name."""


class Classes(Sequence[str]):
    """An immutable sequence of K class names. A class id is a position 0 … K−1; detectors have no background class.

    Args:
        names: distinct, non-empty names, in the order of their ids.

    Raises:
        InputError: a name is empty, is not a string, contains a line break or another control character, or occurs
            twice.
    """

    def __init__(self, names: Iterable[str]):
        if isinstance(names, str):
            raise InputError(f"classes must be a list of names, not the single string {names!r}; write [{names!r}]")
        if not isinstance(names, Iterable):
            raise InputError(
                f"classes must be a list of names, not {names!r}; give their names, such as ['cat', 'dog']"
            )
        self.names = tuple(names)
        seen: set[str] = set()
        for position, name in enumerate(self.names):
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"class {position} is {name!r}, but a class name must be a non-empty string")
            if _UNPRINTABLE.search(name):
                raise InputError(
                    f"class {position} is {name!r}, but a class name must be one line of text without "
                    "control characters and halves of surrogate pairs; rename it"
                )
            if name in seen:
                raise InputError(
                    f"class {name!r} occurs twice (again at {position}), but names must be distinct; rename one"
                )
            seen.add(name)
        self._ids = {name: position for position, name in enumerate(self.names)}

    @overload
    def __getitem__(self, item: int) -> str: ...
    @overload
    def __getitem__(self, item: slice) -> tuple[str, ...]: ...
    def __getitem__(self, item: int | slice) -> str | tuple[str, ...]:
        return self.names[item]

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Classes):
            return self.names == other.names
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        return f"Classes({len(self)}: {listed(self.names)})"

    def id(self, name: str) -> int:
        """The id of the class `name`.

        Raises:
            InputError: there is no such class. The message suggests a similar name, or names that hold this word.
        """
        if name not in self._ids:
            raise InputError(f"unknown class {name!r}; {self._hint(str(name))}")
        return self._ids[name]

    def _hint(self, name: str) -> str:
        """What to name instead of an unknown class."""
        wanted = name.strip().casefold()
        names = {known: known.casefold() for known in self}
        words = {known: _WORDS.findall(folded) for known, folded in names.items()}
        alike = [known for known, folded in names.items() if folded == wanted]
        holding = [known for known in self if wanted in words[known] or wanted.removesuffix("s") in words[known]]
        if len(wanted) >= _WHOLE:  # sheepdog is a dog
            holding += [known for known in self if any(word.endswith(wanted) for word in words[known])]
        found = alike or list(dict.fromkeys(holding)) or nearest(wanted, names) or nearest(wanted, words)
        if len(found) == 1:
            return f"did you mean {found[0]!r}?"
        if found:
            return f"classes with a similar name are {listed([repr(known) for known in found], 8)}"
        return f"no class has a similar name; the classes are {listed(self.names, 10)}"

    def require_same(self, other: Classes, mine: str, theirs: str, repair: str = "") -> None:
        """Check that `other` has the same names in the same order.

        Args:
            other: classes to compare with.
            mine, theirs: owners of the two, for the message ("the model", "the dataset").
            repair: another repair that the message ends with; it begins with "; ".

        Raises:
            ClassMismatch: the names or their order differ. The message lists missing and additional names, or the first
                position that differs.
        """
        if self == other:
            return
        missing = [name for name in self if name not in other]
        extra = [name for name in other if name not in self]
        parts = []
        if missing:
            parts.append(f"{theirs} lacks {_list_names(missing)}")
        if extra:
            parts.append(f"{theirs} also has {_list_names(extra)}")
        if not parts:
            first = next(i for i, (a, b) in enumerate(zip(self, other, strict=True)) if a != b)
            parts.append(
                f"their order differs: id {first} is {self[first]!r} in {mine} and {other[first]!r} in {theirs}"
            )
        raise ClassMismatch(
            f"the classes of {mine} and {theirs} differ: {' and '.join(parts)}; rename or reorder the data's "
            "classes (--classes OLD=NEW, in Python open_dataset(…, classes=…)), or take a model of these classes"
            f"{repair}"
        )


def _list_names(names: Sequence[str], limit: int = 8) -> str:
    return listed([repr(name) for name in names], limit)

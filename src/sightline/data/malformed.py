"""Labels that cannot be read: collected while a dataset is opened, so that all of them can be listed at once.

A reader wraps the code for one label (a line, a row, an annotation, a shape, a file of one image):

    try:
        add_object(...)
    except InputError as error:
        skip_label(error, file, line=number)

`skip_label` records the label and returns, so that the reader continues with the next one. Outside `collecting`, it
raises the error. `sightline.open_dataset` collects, and raises an error at the end unless it is lenient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import InputError

MOST = 100_000
"""The maximum number of recorded labels; a file with more is not a label file, and reading stops."""


class UnknownClass(InputError):
    """A label has a class that is not among the class names."""


@dataclass(frozen=True)
class BadLabel:
    """One label that was skipped.

    Attributes:
        file: path of its file.
        line: its line or row in the file, from 1; None if the file is not read line by line.
        value: the message without the file: the place in the file, the value, the rule.
        rule: "label-malformed" or "unknown-class", a key of `sightline.data.check.RULES`.
    """

    file: Path
    line: int | None
    value: str
    rule: str

    @property
    def message(self) -> str:
        """One sentence that begins with the file."""
        return f"{self.file}{' ' if self.value.startswith(_VERBS) else ': '}{self.value}"


_VERBS = ("is ", "has ", "contains ", "gives ")
_FOUND: ContextVar[list[BadLabel] | None] = ContextVar("found", default=None)


@contextmanager
def collecting() -> Iterator[list[BadLabel]]:
    """A context in which `skip_label` appends labels to the returned list instead of raising."""
    found: list[BadLabel] = []
    token = _FOUND.set(found)
    try:
        yield found
    finally:
        _FOUND.reset(token)


def skip_label(error: InputError, file: Path, line: int | None = None) -> None:
    """Record a label that cannot be read; raise `error` outside `collecting`.

    Args:
        error: the error; the file's path or name is removed from the beginning of its message.
        file: the file of the label.
        line: its line or row, from 1.
    """
    found = _FOUND.get()
    if found is None or len(found) >= MOST:
        raise error
    value = str(error)
    for start in (f"cannot read {file}: ", f"{file}: ", f"{file}, ", f"{file} "):
        value = value.removeprefix(start)
    rule = "unknown-class" if isinstance(error, UnknownClass) else "label-malformed"
    found.append(BadLabel(file, line, value, rule))


def refuse(found: Sequence[BadLabel], given: Path) -> InputError:
    """The error for a dataset with labels that cannot be read; `given` is the path it was opened by."""
    one = found[0]
    if len(found) == 1:
        return InputError(one.message)
    more = f"{len(found) - 1} more label{'s' if len(found) > 2 else ''} cannot be read"
    return InputError(f"{one.message}; {more}: `sightline check {given}` lists them all, --fix leaves them out")

"""Labels that cannot be read: remembered while a dataset is opened, so that all of them can be listed at once.

A reader wraps what it does with one label (a line, a row, an annotation, a shape, a file of one image):

    try:
        add_object(...)
    except InputError as error:
        leave_out(error, file, line=number)

`leave_out` remembers the label and returns, so that the reader goes on with the next one. Where nobody collects, it
raises the error. `sightline.open_dataset` collects, and refuses at the end unless it is asked to be lenient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import InputError

MOST = 100_000
"""Labels remembered; a file with more is no label file, and reading stops."""


class UnknownClass(InputError):
    """A label is of a class that is not among the names."""


@dataclass(frozen=True)
class BadLabel:
    """One label that was left out.

    Attributes:
        file: path of the file that holds it.
        line: its line or row in the file, from 1; None where the file is not read by lines.
        value: what the sentence says of it, without the file: the place in the file, the value, the rule.
        rule: "label-malformed" or "unknown-class", a key of `sightline.data.check.RULES`.
    """

    file: Path
    line: int | None
    value: str
    rule: str

    @property
    def message(self) -> str:
        """One sentence that begins with the file."""
        return f"{self.file}{' ' if self.value.startswith(('is ', 'has ', 'holds ')) else ': '}{self.value}"


_FOUND: ContextVar[list[BadLabel] | None] = ContextVar("found", default=None)


@contextmanager
def collecting() -> Iterator[list[BadLabel]]:
    """Within it `leave_out` remembers labels in the list given instead of raising."""
    found: list[BadLabel] = []
    token = _FOUND.set(found)
    try:
        yield found
    finally:
        _FOUND.reset(token)


def leave_out(error: InputError, file: Path, line: int | None = None) -> None:
    """Remember a label that cannot be read; raise `error` where nobody collects.

    Args:
        error: what is wrong; a sentence that begins with the file's path or name loses it.
        file: the file that holds the label.
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
    """The sentence for a dataset with labels that cannot be read, `given` being the path it was opened by."""
    one = found[0]
    if len(found) == 1:
        return InputError(one.message)
    more = f"{len(found) - 1} more label{'s' if len(found) > 2 else ''} cannot be read"
    return InputError(f"{one.message}; {more}: `sightline check {given}` lists them all, --fix leaves them out")

"""Exceptions for invalid input of a user.

Every message is one clear sentence: which file or item, what value, which rule, what to do. The command line prints
only this sentence; in Python code the exception is a `ValueError`.
"""

from __future__ import annotations

from sightline.words import shown

REPLACE = "replace or remove it"
"""What to do about the file of an image or video that cannot be read."""


class InputError(ValueError):
    """Input of the user cannot be used: a path, a label, a number, the contents of a file.

    The message is always one line: control characters in names and values are written as escapes.
    """

    def __str__(self) -> str:
        return shown(super().__str__())


class ClassMismatch(InputError):
    """Two sets of classes that must be equal differ; the message names the difference."""

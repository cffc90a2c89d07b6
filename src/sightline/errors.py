"""What a user can get wrong, as one kind of error.

Every message is one clear sentence: which file or item, what value, which rule, what to do. The command line prints the
sentence alone; Python code sees an ordinary `ValueError`.
"""

from __future__ import annotations

from sightline.words import shown


class InputError(ValueError):
    """Something the user gave cannot be used: a path, a label, a number, a file's content.

    The message is one line whatever names and values stand in it: control characters are written as escapes.
    """

    def __str__(self) -> str:
        return shown(super().__str__())


class ClassMismatch(InputError):
    """Two sets of classes that should be the same are not; the message names the difference."""

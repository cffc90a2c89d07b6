"""Names and kinds of values as the sentence of an error can hold them."""

from __future__ import annotations

import os
import re

CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Control characters, line and paragraph ends, changes of the direction of writing, halves of surrogate pairs."""


def shown(text: object) -> str:
    """A name as it can stand in one line of a terminal: no line breaks, no control characters, no lone surrogates."""
    name = os.fsdecode(text) if isinstance(text, bytes | os.PathLike) else str(text)
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), name)


_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a whole number"}


def kind_of(value: object) -> str:
    """What a value of JSON or YAML is, in words; a type stands for its values."""
    if isinstance(value, tuple) and value and all(isinstance(part, type) for part in value):
        return " or ".join(kind_of(part) for part in value)
    kind = value if isinstance(value, type) else type(value)
    if value is None:
        return "null"
    return _KINDS.get(kind, "a number" if kind is float else kind.__name__)

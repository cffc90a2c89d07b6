"""What the verbs' arguments say: data and its parts, settings, places to write to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from sightline.errors import InputError
from sightline.runtime import reading


def class_words(values: Sequence[str] | None) -> dict[str, str | None] | list[str] | None:
    """What --classes says: "apple=fruit,pear=fruit,junk=" renames, merges and leaves out; "apple,pear" keeps these.

    Args:
        values: the option's texts; each may hold several with commas between. A comma in a name is written as \\,

    Returns:
        New names by old ones, None for a class that is left out; or names of the classes to keep.
    """
    texts = [text.replace("\\,", ",") for value in values or () for text in re.split(r"(?<!\\),", value)]
    if not any("=" in text for text in texts):
        return [text.strip() for text in texts] or None
    mapping: dict[str, str | None] = {}
    for text in texts:
        old, equals, new = (part.strip() for part in text.partition("="))
        if not equals or not old:
            raise InputError(
                f"--classes {text!r} has no =, but others do; write old=new for each class that changes, old= to leave "
                "one out (or names alone, to keep only these)"
            )
        if mapping.setdefault(old, new or None) != (new or None):
            raise InputError(f"--classes says both {old}={mapping[old] or ''} and {old}={new}; give one")
    return mapping


def shares_of(text: str) -> tuple[float, float, float]:
    """What --split of `convert` says, "80/10/10" or "0.8/0.2": shares to train on, validate on, test on."""
    try:
        numbers = [float(part) for part in text.split("/")]
    except ValueError:
        numbers = []
    total = sum(numbers)
    whole = next((w for w in (100.0, 1.0) if abs(total - w) < 1e-6 * w), None)
    if len(numbers) not in (2, 3) or whole is None or min(numbers) < 0:
        raise InputError(
            f"--split {text!r} must be two or three shares of 100 with / between, to train, validate and test on, such "
            "as 80/10/10"
        )
    train, val, test = (number / whole for number in [*numbers, 0.0][:3])
    return train, val, test


def pairs(values: list[str] | None, option: str) -> dict[str, Any]:
    """name=value texts → values as YAML reads them: numbers, true, null, [lists]."""
    pairs = {}
    for text in values or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} {text!r} must have the form name=value")
        pairs[name.strip()] = reading.parse_yaml(value, f"{option} {text if len(text) <= 80 else text[:77] + '…'}")
    return pairs


def grouped(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a model, where settings.name=value is a value of the group `settings`."""
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        group, dot, inner = name.partition(".")
        if dot:
            found.setdefault(group, {})[inner] = value
        else:
            found[name] = value
    return found


def beside(data: Path) -> Path:
    """DATA-fixed in the folder that DATA is in, also where DATA is `.` or a label file."""
    place = data if data.name not in ("", "..") else data.resolve()
    return place.with_name(f"{place.stem if place.is_file() else place.name}-fixed")


def say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(text, err=True)

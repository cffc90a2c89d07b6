"""Parse the arguments of verbs: classes, splits, settings, folders to write to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sightline.errors import InputError
from sightline.runtime import reading

if TYPE_CHECKING:
    from sightline.training.recipe import Recipe

COMMAND_LINE = "the command line"
"""The source of settings, for messages."""


def parse_classes(values: Sequence[str] | None) -> dict[str, str | None] | list[str] | None:
    """Parse --classes: "apple=fruit,pear=fruit,junk=" renames, merges and removes; "apple,pear" keeps these classes.

    Args:
        values: the texts of the option; each may hold several entries separated by commas. A comma in a name is
            written as \\,

    Returns:
        New names by old ones, None for a removed class; or the names of the classes to keep.
    """
    texts = [text.replace("\\,", ",") for value in values or () for text in re.split(r"(?<!\\),", value)]
    if not any("=" in text for text in texts):
        return [text.strip() for text in texts] or None
    mapping: dict[str, str | None] = {}
    for text in texts:
        old, equals, new = (part.strip() for part in text.partition("="))
        if not equals or not old:
            raise InputError(
                f"--classes {text!r} has no =, but other entries do; write old=new for each class to rename, old= to "
                "remove one (or only names, to keep only these classes)"
            )
        if mapping.setdefault(old, new or None) != (new or None):
            raise InputError(f"--classes has both {old}={mapping[old] or ''} and {old}={new}; give one of them")
    return mapping


def parse_shares(text: str) -> tuple[float, float, float]:
    """Parse --split of `convert`, "80/10/10" or "0.8/0.2": shares of training, validation and test images."""
    try:
        numbers = [float(part) for part in text.split("/")]
    except ValueError:
        numbers = []
    total = sum(numbers)
    whole = next((w for w in (100.0, 1.0) if abs(total - w) < 1e-6 * w), None)
    if len(numbers) not in (2, 3) or whole is None or min(numbers) < 0:
        raise InputError(
            f"--split {text!r} must be two or three shares of 100 separated by /, for training, validation and test, "
            "such as 80/10/10"
        )
    train, val, test = (number / whole for number in [*numbers, 0.0][:3])
    return train, val, test


def parse_pairs(values: list[str] | None, option: str) -> dict[str, Any]:
    """Parse name=value texts; values are read as YAML: numbers, true, null, [lists]; none is null in --arg.

    In --set it stays a word, since some settings have a value of this name, such as augmentation.
    """
    pairs = {}
    for text in values or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} {text!r} must have the form name=value")
        if not value.strip():
            raise InputError(f"{option} {text!r} has no value; write {name.strip()}=none if none is meant")
        read = reading.parse_yaml(value, f"{option} {text if len(text) <= 80 else text[:77] + '…'}")
        is_none = option == "--arg" and isinstance(read, str) and read.lower() == "none"
        pairs[name.strip()] = None if is_none else read
    return pairs


def run_to_resume(given: Path | None) -> tuple[Path, str, None]:
    """The folder of all runs, the name of the run whose folder is given in place of the data, and no data."""
    if given is None or not (given / "recipe.yaml").is_file():
        raise InputError("--resume needs the run's --name, or its folder: sightline train runs/first --resume")
    folder = given.resolve()
    return folder.parent, folder.name, None


def checked_recipe(path: Path | None, settings: Mapping[str, Any]) -> Recipe | None:
    """Read --recipe and check the settings of the command line, before the library and the data are loaded."""
    from sightline.training.recipe import Recipe

    recipe = None if path is None else Recipe.from_yaml(path)
    Recipe.stated(recipe, settings, COMMAND_LINE)
    return recipe


def group_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Group the arguments of a model: settings.name=value sets a value of the group `settings`."""
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        group, dot, inner = name.partition(".")
        if dot:
            found.setdefault(group, {})[inner] = value
        else:
            found[name] = value
    return found


def fixed_copy_path(data: Path) -> Path:
    """DATA-fixed next to DATA, also if DATA is `.` or a label file."""
    place = data if data.name not in ("", "..") else data.resolve()
    return place.with_name(f"{place.stem if place.is_file() else place.name}-fixed")


def say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(text, err=True)

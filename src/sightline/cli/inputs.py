"""What the verbs' arguments say: data and its parts, settings, places to write to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sightline.errors import InputError
from sightline.runtime import reading

if TYPE_CHECKING:
    from sightline.data.dataset import Dataset
    from sightline.data.division import Parts
    from sightline.training.trained_on import TrainedOn


def open_data(
    data: Path,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    *,
    format: str | None = None,
    lenient: bool = False,
    full_scale: int | None = None,
) -> Dataset:
    from sightline.data.formats import open_dataset

    return open_dataset(data, train=train, val=val, test=test, format=format, lenient=lenient, full_scale=full_scale)


def parts_of(dataset: Dataset, seed: int, known: TrainedOn | None = None) -> Parts:
    """The images to train and to validate on; says how data was divided that lacks splits."""
    from sightline.verbs.train import parts_to_train

    sayings: list[str] = []
    parts = parts_to_train(dataset, seed, known, sayings)
    for sentence in sayings:
        typer.echo(sentence, err=True)
    return parts


def pairs(values: list[str] | None, option: str) -> dict[str, Any]:
    """name=value texts → values as YAML reads them: numbers, true, null, [lists]."""
    pairs = {}
    for text in values or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} {text!r} must have the form name=value")
        pairs[name.strip()] = reading.parse_yaml(value, f"{option} {text if len(text) <= 80 else text[:77] + '…'}")
    return pairs


def arguments_of(model: str, values: list[str] | None) -> dict[str, Any]:
    """The model's arguments, of the kind its builder takes: a word where a number belongs is refused here."""
    from sightline.models.arguments import with_image_size, wrong_kind
    from sightline.models.catalog import find

    arguments: dict[str, Any] = {}
    for name, value in pairs(values, "--arg").items():
        group, dot, inner = name.partition(".")
        if dot:  # a number of the model's settings
            arguments.setdefault(group, {})[inner] = value
        else:
            arguments[name] = value
    if "classes" in arguments:
        raise InputError("--arg classes=…: the classes are those of the data; leave it out")
    for name, value in arguments.items():
        wanted = wrong_kind(find(model), name, value)
        if wanted is not None:
            raise InputError(f"--arg {name}={value}: {model} takes {wanted} there")
    channels = arguments.get("in_channels", 3)
    if not isinstance(channels, int) or channels < 1:
        raise InputError(f"--arg in_channels={channels}: it must be a whole number of at least 1")
    return with_image_size(find(model), arguments)


def beside(data: Path) -> Path:
    """DATA-fixed in the folder that DATA is in, also where DATA is `.` or a label file."""
    place = data if data.name not in ("", "..") else data.resolve()
    return place.with_name(f"{place.stem if place.is_file() else place.name}-fixed")


def refuse_existing(file: Path) -> None:
    if file.exists():
        raise InputError(f"{file} exists, and nothing is overwritten; give another name or remove it")
    if not file.parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}; make it first")


def say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(text, err=True)

"""What the metadata of a saved model's file says: the builder's arguments and the class names."""

from __future__ import annotations

from typing import Any

from sightline.errors import InputError
from sightline.models.arguments import parameters, require_arguments, with_image_size, with_settings
from sightline.models.by_task import shared
from sightline.models.catalog import find, is_known
from sightline.models.entry import Entry
from sightline.runtime import reading
from sightline.structures import Classes


def saved_arguments(metadata: dict[str, str], where: str) -> dict[str, Any]:
    """The builder's arguments, from the metadata of a file written by `sightline.models.saving.save`.

    Raises:
        InputError: an entry of the metadata is missing, or the builder does not accept an argument.
    """
    saved_entry(metadata, "model", where)
    arguments = saved_entry(metadata, "arguments", where, dict)
    try:
        entry = find(metadata["model"])
        arguments = with_image_size(entry, arguments)
        require_arguments(entry, {k: v for k, v in arguments.items() if k != "in_channels"})
        if "antialiased" not in metadata.get("preprocess", "antialiased"):
            arguments = _without_antialiasing(entry) | arguments  # saved before antialiasing was an option
        return with_settings(entry, arguments)
    except InputError as error:
        own = " A model of your own must be added to sightline.models.catalog before its file is loaded."
        known = is_known(metadata["model"])
        raise InputError(f"{where}: {error}{'' if known else own}") from None


def saved_classes(metadata: dict[str, str], where: str) -> Classes:
    """The class names, from the metadata of a saved model's file. Raises the same errors as `saved_arguments`."""
    names = saved_entry(metadata, "classes", where, list)
    try:
        return Classes(names)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def saved_entry(metadata: dict[str, str], name: str, where: str, kind: type = str) -> Any:
    """An entry of a saved model's metadata: a string, or a value of type `kind` decoded from JSON.

    Raises:
        InputError: the entry is missing, is not valid JSON, or has a different type.
    """
    if name not in metadata:
        raise InputError(f"{where} lacks the entry {name!r} of a saved model; save the model again")
    return metadata[name] if kind is str else reading.parse_json(metadata[name], f"{where}, its entry {name!r}", kind)


def _without_antialiasing(entry: Entry) -> dict[str, Any]:
    """Preprocessing arguments of classifiers and segmenters saved before antialiasing was an option."""
    known = shared(entry.task).before_antialiasing
    return {name: value for name, value in known.items() if name in parameters(entry)}

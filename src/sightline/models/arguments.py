"""What a builder of the catalog is given: names and kinds of its arguments, and settings written as dictionaries."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import nn

from sightline.errors import InputError
from sightline.models.by_task import shared
from sightline.models.entry import BACKBONE_ARGUMENTS, Entry
from sightline.runtime.limits import limits, require_within
from sightline.runtime.values import require_number, require_whole, short
from sightline.words import did_you_mean

_SEQUENCES = (Sequence, Iterable, list, tuple)
_RENAMED = {"slots": "output_ids"}
log = logging.getLogger("sightline")
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "none",
}


def parameters(entry: Entry) -> list[str]:
    """Names of the arguments that the model takes besides the classes."""
    return list(entry.arguments)


def with_image_size(entry: Entry, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, with `image_size`, which every model takes, and older names as the builder's own.

    Where a builder knows the shorter and the longer side, `image_size` is the shorter, and the longer keeps its ratio
    to it. R-CNN resizes regions, not images: it is the side of those.

    Raises:
        InputError: `image_size` and what it stands for are both given, or it is no whole number.
    """
    own = entry.arguments
    made = dict(arguments)
    for old, new in {**shared(entry.task).old_names, **_RENAMED}.items():
        if old in made and old not in own:
            if new in made:
                raise InputError(f"{entry.name} is given both {new} and {old}, its old name; give {new} alone")
            made[new] = made.pop(old)
            if old in _RENAMED:
                log.warning("%s: the argument %s is now called %s", entry.name, old, new)
    size = made.get("image_size")
    if "image_size" not in made or "image_size" in own:
        return made
    if not _fits(size, int):
        raise InputError(f"image_size of {entry.name} is {size!r}, but it takes a whole number")
    del made["image_size"]
    if "regions" in own:
        given = made.get("regions") or {}
        numbers = given if isinstance(given, dict) else {f.name: getattr(given, f.name) for f in fields(given)}
        made["regions"] = {**numbers, "crop": size}
        return made
    if "min_size" in made:
        raise InputError(f"{entry.name} is given both image_size and min_size, which are one size; give one of them")
    made["min_size"] = size
    short, long = own["min_size"].default, own["max_size"].default
    if "max_size" not in made and long is not None:
        made["max_size"] = round(size * long / short)
    return made


def require_arguments(entry: Entry, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the builder does not have, and values of another kind than it takes.

    Raises:
        InputError: naming the argument, and the nearest known one or the kind that is taken.
    """
    known = parameters(entry)
    known += [] if "image_size" in known else ["image_size"]
    for name in arguments:
        if name not in known:
            hint = did_you_mean(name, known, f"it has {', '.join(known)}.")
            raise InputError(f"{entry.name} has no argument {name!r}; {hint}")
    for name, value in arguments.items():
        wanted = wrong_kind(entry, name, value)
        if wanted is not None:
            raise InputError(f"{name} of {entry.name} is {short(value)}, but it takes {wanted}")
        require_range(f"{name} of {entry.name}", value)


def require_range(what: str, value: Any) -> None:
    """Refuse numbers that no model can be built from: infinite ones, and those that would take all of the memory.

    Args:
        what: the argument, for the message.
        value: a number, a text, or lists and dictionaries of them.

    Raises:
        InputError: naming the number and the limit.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        for name, inner in value.items():
            require_range(f"{what}.{name}" if isinstance(name, str) else what, inner)
    elif isinstance(value, list | tuple):
        require_whole(f"the number of values of {what}", len(value), 0, "class_ids")
        for inner in value:
            require_range(what, inner)
    elif isinstance(value, Integral) and not isinstance(value, bool):
        most = "image_side" if "size" in what or "side" in what else "count"
        require_whole(what, value, -limits().count, most)
    elif isinstance(value, Real) and not isinstance(value, bool):
        require_number(what, value, -1e12, 1e12)


def largest_whole(value: Any) -> int:
    """The largest whole number among values, in lists and dictionaries of any depth."""
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        return max(map(largest_whole, value), default=0)
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else 0


def require_parameters(name: str, build: Callable[[], nn.Module]) -> None:
    """Refuse a model of more parameters than the limit, without making room for them.

    Args:
        name: of the model, for the message.
        build: makes it; called where tensors have no memory.

    Raises:
        InputError: naming the number of parameters.
    """
    with torch.device("meta"):
        model = build()
    count = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    require_within(f"the number of parameters of {name} with these arguments", count, "parameters")


def wrong_kind(entry: Entry, name: str, value: Any) -> str | None:
    """In words what an argument takes, where the value is of another kind; None where it fits or nothing is known."""
    hint = entry.arguments[name].kind if name in entry.arguments else Any
    known = _words_of(hint) if name in BACKBONE_ARGUMENTS else ()
    return None if _fits(value, hint) and (not known or value in known) else in_words(hint)


def with_settings(entry: Entry, arguments: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments, each group of settings as the dataclass that the builder takes.

    A dictionary changes the numbers it names and leaves the model's others as they are: those in `own`, else the
    model's default. None stands for all of them, so it is left out.

    Args:
        entry: the model.
        arguments: of its builder; settings as a dataclass, a dictionary, or None.
        own: arguments that go before the builder's defaults, such as those of a saved model.

    Raises:
        InputError: the settings have no such number, or one is of another kind; the message names the nearest.
    """
    known_arguments = entry.arguments
    made = dict(arguments)
    for key, value in arguments.items():
        kind = _settings_of(known_arguments[key].kind) if key in known_arguments else None
        if kind is None or not isinstance(value, dict | None):
            continue
        if value is None:
            del made[key]
            continue
        known = [field.name for field in fields(kind)]
        kinds = get_type_hints(kind)
        for name, number in value.items():
            if name not in known:
                hint = did_you_mean(name, known, f"they have {', '.join(known)}.")
                raise InputError(f"{key} of {entry.name} has no number {name!r}; {hint}")
            if not _fits(number, kinds[name]):
                raise InputError(f"{key}.{name} of {entry.name} is {number!r}, but it takes {in_words(kinds[name])}")
        numbers = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        made[key] = replace((own or {}).get(key) or known_arguments[key].default, **numbers)
    return made


def _settings_of(hint: Any) -> Any:
    return next((kind for kind in get_args(hint) or (hint,) if is_dataclass(kind)), None)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a kind; of kinds not known here every value is."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, kind) for kind in get_args(hint))
    if is_dataclass(hint):
        return isinstance(value, dict | hint | None)  # None stands for the model's own
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    if hint in (str, type(None)):
        return isinstance(value, hint)
    if origin in _SEQUENCES:
        if isinstance(value, str | Mapping | Real | None):
            return False
        if not isinstance(value, list | tuple):
            return True  # an array or a generator: not looked into
        kinds = [kind for kind in get_args(hint) if kind is not Ellipsis]
        if origin is tuple and Ellipsis not in get_args(hint):
            return len(value) == len(kinds) and all(map(_fits, value, kinds))
        return all(_fits(entry, kinds[0]) for entry in value) if len(kinds) == 1 else True
    return True


def _words_of(hint: Any) -> tuple[Any, ...]:
    """The values of a literal type, or of those in a union."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(word for kind in get_args(hint) for word in ((None,) if kind is type(None) else _words_of(kind)))


def in_words(hint: Any) -> str:
    """What an argument of a type takes: "a whole number", "a list of numbers", …."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(kind) for kind in get_args(hint))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if is_dataclass(hint):
        return "settings, such as " + ", ".join(f"{field.name}=…" for field in fields(hint)[:2])
    if origin in _SEQUENCES:
        kinds = [kind for kind in get_args(hint) if kind is not Ellipsis]
        if origin is tuple and len(kinds) > 1:
            return f"a list of {len(kinds)} values"
        inner = in_words(kinds[0]) if len(kinds) == 1 else "values"
        if inner.startswith("a list"):
            return f"a list of lists{inner.removeprefix('a list')}"
        return "a list of " + {"a whole number": "whole numbers", "a number": "numbers"}.get(inner, inner)
    return _WORDS.get(hint, str(hint))

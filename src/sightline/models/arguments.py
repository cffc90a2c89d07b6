"""Arguments of the catalog's builders: their names and types, old names, and settings given as dictionaries."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import nn

from sightline.errors import InputError
from sightline.models.by_task import shared
from sightline.models.entry import BACKBONE_ARGUMENTS, Entry
from sightline.runtime.limits import limits, require_within
from sightline.runtime.shapes import shapes_only
from sightline.runtime.values import require_number, require_whole, short
from sightline.words import did_you_mean

_SEQUENCES = (Sequence, Iterable, list, tuple)
OLD_NAMES = {"slots": "output_ids", "points": "num_keypoints"}
"""Current names of arguments, by the names that earlier files and recipes use."""
_OLD_SETTINGS = {"bend": "beta"}
"""Current names of fields of settings, likewise."""
_SIZES = ("min_size", "regions")
"""Arguments that `image_size` sets in builders that have no argument of this name."""
log = logging.getLogger("sightline")
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "none",
}


def parameters(entry: Entry) -> list[str]:
    """Names of the model's arguments besides the classes."""
    return list(entry.arguments)


def takes_image_size(entry: Entry) -> bool:
    """Whether the model takes `image_size`: as an argument of its builder, or in place of the builder's own sizes."""
    return any(name in entry.arguments for name in ("image_size", *_SIZES))


def with_image_size(entry: Entry, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Replace old names of arguments by current ones, and `image_size` by the builder's own arguments.

    Every model of the library takes `image_size`. For a builder with `min_size` and `max_size`, it sets `min_size`, and
    `max_size` is scaled with it. R-CNN resizes regions instead of images, so it sets the side of warped regions.

    Raises:
        InputError: an argument is given under two names, `image_size` is given together with the argument that it
            sets, or `image_size` is not an integer.
    """
    own = entry.arguments
    made = _with_current_names(entry, arguments)
    size = made.get("image_size")
    if "image_size" not in made or "image_size" in own or not takes_image_size(entry):
        return made
    if not _fits(size, int):
        raise InputError(f"image_size of {entry.name} is {size!r}, but it takes a whole number")
    del made["image_size"]
    if "regions" in own:
        given = made.get("regions") or {}
        settings = given if isinstance(given, dict) else {f.name: getattr(given, f.name) for f in fields(given)}
        made["regions"] = {**settings, "crop": size}
        return made
    if "min_size" in made:
        raise InputError(f"{entry.name} is given both image_size and min_size, which are one size; give one of them")
    made["min_size"] = size
    short, long = own["min_size"].default, own["max_size"].default
    if "max_size" not in made and long is not None:
        made["max_size"] = round(size * long / short)
    return made


def _with_current_names(entry: Entry, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under their current names; a warning is logged for each old name."""
    own = entry.arguments
    made = dict(arguments)
    for old, new in {**shared(entry.task).old_names, **OLD_NAMES}.items():
        if old not in made or old in own or (old in OLD_NAMES and new not in own):
            continue
        if new in made:
            raise InputError(f"{entry.name} is given both {new} and {old}, its old name; give {new} alone")
        made[new] = made.pop(old)
        log.warning("%s: the argument %s is now called %s", entry.name, old, new)
    for group, values in made.items():
        kind = _settings_of(own[group].kind) if group in own else None
        if kind is None or not isinstance(values, dict):
            continue
        known = {field.name for field in fields(kind)}
        for old, new in _OLD_SETTINGS.items():
            if old in values and old not in known and new in known:
                if new in values:
                    raise InputError(
                        f"{group} of {entry.name} is given both {new} and {old}, its old name; give {new} alone"
                    )
                made[group] = {new if name == old else name: value for name, value in values.items()}
                log.warning("%s: the setting %s.%s is now called %s.%s", entry.name, group, old, group, new)
    return made


def require_arguments(entry: Entry, arguments: Mapping[str, Any]) -> None:
    """Check that the builder has these arguments, and that each value is of the argument's type.

    Raises:
        InputError: an argument is unknown, or its value has the wrong type or is out of range. The message names the
            argument, and the nearest known argument or the expected type.
    """
    known = parameters(entry)
    if "image_size" not in known and takes_image_size(entry):
        known.append("image_size")
    for name in arguments:
        if name not in known:
            all_names = f"it has {', '.join(known)}; settings of the training, such as epochs, belong to --set"
            hint = did_you_mean(name, known, all_names)
            if name in BACKBONE_ARGUMENTS:
                hint = next((f"did you mean {other!r}?" for other in BACKBONE_ARGUMENTS if other in known), hint)
            raise InputError(f"{entry.name} has no argument {name!r}; {hint}")
    for name, value in arguments.items():
        expected = wrong_kind(entry, name, value)
        if expected is not None:
            raise InputError(f"{name} of {entry.name} is {short(value)}, but it takes {expected}")
        require_range(f"{name} of {entry.name}", value)


def require_range(what: str, value: Any) -> None:
    """Check that no number is infinite, or so large that the model would exhaust the memory.

    Args:
        what: name of the argument, for the message.
        value: a number, a string, or nested lists, dictionaries and settings of them.

    Raises:
        InputError: a number is out of range. The message names the number and the limit.
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
    """The largest integer in a value, or in nested lists, dictionaries and settings; 0 if there is none."""
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        return max(map(largest_whole, value), default=0)
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else 0


def require_parameters(name: str, build: Callable[[], nn.Module]) -> None:
    """Check that a model has no more parameters than the limit, without allocating them.

    Args:
        name: name of the model, for the message.
        build: function that builds the model; it is called on the meta device.

    Raises:
        InputError: the model has too many parameters. The message names their number.
    """
    with shapes_only():
        model = build()
    count = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    require_within(f"the number of parameters of {name} with these arguments", count, "parameters")


def wrong_kind(entry: Entry, name: str, value: Any) -> str | None:
    """A description of the argument's type if the value does not have it; None if it does or the type is unknown."""
    hint = entry.arguments[name].kind if name in entry.arguments else Any
    known = _words_of(hint) if name in BACKBONE_ARGUMENTS else ()
    return None if _fits(value, hint) and (not known or value in known) else in_words(hint)


def with_settings(entry: Entry, arguments: Mapping[str, Any], own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments, with every group of settings as the dataclass that the builder takes.

    A dictionary replaces the fields that it names. All other fields keep their values in `own`, or else the model's
    defaults. None means the model's defaults, so it is left out of the result.

    Args:
        entry: the model.
        arguments: arguments of its builder; settings are a dataclass, a dictionary, or None.
        own: arguments that take precedence over the builder's defaults, such as those of a saved model.

    Raises:
        InputError: the settings have no field of a given name, or its value has the wrong type. The message names the
            nearest field.
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
        for name, given in value.items():
            if name not in known:
                hint = did_you_mean(name, known, f"they have {', '.join(known)}.")
                raise InputError(f"{key} of {entry.name} has no setting {name!r}; {hint}")
            if not _fits(given, kinds[name]):
                raise InputError(f"{key}.{name} of {entry.name} is {given!r}, but it takes {in_words(kinds[name])}")
        changes = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        made[key] = replace((own or {}).get(key) or known_arguments[key].default, **changes)
    return made


def _settings_of(hint: Any) -> Any:
    return next((kind for kind in get_args(hint) or (hint,) if is_dataclass(kind)), None)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has the type of a hint; True for hints that this function does not know."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, kind) for kind in get_args(hint))
    if is_dataclass(hint):
        return isinstance(value, dict | hint | None)  # None means the model's defaults
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
            return True  # an array or a generator, whose items are not checked
        kinds = [kind for kind in get_args(hint) if kind is not Ellipsis]
        if origin is tuple and Ellipsis not in get_args(hint):
            return len(value) == len(kinds) and all(map(_fits, value, kinds))
        return all(_fits(entry, kinds[0]) for entry in value) if len(kinds) == 1 else True
    return True


def _words_of(hint: Any) -> tuple[Any, ...]:
    """The values of a Literal, or of all Literals in a union."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(word for kind in get_args(hint) for word in ((None,) if kind is type(None) else _words_of(kind)))


def in_words(hint: Any) -> str:
    """A type hint in words, for messages: "a whole number", "a list of numbers", …."""
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
        several = {"a whole number": "whole numbers", "a number": "numbers", "a text": "texts"}
        return f"a list of {several.get(inner, inner)}"
    return _WORDS.get(hint, str(hint))

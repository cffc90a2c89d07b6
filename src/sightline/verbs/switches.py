"""The switches of an ablation: settings of the recipe and arguments of the model, changed alone and in pairs."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, get_type_hints

from sightline.data.transforms import recipes
from sightline.errors import InputError
from sightline.models.arguments import require_arguments, with_image_size, with_settings
from sightline.models.catalog import find
from sightline.runtime.reading import parse_yaml
from sightline.training.recipe import Recipe
from sightline.words import did_you_mean

ARGUMENT = "arg:"
"""Prefix of a switch that changes an argument of the model."""
BASE = "base"
"""Name of the variant without any change."""
_ON_AND_OFF: dict[str, tuple[str, Any, Any]] = {
    "clip": ("clip_norm", None, 10.0),
    "clip_norm": ("clip_norm", None, 10.0),
    "ema": ("ema", None, 0.999),
    "freeze": ("freeze", "none", "all"),
    "layer_decay": ("layer_decay", None, 0.7),
    "momentum": ("momentum", 0.0, 0.9),
    "unfreeze_every": ("unfreeze_every", None, 1),
    "warmup": ("warmup_steps", 0, 100),
    "warmup_steps": ("warmup_steps", 0, 100),
    "weight_decay": ("weight_decay", 0.0, 0.05),
}
"""Switches that need no value: the setting, its value when off, and its value when on."""
_NOT_ALLOWED = {
    "epochs": "all variants have one budget: give --epochs (in Python epochs=…)",
    "minutes": "all variants have one budget: give --minutes (in Python minutes=…)",
    "seed": "each variant is trained with several seeds: give --seeds (in Python seeds=…)",
    "keep": "the best epoch of every variant must be chosen in the same way; give it as a setting instead",
    "workers": "it changes the speed, not the recipe; give it as a setting instead",
}


@dataclass(frozen=True)
class Variant:
    """A variant of the base training.

    Attributes:
        name: the changes in words: "base", "mosaic", "no ema", "lr=0.003", "mosaic + lr=0.003".
        settings: settings of the recipe that differ from the base.
        arguments: arguments of the model that differ; the name of a field of settings has a dot ("settings.box_loss").
        parts: for a pair, the names of the two variants that it combines.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The name as part of a folder's name."""
        return re.sub(r"[^\w.=+-]+", "-", self.name.replace(" + ", "+")).strip("-.") or "variant"

    def recipe(self, base: Recipe) -> Recipe:
        """The recipe of this variant."""
        return base.changed(**self.settings) if self.settings else base

    def arguments_of(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of this variant's model."""
        found = dict(base)
        for name, value in self.arguments.items():
            group, dot, inner = name.partition(".")
            found[group] = {**(found.get(group) or {}), inner: value} if dot else value
        return found


def variants_of(
    switches: Iterable[str] | Mapping[str, Any], base: Recipe, model: str, arguments: Mapping[str, Any]
) -> list[Variant]:
    """The base, each switch alone, and each pair of switches.

    Args:
        switches: texts as on the command line: "mosaic", "lr=1e-3,3e-3", "arg:image_size=320,480". Or a mapping from
            names to a list of values, or to None for a switch that needs no value.
        base: the recipe of the base, complete.
        model: name of the model in the catalog.
        arguments: arguments of the base's model.

    Raises:
        InputError: there are no switches, one is unknown (the message suggests the closest), is given twice, needs
            values, has a value that is not allowed or changes nothing, or two of them change the same setting.
    """
    if isinstance(switches, str):
        switches = [switches]
    if isinstance(switches, Mapping):
        given = [(str(name).strip(), values) for name, values in switches.items()]
    else:
        given = [_parsed(text) for text in switches]
    if not given:
        raise InputError(
            "there is nothing to compare; give one switch or more, such as --switch ema --switch lr=1e-3,3e-3 (in "
            "Python switches=['ema', 'lr=1e-3,3e-3'])"
        )
    names = [name for name, _ in given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"the switch {twice} is given twice; give all of its values at once: {twice}=…,…")
    levels = [_levels(name, values, base, model, arguments) for name, values in given]
    _require_apart(names, levels)
    alone = [variant for variants in levels for variant in variants]
    pairs = [
        Variant(f"{a.name} + {b.name}", {**a.settings, **b.settings}, {**a.arguments, **b.arguments}, (a.name, b.name))
        for first, second in itertools.combinations(levels, 2)
        for a in first
        for b in second
    ]
    found = [Variant(BASE), *alone, *pairs]
    for variant in found:
        _require_possible(variant, base, model, arguments)
    slugs = [variant.slug for variant in found]
    same = next((variant.name for variant in found if slugs.count(variant.slug) > 1), None)
    if same is not None:
        raise InputError(f"two variants would have the name {same}; give values that differ in more than signs")
    return found


def _parsed(text: str) -> tuple[str, list[Any] | None]:
    """Parse "name" or "name=value,value"; a comma inside of brackets belongs to a value."""
    name, equals, values = text.partition("=")
    name = name.strip()
    if not name or (equals and not values.strip()):
        raise InputError(f"--switch {text!r} must be a name such as ema, or name=values such as lr=1e-3,3e-3")
    if not equals:
        return name, None
    parts, depth = [""], 0
    for sign in values:
        depth += (sign in "[({") - (sign in "])}")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return name, [_value(part.strip(), f"--switch {text}") for part in parts]


def _value(text: str, source: str) -> Any:
    if not text:
        raise InputError(f"{source} has an empty value; write values with one comma between them")
    try:
        return float(text) if re.fullmatch(r"[+-]?\d+(\.\d*)?e[+-]?\d+", text, re.I) else parse_yaml(text, source)
    except InputError:
        return text


def _levels(name: str, values: Any, base: Recipe, model: str, arguments: Mapping[str, Any]) -> list[Variant]:
    """The variants of one switch."""
    if isinstance(values, str | int | float | bool) or (values is not None and not isinstance(values, Sequence)):
        values = [values]
    if values is not None and not len(values):
        raise InputError(f"the switch {name} has an empty list of values; give values, or None for on and off")
    if name.startswith(ARGUMENT):
        return _argument_levels(name.removeprefix(ARGUMENT), values, model, arguments)
    known = {setting.name for setting in fields(Recipe)}
    if name in _NOT_ALLOWED:
        raise InputError(f"{name} cannot be a switch: {_NOT_ALLOWED[name]}")
    if values is None:
        return [_toggled(name, base, known, model)]
    if name not in known:
        raise _unknown(name, known, model)
    current = getattr(base, name)
    levels = []
    for value in values:
        # the recipe's own form of the value, so that 1e-3 and 0.001 are one
        clean = getattr(base.changed(**{name: value}), name)
        if clean != current:
            levels.append(Variant(f"{name}={_shown(clean)}", {name: clean}))
    return _distinct(name, levels, values, current)


def _argument_levels(name: str, values: Any, model: str, arguments: Mapping[str, Any]) -> list[Variant]:
    current = _argument_now(name, model, arguments)
    if values is None:
        if not isinstance(current, bool):
            raise InputError(f"the switch {ARGUMENT}{name} needs values: {ARGUMENT}{name}=…,…")
        return [Variant(f"{'no ' if current else ''}{name}", {}, {name: not current})]
    levels = [Variant(f"{name}={_shown(value)}", {}, {name: value}) for value in values if value != current]
    return _distinct(f"{ARGUMENT}{name}", levels, values, current)


def _argument_now(name: str, model: str, arguments: Mapping[str, Any]) -> Any:
    """The value of an argument in the base; None if the builder decides it."""
    entry = find(model)
    group, dot, inner = name.partition(".")
    require_arguments(entry, {group: {} if dot else arguments.get(group, _default(entry, group))})
    value = arguments.get(group, _default(entry, group))
    if not dot:
        return value
    own = entry.arguments[group].default
    settings = asdict(own) if is_dataclass(own) and not isinstance(own, type) else {}
    if inner not in settings:
        hint = did_you_mean(inner, settings, f"it has {', '.join(settings)}" if settings else "it has no fields")
        raise InputError(f"{group} of {model} has no setting {inner!r}; {hint}")
    return {**settings, **(value if isinstance(value, Mapping) else {})}[inner]


def _default(entry: Any, name: str) -> Any:
    return entry.arguments[name].default if name in entry.arguments else None


def _distinct(name: str, levels: list[Variant], values: Sequence[Any], current: Any) -> list[Variant]:
    """Check that the values of a switch differ from each other and, but for one, from the base."""
    found = [level.name for level in levels]
    twice = next((level for level in found if found.count(level) > 1), None)
    if twice is not None or len(values) - len(levels) > 1:
        raise InputError(f"the switch {name} has the value {twice or _shown(current)} twice; give each value once")
    if not levels:
        raise InputError(
            f"the switch {name}={_shown(values[0])} changes nothing, because the base has {name} {_shown(current)}; "
            "give another value"
        )
    return levels


def _toggled(name: str, base: Recipe, known: set[str], model: str) -> Variant:
    """The variant of a switch without a value: off if the base has it, otherwise on."""
    if name in recipes.NAMES:
        if base.augmentation != name:
            return Variant(name, {"augmentation": name})
        other = "default" if name != "default" else "none"
        return Variant(f"no {name}", {"augmentation": other})
    setting, off, on = _ON_AND_OFF.get(name, ("", None, None))
    if setting in known:
        now = getattr(base, setting)
        is_off = now == off or (setting == "freeze" and now is None)
        return Variant(name if is_off else f"no {name}", {setting: on if is_off else off})
    if name not in known:
        raise _unknown(name, known, model)
    now = getattr(base, name)
    if isinstance(now, bool) or get_type_hints(Recipe)[name] == bool | None:
        return Variant(f"no {name}" if now else name, {name: not now})
    raise InputError(f"the switch {name} needs values, such as {name}={_shown(now)},…; the base has {_shown(now)}")


def _unknown(name: str, known: set[str], model: str) -> InputError:
    shorthands = {short for short, (setting, _, _) in _ON_AND_OFF.items() if setting in known}
    own = [f"{ARGUMENT}{argument}" for argument in find(model).arguments]
    names = sorted({*known, *shorthands, *recipes.NAMES} - {*_NOT_ALLOWED})
    if name in (argument.removeprefix(ARGUMENT) for argument in own):
        return InputError(f"there is no setting {name!r}, but an argument of the model: give {ARGUMENT}{name}=…")
    hint = did_you_mean(name, [*names, *own], f"known are {', '.join(names)}, and arg:NAME of the model's arguments")
    return InputError(f"there is no switch {name!r}; {hint}")


def _require_apart(names: Sequence[str], levels: Sequence[Sequence[Variant]]) -> None:
    """Check that no two switches change the same setting, so that pairs can be combined."""
    changed = [{key for level in own for key in (*level.settings, *level.arguments)} for own in levels]
    for (first, a), (second, b) in itertools.combinations(zip(names, changed, strict=True), 2):
        if a & b:
            setting = sorted(a & b)[0]
            raise InputError(
                f"the switches {first} and {second} both change {setting}, so they cannot be combined; give one switch "
                f"with all values: {setting}=…,…"
            )


def _require_possible(variant: Variant, base: Recipe, model: str, arguments: Mapping[str, Any]) -> None:
    """Check the settings and arguments of a variant before the first training."""
    try:
        recipe = variant.recipe(base)
        recipes.named(recipe.augmentation, recipe.mirror)
        entry = find(model)
        own = with_settings(entry, with_image_size(entry, variant.arguments_of(arguments)))
        require_arguments(entry, {name: value for name, value in own.items() if name != "in_channels"})
    except InputError as error:
        raise InputError(f"the variant {variant.name} is not possible: {error}") from error


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_shown, value))}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def seeds_of(seeds: int | Sequence[int], first: int) -> tuple[int, ...]:
    """The seeds of the runs: as many as the number says from `first` on, or the given ones.

    Raises:
        InputError: there is none, one is given twice, or one is not a whole number.
    """
    if isinstance(seeds, bool) or (not isinstance(seeds, int) and not isinstance(seeds, Sequence)):
        raise InputError(f"seeds is {seeds!r}, but it must be the number of seeds, or a list of them")
    found = tuple(range(first, first + seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not found:
        raise InputError("seeds is 0, but there must be at least one seed; 3 or more show which differences are real")
    if len(set(found)) < len(found):
        raise InputError(f"the seeds {list(found)} hold one twice; give different seeds")
    return tuple(replace(Recipe(epochs=1), seed=seed).seed for seed in found)

"""Entries of the model catalog: a name, the function that builds the model, and its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from typing import Any, TypeVar, get_type_hints

from torch import nn

from sightline.errors import InputError
from sightline.models.model import Model, as_model
from sightline.models.plan import Planner
from sightline.models.preprocess import InputSize
from sightline.nn.backbones.named import BackboneOptions

GROUPS = (BackboneOptions, InputSize)
"""Groups of arguments whose fields are given by name: `norm`, `min_size`, …."""
BACKBONE_ARGUMENTS = ("backbone", "encoder")

Builder = TypeVar("Builder", bound=Callable[..., Model])


@dataclass(frozen=True)
class Argument:
    """An argument of a model.

    Attributes:
        kind: type hint.
        default: default value.
        source: function or class whose docstring describes the argument.
        group: parameter of the builder that has the argument as a field; "" if the argument is a parameter itself.
    """

    kind: Any
    default: Any
    source: Callable[..., Any]
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of the model catalog.

    Attributes:
        name: name of the model.
        builder: function or class, called as builder(classes, in_channels=…, …), that returns the model. Models that
            differ only in their settings share one.
        task: "detection", "classification", ….
        paper: the paper that describes the model.
        summary: description in one sentence; by default the first paragraph of the builder's docstring.
        aliases: other names of the model.
        backbone: catalog name of the classifier whose weights fit the backbone; by default the value of the builder's
            argument `backbone` or `encoder`.
        start: default arguments for pretrained weights.
        fixed: arguments of the builder that define this model and cannot be changed.
        defaults: arguments of the builder whose defaults differ for this model.
        recipe: training settings for this model, in addition to those of its class.
        plan: chooses additional arguments and settings by the data and the budget (`sightline.models.plan`).
    """

    name: str
    builder: Callable[..., Model]
    task: str
    paper: str
    summary: str = ""
    aliases: tuple[str, ...] = ()
    backbone: str | None = None
    start: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    plan: Planner | None = None

    @cached_property
    def arguments(self) -> dict[str, Argument]:
        """The arguments besides the classes, by name."""
        known = {name: a for name, a in arguments_of(self.builder).items() if name not in self.fixed}
        return {name: replace(a, default=self.defaults.get(name, a.default)) for name, a in known.items()}

    def classifier(self, arguments: Mapping[str, Any] | None = None) -> str | None:
        """Catalog name of the classifier whose weights fit the backbone of a model with these arguments, or None."""
        if self.backbone is not None:
            return self.backbone
        chosen = {name: a.default for name, a in self.arguments.items()} | dict(self.fixed) | dict(arguments or {})
        return next((chosen[name] for name in BACKBONE_ARGUMENTS if chosen.get(name) is not None), None)

    @property
    def takes_backbones(self) -> bool:
        """Whether the backbone is an argument."""
        return any(name in self.arguments for name in BACKBONE_ARGUMENTS)

    def build(self, classes: Iterable[str], **arguments: Any) -> Model:
        """Build the model with these classes and arguments, and with those of `fixed` and `defaults`.

        Raises:
            InputError: the builder returns something that is not a module.
        """
        given = {**self.defaults, **arguments, **self.fixed}
        for name, argument in arguments_of(self.builder).items():
            if argument.group and name in given:
                own = given.get(argument.group, _parameters(self.builder)[argument.group].default)
                given[argument.group] = replace(own, **{name: given.pop(name)})
        built: Any = self.builder(classes, **given)
        if not isinstance(built, nn.Module):
            raise InputError(f"the builder of {self.name} returned a {type(built).__name__}, but must return a Model")
        model = as_model(built)
        if self.recipe:
            model.recipe_defaults = {**model.recipe_defaults, **self.recipe}
        return model


def extends(base: Callable[..., Model]) -> Callable[[Builder], Builder]:
    """Decorator for a builder that passes its `**arguments` on to the builder `base`.

    The arguments of `base` appear in `inspect.signature` and in the catalog.
    """

    def mark(builder: Builder) -> Builder:
        own, inherited = inspect.signature(builder), inspect.signature(base).parameters
        named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        names = {p.name for p in named}
        named += [p for p in inherited.values() if p.kind is p.KEYWORD_ONLY and p.name not in names]
        vars(builder).update(__signature__=own.replace(parameters=named), __extends__=base)
        return builder

    return mark


@cache
def arguments_of(builder: Callable[..., Model]) -> dict[str, Argument]:
    """The arguments of a builder by name, with groups of arguments as their fields."""
    found: dict[str, Argument] = {}
    for name, parameter in [*_parameters(builder).items()][1:]:  # the first are the classes
        if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            continue
        source, kind = _declared(builder, name)
        default = None if parameter.default is parameter.empty else parameter.default
        if isinstance(default, GROUPS):
            hints = get_type_hints(type(default))
            found |= {
                f.name: Argument(hints[f.name], getattr(default, f.name), type(default), name) for f in fields(default)
            }
        else:
            found[name] = Argument(kind, default, source)
    return found


def _parameters(builder: Callable[..., Model]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(builder).parameters


def _declared(builder: Callable[..., Any], name: str) -> tuple[Callable[..., Any], Any]:
    """The builder that declares an argument (itself, or one that it extends), and the argument's type hint."""
    try:
        hints = get_type_hints(builder.__init__ if isinstance(builder, type) else builder)  # type: ignore[misc]
    except (TypeError, NameError):  # a callable object, or names that are imported only for type checkers
        hints = {}
    base = getattr(builder, "__extends__", None)
    return (builder, hints.get(name, Any)) if name in hints or base is None else _declared(base, name)

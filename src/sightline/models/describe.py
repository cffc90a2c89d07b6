"""Descriptions of catalog models: paper, arguments, settings and published weights."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from torch import nn

from sightline.models.arguments import in_words, takes_image_size
from sightline.models.catalog import ENTRIES, as_published, find
from sightline.models.detection.detector import Detector
from sightline.models.entry import Entry
from sightline.models.preprocess import Preprocess
from sightline.models.published import PUBLISHED
from sightline.runtime.shapes import shapes_only

_ROOT = Path(__file__).resolve().parents[2]
_IMAGE_SIZE = "size of the images inside the network in pixels: sets min_size, and scales max_size with it."
_REGION_SIZE = "side of the square that regions are warped to, in pixels: sets regions.crop."


def describe(name: str) -> dict[str, Any]:
    """Describe a model of the catalog, as JSON values.

    Args:
        name: name of the model, or one of its aliases.

    Returns:
        A dictionary with name, aliases, task, summary, paper, file (the source file that implements the paper, or ""),
        parameters (their number, as in `models`), backbone, arguments, weights and preprocess. Each argument has a
        name, type, default and meaning, and settings also their fields. Each published file has data, metric, licence,
        url, the arguments it needs, and its preprocessing; "of" names its network (the model or the backbone's
        classifier).

    Raises:
        InputError: there is no such model. The message suggests the nearest names.
    """
    entry = find(name)
    with shapes_only():
        model = as_published(entry)
    source = model.architecture or entry.builder
    preprocess = getattr(model, "preprocess", None)  # a module of the user's own may have none
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "task": entry.task,
        "summary": entry.summary or _summary(entry.builder),
        "paper": entry.paper,
        "file": _file(source),
        "parameters": sum(p.numel() for p in model.parameters()),
        "backbone": entry.classifier(),
        "arguments": _arguments(entry),
        "weights": [
            {
                "data": p.data,
                "of": p.network,
                "metric": p.metric,
                "licence": p.licence,
                "url": p.url,
                "arguments": p.arguments,
                "preprocess": None if p.preprocess is None else asdict(p.preprocess),
            }
            for p in PUBLISHED
            if p.network in (entry.name, entry.classifier())
        ],
        "preprocess": preprocess.extra_repr() if isinstance(preprocess, nn.Module) else "",
    }


def _file(source: Any) -> str:
    """The source file, of the package relative to it; "" for what has none, such as a model made in a notebook."""
    try:
        file = Path(inspect.getfile(source)).resolve()
    except (TypeError, OSError):
        return ""
    return (file.relative_to(_ROOT) if file.is_relative_to(_ROOT) else file).as_posix()


def _summary(builder: Callable[..., Any]) -> str:
    text = " ".join((inspect.getdoc(builder) or "").split("\n\n")[0].split())
    return re.sub(r" ?Arguments as (for|of) `\w+`[^.]*\.", "", text)


def _arguments(entry: Entry) -> list[dict[str, Any]]:
    rows = []
    for name, argument in entry.arguments.items():
        row = {"name": name, "type": in_words(argument.kind), "default": argument.default}
        meanings = _meanings(entry.builder) | (_attributes(argument.source) if argument.group else {})
        row["meaning"] = meanings.get(name) or _meanings(argument.source).get(name, "")
        if is_dataclass(argument.default):
            row |= {"type": "settings", "default": None, "fields": _fields(argument.default)}
        rows.append(row)
    names = [row["name"] for row in rows]
    if "image_size" not in names and takes_image_size(entry):
        meaning = _REGION_SIZE if "regions" in names else _IMAGE_SIZE
        rows.append({"name": "image_size", "type": "a whole number", "default": None, "meaning": meaning})
    return rows


def _fields(settings: Any) -> list[dict[str, Any]]:
    hints, meanings = get_type_hints(type(settings)), _attributes(type(settings))
    return [
        {
            "name": field.name,
            "type": in_words(hints[field.name]),
            "default": getattr(settings, field.name),
            "meaning": meanings.get(field.name, ""),
        }
        for field in fields(settings)
    ]


def _attributes(settings: Any) -> dict[str, str]:
    """Descriptions of the fields of a dataclass, from its docstring and those of its base classes."""
    found: dict[str, str] = {}
    for kind in reversed(settings.__mro__):
        found |= _section(kind.__dict__.get("__doc__") or "", "Attributes")
    return found


@cache
def _meanings(source: Callable[..., Any]) -> dict[str, str]:
    """Descriptions of the arguments of a function, from its docstring and the docstrings that it refers to."""
    text = inspect.getdoc(source) or ""
    found: dict[str, str] = {}
    for other in re.findall(r"\b[Aa]s\s+(?:for|of|in)\s+`(\w+)`", text):
        known = _named(other, source.__module__)
        if known is not None and known is not source:
            found |= _meanings(known)
    found |= dict(re.findall(r"`(\w+)` is ([^.]+\.)", text))
    own = _section(text, "Args")
    return found | {k: v for k, v in own.items() if k not in found or not re.match(r"as (for|of|in) `", v)}


def _named(name: str, module: str) -> Callable[..., Any] | None:
    """The function or class that a docstring in this module refers to by name, or None."""
    entry = next((entry.builder for entry in ENTRIES if entry.name == name), None)
    known = {"Detector": Detector, "Preprocess": Preprocess}
    found: Callable[..., Any] | None = getattr(sys.modules[module], name, None) or entry or known.get(name)
    return found


def _section(text: str, title: str) -> dict[str, str]:
    """The entries "a, b: meaning" of a section of a docstring, by name."""
    lines = inspect.cleandoc(text).split("\n")
    if f"{title}:" not in lines:
        return {}
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines[lines.index(f"{title}:") + 1 :]:
        if line and not line.startswith("    "):
            break
        begun = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if begun:
            names = begun[1].split(", ")
            found |= dict.fromkeys(names, begun[2])
        elif line.strip() and names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found

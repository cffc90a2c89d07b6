"""Class names and colour tables in files beside class maps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sightline.data.formats.files import read_text
from sightline.data.formats.voc_lists import is_comment
from sightline.data.map_values import Colour
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import IGNORE

FILES: tuple[str, ...] = (
    *("classes.json", "labels.json", "classes.txt", "labels.txt", "class_names.txt", "labelmap.txt"),
    *("class_dict.csv", "classes.csv", "_classes.csv", "label_colors.txt"),
)
"""Usual names of a file of classes."""
_IGNORED = "ignore"
"""The name of ignored pixels in a colour table."""
_IGNORE_KEYS = ("ignore_index", "ignore", "ignore_value")
_HEAD: dict[str, tuple[str, ...]] = {
    "name": ("name", "class", "classname", "label", "labelname", "category"),
    "red": ("r", "red"),
    "green": ("g", "green"),
    "blue": ("b", "blue"),
    "colour": ("rgb", "color", "colour", "hex", "rgbcolor", "colorrgb"),
    "value": ("pixelvalue", "value", "id", "index", "classid", "labelid", "classindex"),
}
"""Column names, without spaces and underscores."""
_NUMBERED = re.compile(r"(\d+)\s*[:\s,]\s*(\D.*)")
_COLOUR_LAST = re.compile(r"(.+?)[\s,:;]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s,:;]*")
_COLOUR_FIRST = re.compile(r"(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s,:;]+(\D.*)")


@dataclass(frozen=True)
class ClassTable:
    """The classes in a file: names by increasing id, and colours if given.

    `ignore` is the value of ignored pixels; None if not given. `values` maps pixel values to ids if they differ; else
    it is empty.
    """

    names: tuple[str, ...]
    colours: Mapping[Colour, int] = field(default_factory=dict)
    ignore: int | None = None
    values: Mapping[int, int] = field(default_factory=dict)


def find_table(root: Path, *beside: Path) -> ClassTable | None:
    """The classes listed in a file in a dataset's folder, or in one of the folders `beside`; None without a file."""
    places = dict.fromkeys((root, *beside))
    named = (place / name for place in places for name in FILES if (place / name).is_file())
    tables = (file for place in places for file in sorted(place.glob("*class_dict*.csv")))
    file = next(named, None) or next(tables, None)
    if file is None:
        return None
    if file.suffix == ".json":
        return _from_json(file)
    return _from_csv(file) if file.suffix.lower() == ".csv" else _from_lines(file)


def _from_csv(file: Path) -> ClassTable:
    """One row per class: name, colour as r, g, b or in one field, and pixel value, as named in the header.

    Without a header: name, r, g, b, or r, g, b, name, or name, value, or only the name.
    """
    rows = [[cell.strip() for cell in row] for row in reading.read_csv(file)]
    rows = [row for row in rows if any(row)]
    head = [cell.lower().replace("_", "").replace(" ", "") for cell in rows[0]] if rows else []
    name = next((head.index(n) for n in _HEAD["name"] if n in head), None)
    if name is not None and len(head) > 1:
        rows = rows[1:]
    else:
        first = rows[0] if rows else []
        numeric = [cell.isdecimal() for cell in first]
        name = 3 if len(first) >= 4 and all(numeric[:3]) and not numeric[3] else 0
        head = {0: ["name", "r", "g", "b"], 3: ["r", "g", "b", "name"]}[name] if len(first) >= 4 else ["name", "id"]

    def column(kind: str) -> int | None:
        return next((head.index(n) for n in _HEAD[kind] if n in head), None)

    parts, single, value = [column(kind) for kind in ("red", "green", "blue")], column("colour"), column("value")
    named: list[tuple[str, Colour | None]] = []
    values: list[int] = []
    for row in rows:
        row = [*row, *[""] * (len(head) - len(row))]
        colour = None
        if None not in parts:
            colour = _colour([row[k] for k in parts if k is not None], file, row[name])
        elif single is not None and row[single]:
            text = row[single]
            colour = _colour(text if "#" in text or text.isalnum() else re.findall(r"\d+", text), file, row[name])
        named.append((row[name], colour))
        if value is not None and row[value].isdecimal():
            values.append(int(row[value]))
    table = _table(named, file)
    if len(values) < len(named) or len(table.names) < len(named):
        return table
    order = sorted(range(len(named)), key=values.__getitem__)
    if len(set(values)) < len(values):
        raise InputError(f"{file} gives two classes the same value; number them differently")
    table = _table([named[k] for k in order], file)
    known = {values[k]: place for place, k in enumerate(order)}
    return replace(table, values={} if all(v == k for v, k in known.items()) else known)


def _from_lines(file: Path) -> ClassTable:
    lines = [line.strip() for line in read_text(file).splitlines()]
    lines = [line for line in lines if line and not is_comment(line)]
    named: list[tuple[str, Colour | None]] = []
    for line in lines:
        last, first = _COLOUR_LAST.fullmatch(line), _COLOUR_FIRST.fullmatch(line)
        if last:
            named.append((last[1], _colour(last.groups()[1:], file, line)))
        elif first:
            named.append((first[4], _colour(first.groups()[:3], file, line)))
        else:
            named.append((line.rstrip(":"), None))
    numbered = [_NUMBERED.fullmatch(name) for name, _ in named]
    pairs = [(int(found[1]), found[2].strip()) for found in numbered if found]
    if len(pairs) < len(named) or len({name for _, name in pairs}) < len(named):  # "1 euro", "2 euro" are names
        return _table(named, file)
    if all(colour is None for _, colour in named):
        return _numbered(pairs, file)
    if [number for number, _ in pairs] == [*range(len(named))]:
        named = [(name, colour) for (_, name), (_, colour) in zip(pairs, named, strict=True)]
    return _table(named, file)


def _numbered(pairs: Sequence[tuple[int, str]], file: Path) -> ClassTable:
    """The classes of (pixel value, name): of values that are not 0, 1, 2 …, the table says which class they are."""
    values = [value for value, _ in pairs]
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise InputError(f"{file} gives two classes the value {twice}; number them differently")
    kept = sorted((value, name) for value, name in pairs if name != _IGNORED)
    ignore = next((value for value, name in pairs if name == _IGNORED), None)
    table = _table([(name, None) for _, name in kept], file)
    known = {value: place for place, (value, _) in enumerate(kept)}
    return replace(table, ignore=ignore, values={} if all(v == k for v, k in known.items()) else known)


def _from_json(file: Path) -> ClassTable:
    content: Any = reading.read_json(file, unique=True)
    ignore: Any = None
    names: Any = content
    colours: Sequence[Any] | None = None
    if isinstance(content, dict):
        key = next((k for k in ("names", "classes", "labels", "categories") if k in content), None)
        ignore = next((content[k] for k in _IGNORE_KEYS if k in content), None)
        if key is not None:
            names = content[key]
            colours = next((content[k] for k in ("colors", "colours", "palette") if k in content), None)
        if isinstance(names, dict):
            pairs = _value_pairs({k: v for k, v in names.items() if names is not content or k not in _IGNORE_KEYS})
            if pairs is None:
                names, colours = [*names], [*names.values()]
            elif colours is None or sorted(value for value, _ in pairs) != [*range(len(pairs))]:
                table = _numbered(pairs, file)
                return replace(table, ignore=ignore) if isinstance(ignore, int) else table
            else:
                names = [name for _, name in sorted(pairs)]
    if colours is not None and not isinstance(colours, list):
        raise InputError(
            f"{file}: the colours of the classes are {reading.kind_of(colours)}, but must be a list of colours"
        )
    if not isinstance(names, list):
        raise InputError(f'{file} contains no class names; write {{"names": […], "colors": […]}} or a list of names')
    named: list[tuple[str, Colour | None]] = []
    for k, entry in enumerate(names):
        own = colours[k] if colours is not None and k < len(colours) else None
        if isinstance(entry, dict):
            own = next((entry[c] for c in ("color", "colour", "rgb") if c in entry), own)
            entry = entry.get("name", entry.get("label"))
        if not isinstance(entry, str):
            raise InputError(f"{file}: entry {k} of the classes has no name; give one")
        named.append((entry, None if own is None else _colour(own, file, entry)))
    if isinstance(ignore, int):
        table = _table(named, file, None)  # ignore_index is given: a class may have the usual name for it
        return ClassTable(table.names, table.colours, ignore)
    table = _table(named, file)
    if ignore is not None:
        return ClassTable(table.names, {**table.colours, _colour(ignore, file, "ignore"): IGNORE}, table.ignore)
    return table


def _value_pairs(names: Mapping[str, Any]) -> list[tuple[int, str]] | None:
    """{"0": "road", …} or {"road": 0, …} → (value, name) of each class; None for {"road": [r, g, b], …}."""
    if all(key.isdecimal() for key in names) and all(isinstance(value, str) for value in names.values()):
        return [(int(key), value) for key, value in names.items()]
    if all(isinstance(value, int) for value in names.values()):
        return [(value, key) for key, value in names.items()]
    return None


def _table(named: Sequence[tuple[str, Colour | None]], file: Path, ignored: str | None = _IGNORED) -> ClassTable:
    names: list[str] = []
    colours: dict[Colour, int] = {}
    for name, colour in named:
        id = IGNORE if name == ignored and colour is not None else len(names)
        if id != IGNORE:
            names.append(name)
        if colour is not None and colour in colours:
            raise InputError(f"{file}: {name!r} has the colour {colour}, which another class has, too; change one")
        if colour is not None:
            colours[colour] = id
    without = [name for name, colour in named if colour is None]
    if colours and without:
        raise InputError(f"{file} gives some classes a colour, but not {without[0]!r}; give all classes one, or none")
    return ClassTable(tuple(names), colours)


def _colour(value: Any, file: Path, where: str) -> Colour:
    if isinstance(value, str) and re.fullmatch(r"#?[0-9a-fA-F]{6}", value):
        digits = value.lstrip("#")
        value = [int(digits[k : k + 2], 16) for k in (0, 2, 4)]
    try:
        red, green, blue = (int(v) for v in value)
    except (TypeError, ValueError):
        raise InputError(f"{file}: {where!r} has the colour {value!r}; give #rrggbb or [r, g, b]") from None
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise InputError(
            f"{file}: {where!r} has the colour {(red, green, blue)}, but each part is 0 to 255; correct it"
        )
    return red, green, blue

"""Read YAML of plain types, with limits on the nesting depth and on the size after expanding aliases."""

from __future__ import annotations

import re
from typing import Any

import yaml

from sightline.errors import InputError
from sightline.runtime.limits import limits, require_within
from sightline.runtime.reading.files import PathLike
from sightline.runtime.reading.text import read_text
from sightline.words import shown

_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(
    [
        "str",
        "int",
        "float",
        "bool",
        "null",
        "map",
        "seq",
        "set",
        "omap",
        "pairs",
        "binary",
        "timestamp",
        "merge",
        "value",
    ]
)


def read_yaml(path: PathLike, *, as_text: bool = False) -> Any:
    """Read the value of a YAML file; arguments and errors as for `parse_yaml`, and errors as for `read_bytes`."""
    return parse_yaml(read_text(path, "yaml_bytes"), path, as_text=as_text)


def parse_yaml(text: str, where: PathLike, *, as_text: bool = False) -> Any:
    """Parse the value of a YAML text of plain types.

    Args:
        text: the text to parse.
        where: the file or other source of the text, for the message.
        as_text: read every value as a string, as it is written: `on`, `null`, `0123` and `1.10`.

    Raises:
        InputError: it is not valid YAML, has type tags, refers to itself, is nested too deeply, or has too many values
            after expanding its aliases.
    """
    require_within(f"the size of {shown(where)}", len(text), "yaml_bytes", "characters")
    loader: Any = yaml.BaseLoader if as_text else yaml.SafeLoader
    fast: Any = getattr(yaml, "CBaseLoader" if as_text else "CSafeLoader", loader)
    try:
        _require_shallow_yaml(text, where, fast)
        reader = fast(text)
        try:
            node = reader.get_single_node()
            if node is None:
                return None
            _require_small_yaml(node, where)
            return reader.construct_document(node)
        finally:
            reader.dispose()
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(
            f"{shown(where)} is not valid YAML: {error.problem or error.context}{place}; correct it"
        ) from None
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{shown(where)} is not valid YAML: {reason}; correct it") from None


def _require_shallow_yaml(text: str, where: PathLike, loader: Any) -> None:
    """Check the events, which are a flat sequence, before anything is built recursively."""
    depth, most = 0, limits().depth
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > most:
                require_within(f"{shown(where)}: the depth of lists and mappings inside each other", depth, "depth")
            _refuse_tag(event.tag, where)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent):
            _refuse_tag(event.tag, where)
            if not event.value.lstrip("+-0")[:1].isdigit():
                continue
            digits = len(re.sub(r"[^0-9a-fA-F:].*", "", event.value.lstrip("+-")))
            plain = event.implicit[0] or (event.tag or "").endswith(":int")
            if plain and digits > limits().digits:
                require_within(f"{shown(where)}: the number of digits of a number", digits, "digits")


def _refuse_tag(tag: str | None, where: PathLike) -> None:
    if tag is not None and tag != "!" and tag.removeprefix(_TAG) not in _TAGS:
        raise InputError(f"{shown(where)} is not valid YAML: the type {shown(tag)!r} is not read; remove it")


def _require_distinct_keys(node: Any, where: PathLike) -> None:
    """Check that no mapping has a key twice: YAML forbids it, but its parsers silently take the last value."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            line = key.start_mark.line + 1
            if key.value in lines:
                where_twice = f"lines {lines[key.value]} and {line}"
                raise InputError(f"{shown(where)} holds the key {key.value!r} twice ({where_twice}); remove one")
            lines[key.value] = line


def _require_small_yaml(root: Any, where: PathLike) -> None:
    """Count the values of the document after expanding its aliases, without expanding them."""
    counts: dict[int, int | None] = {}
    waiting = [root]
    while waiting:
        node = waiting[-1]
        if isinstance(node, yaml.ScalarNode):
            counts[id(node)] = 1
            waiting.pop()
            continue
        pairs = isinstance(node, yaml.MappingNode)
        parts = [part for pair in node.value for part in pair] if pairs else node.value
        if id(node) not in counts:
            if pairs:
                _require_distinct_keys(node, where)
            counts[id(node)] = None  # in progress
            for part in parts:
                if counts.get(id(part), 0) is None:
                    raise InputError(f"{shown(where)} holds an alias that refers to itself; write its values out")
            waiting += [part for part in parts if id(part) not in counts]
            continue
        waiting.pop()
        if counts[id(node)] is None:
            total = 1
            for part in parts:
                inside = counts[id(part)]
                if inside is None:
                    raise InputError(f"{shown(where)} holds an alias that refers to itself; write its values out")
                total += inside
            counts[id(node)] = total
    whole = counts[id(root)] or 0
    require_within(f"{shown(where)}: the number of values with all aliases written out", whole, "yaml_values")

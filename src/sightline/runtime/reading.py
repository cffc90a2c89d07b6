"""The one boundary for files: bytes, text, JSON, YAML, XML, CSV and NumPy arrays come in through here.

Whatever is wrong with a file, the only error that leaves these functions is an `InputError` that names it. Only
ordinary files are opened: a named pipe, a device or a socket would block, or never end. How much is read is bounded by
`sightline.runtime.limits`. Nothing in a file is ever executed or imported by name.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
import yaml

from sightline.errors import InputError
from sightline.runtime.limits import VARIABLE, limits, require_within

log = logging.getLogger("sightline")

PathLike = str | os.PathLike[str]
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_NOT_LATIN = re.compile(rb"[\x80-\xbf\xd7\xf7]|[\x80-\xff]{2}|(?<![A-Za-z])[\x80-\xff](?![A-Za-z])")
"""Bytes that are not single accented letters beside Latin ones. The encodings of other scripts are full of them."""
CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Control characters, line and paragraph ends, changes of the direction of writing, halves of surrogate pairs."""
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = np.zeros(256, np.int8)
_BRACKET[[ord("["), ord("{")]], _BRACKET[[ord("]"), ord("}")]] = 1, -1
_DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
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
_CHUNK = 2**20
_ENTERED = 8
"""How often one folder is read by different links: folders that all link to each other have no end of paths."""


# Files


def open_binary(path: PathLike) -> BinaryIO:
    """An ordinary file, opened for reading without ever waiting for it.

    Raises:
        InputError: it is missing, may not be read, or is a folder, a pipe, a device or a socket.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise InputError(f"there is no file {shown(path)}; correct the path") from None
    except OSError as error:  # a socket cannot be opened at all
        special = unusual_kind(path)
        if special:
            raise _unusual(path, special) from None
        raise InputError(f"cannot read {shown(path)}: {error.strerror or error}") from None
    except ValueError as error:  # a name with a zero byte
        raise InputError(f"cannot read {shown(path)}: {error}") from None
    kind = _kind(os.fstat(handle).st_mode)
    if kind:
        os.close(handle)
        raise _unusual(path, kind)
    return os.fdopen(handle, "rb")


def unusual_kind(path: PathLike) -> str:
    """What a path is that is not an ordinary file, such as "a named pipe"; "" for a file and for what is missing."""
    try:
        return _kind(os.stat(path).st_mode)
    except (OSError, ValueError):
        return ""


def require_file(path: PathLike) -> int:
    """The size in bytes of a file that another library will open itself.

    Raises:
        InputError: as for `open_binary`.
    """
    with open_binary(path) as file:
        return os.fstat(file.fileno()).st_size


def head(path: PathLike, count: int = 2**16, tail: int = 0) -> bytes:
    """The first `count` bytes of a text file and its last `tail`; nothing where it is no file that can be read.

    It is for looking for words: of UTF-16 the zero bytes are left out, so that Latin letters are as in other encodings.
    """
    try:
        with open_binary(path) as file:
            data = file.read(count)
            if tail:
                file.seek(max(0, os.fstat(file.fileno()).st_size - tail))
                data += file.read(tail)
            if start_encoding(data) in ("", "utf-8-sig"):
                return data
            return data.replace(b"\0", b"").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
    except (InputError, OSError):
        return b""


def start_encoding(data: bytes) -> str:
    """The encoding that a text's beginning shows by a byte order mark or by zero bytes; "" where by neither."""
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "")
    start = data[:4096]
    if marked or 0 not in start:  # no text has zero bytes but UTF-16, whose line ends and Latin letters do
        return marked
    even, odd = start[::2].count(0), start[1::2].count(0)
    few = even + odd < len(start) * 0.15 and _is_utf8(start)
    if few or min(even, odd) * 8 > max(even, odd):
        return ""  # a damaged file: UTF-16 has them in one byte of each pair
    return "utf-16-le" if odd >= even else "utf-16-be"


def _is_utf8(start: bytes) -> bool:
    """Whether bytes, which may end within a character, are UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def read_bytes(path: PathLike, limit: str = "file_bytes") -> bytes:
    """All bytes of a file.

    Args:
        path: of the file.
        limit: the name of the limit on its size.

    Raises:
        InputError: as for `open_binary`, or it is larger than the limit.
    """
    most = getattr(limits(), limit)
    try:
        with open_binary(path) as file:
            size = os.fstat(file.fileno()).st_size
            require_within(f"the size of {shown(path)}", size, limit, "bytes")
            data = file.read(min(most, size + _CHUNK) + 1)
            while len(data) <= most and (more := file.read(min(_CHUNK, most + 1 - len(data)))):
                data += more
    except OSError as error:
        raise InputError(f"cannot read {shown(path)}: {error.strerror or error}") from None
    require_within(f"the size of {shown(path)}", len(data), limit, "bytes")
    return data


def read_text(path: PathLike, limit: str = "file_bytes") -> str:
    """All text of a file, decoded as `decode` does; errors as for `read_bytes`."""
    return decode(read_bytes(path, limit), path)


def decode(data: bytes, path: PathLike = "the text") -> str:
    """Text of bytes: by its byte order mark, else UTF-8, UTF-16 (zero bytes) or Windows-1252 (accented letters).

    Other encodings, such as GBK, Shift-JIS or Windows-1251, decode each other's bytes without an error but to other
    letters. They are refused, since which one is meant cannot be known.

    Args:
        data: the bytes of a text file.
        path: for the message.

    Raises:
        InputError: a byte order mark promises an encoding that the bytes are not in, or the encoding is not known.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                name = encoding.removesuffix("-sig").upper()
                raise InputError(
                    f"{shown(path)} begins with the mark of {name} but is not in it ({error.reason} at byte "
                    f"{error.start}); save it again as UTF-8"
                ) from None
    encoding = start_encoding(data) or "utf-8"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        failed = error
    if encoding == "utf-8" and not _NOT_LATIN.search(data):
        return data.decode("cp1252")
    line = data.count(b"\n", 0, failed.start) + 1
    raise InputError(
        f"{shown(path)} is not UTF-8 (line {line}), and its encoding is not known: GBK, Shift-JIS and others cannot be "
        "told apart; save it again as UTF-8"
    )


def walk(folder: PathLike) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, through links to folders too, but not in a circle.

    Folders come sorted by name, unless the caller reorders them. Files that are none (pipes, sockets, devices) are left
    out; the log names them, and the links that are not followed.
    """
    top = os.fspath(folder)
    above: dict[str, tuple[str, ...]] = {top: (os.path.realpath(top),)}
    entered: Counter[str] = Counter()
    for at, folders, names in os.walk(top, followlinks=True):
        over = above.pop(at)
        kept = []
        for name in sorted(folders):
            inner = os.path.join(at, name)
            real = os.path.realpath(inner) if os.path.islink(inner) else os.path.join(over[-1], name)
            entered[real] += 1
            if real in over or entered[real] > _ENTERED:
                log.warning("%s links to a folder that is read already; it is not followed", shown(inner))
            else:
                kept.append(name)
                above[inner] = (*over, real)
        folders[:] = kept
        yield at, folders, [name for name in names if not _left_out(os.path.join(at, name))]


def _left_out(path: str) -> bool:
    kind = unusual_kind(path)
    if kind:
        log.warning("%s is %s, not a file; it is left out", shown(path), kind)
    return bool(kind)


# JSON


def read_json(path: PathLike, kind: type | tuple[type, ...] = object) -> Any:
    """The value in a JSON file.

    Args:
        path: of the file.
        kind: the type the value must have, such as `dict`.

    Raises:
        InputError: as for `read_bytes`, or as for `parse_json`.
    """
    return parse_json(read_text(path), path, kind)


def parse_json(text: str, where: PathLike, kind: type | tuple[type, ...] = object) -> Any:
    """The value of a JSON text.

    Args:
        text: to be read.
        where: the file, or what else the text is of, for the message.
        kind: the type the value must have, such as `dict`.

    Raises:
        InputError: it is no JSON, is nested too deeply, holds too long a number, or a value of another type.
    """
    if not text.strip():
        raise InputError(f"{shown(where)} is empty, but JSON is expected; copy or save it again")
    require_depth(text, where)
    try:
        value = json.loads(text, parse_int=_whole if _has_long_number(text) else None)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        reason = "it ends too early" if cut else f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise InputError(f"{shown(where)} is not valid JSON: {reason}; correct or save it again") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown(where)} is not valid JSON: {error}; correct or save it again") from None
    if not isinstance(value, kind):
        raise InputError(f"{shown(where)} holds {kind_of(value)}, but {kind_of(kind)} is expected; correct it")
    return value


def require_depth(text: str, where: PathLike) -> None:
    """Refuse JSON text whose lists and objects are inside each other more deeply than the limit."""
    most = limits().depth
    if text.count("[") + text.count("{") <= most:
        return
    plain = _STRING.sub("", text) if '"' in text else text
    steps = _BRACKET[np.frombuffer(plain.encode("utf-8", "replace"), np.uint8)]
    deepest = max((int(part.max()) for part in _running(steps)), default=0)
    require_within(f"{shown(where)}: the depth of lists and objects inside each other", deepest, "depth")


def _running(steps: np.ndarray) -> Iterator[np.ndarray]:
    """The running sum, a piece at a time."""
    total = 0
    for start in range(0, len(steps), _CHUNK):
        part = np.cumsum(steps[start : start + _CHUNK], dtype=np.int64) + total
        total = int(part[-1])
        yield part


def _has_long_number(text: str) -> bool:
    return re.search(r"[0-9]{32}", text) is not None


def _whole(digits: str) -> int:
    most = limits().digits
    if len(digits) > most:
        raise ValueError(
            f"a number has {len(digits)} digits, above the limit of {most} ({VARIABLE}=10 allows ten times as much)"
        )
    return int(digits)


# YAML


def read_yaml(path: PathLike, *, as_text: bool = False) -> Any:
    """The value in a YAML file; arguments and errors as for `parse_yaml`, and errors as for `read_bytes`."""
    return parse_yaml(read_text(path, "yaml_bytes"), path, as_text=as_text)


def parse_yaml(text: str, where: PathLike, *, as_text: bool = False) -> Any:
    """The value of a YAML text, of plain types only.

    Args:
        text: to be read.
        where: the file, or what else the text is of, for the message.
        as_text: leave every value as it is written: `on`, `null`, `0123` and `1.10` are then texts.

    Raises:
        InputError: it is no YAML, names a type, refers to itself, is nested too deeply, or has too many values once its
            aliases are written out.
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
    """Walk over the events, which are not nested, before anything that is built recursively."""
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
    """Refuse a mapping with a key twice: YAML forbids it, but its readers take the last value without a word."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            line = key.start_mark.line + 1
            if key.value in lines:
                where_twice = f"lines {lines[key.value]} and {line}"
                raise InputError(f"{shown(where)} holds the key {key.value!r} twice ({where_twice}); remove one")
            lines[key.value] = line


def _require_small_yaml(root: Any, where: PathLike) -> None:
    """Count the values that the document has once its aliases are written out, without writing them out."""
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
            counts[id(node)] = None  # begun
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


# XML


def read_xml(path: PathLike) -> ElementTree.Element:
    """The root element of an XML file, in the encoding it declares.

    Raises:
        InputError: as for `read_bytes`; it is no XML, is nested too deeply, or declares entities of its own.
    """
    data = read_bytes(path)
    if not data.strip():
        raise InputError(f"{shown(path)} is empty, but XML is expected; repair or remove it")
    text = decode_xml(data, path)
    _refuse_entities(text.encode("utf-8", "replace"), path)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{shown(path)} is not valid XML ({error}); repair or remove it") from None
    _require_shallow_xml(root, path)
    return root


def decode_xml(data: bytes, path: PathLike) -> str:
    """The text of an XML file: in the encoding that it declares, where the bytes are in it; else as `decode` says."""
    declared = _DECLARED.search(data[:1024])
    if declared and not any(data.startswith(mark) for mark, _ in _MARKS):
        try:
            return data.decode(declared[1].decode("ascii"))
        except (LookupError, UnicodeDecodeError, ValueError):
            pass
    return decode(data, path)


def iter_xml(path: PathLike) -> Iterator[tuple[str, ElementTree.Element]]:
    """Events ("start" and "end") and elements of a large XML file, as it is read; the caller clears what it has used.

    Raises:
        InputError: as for `read_xml`, while it is read. There is no limit on the file's size.
    """
    parser: Any = ElementTree.XMLPullParser(("start", "end"))
    depth, before = 0, b""
    with open_binary(path) as file:
        decoder = _xml_decoder(file.read(4096))
        file.seek(0)
        while True:
            try:
                data = file.read(_CHUNK)
            except OSError as error:
                raise InputError(f"cannot read {shown(path)}: {error.strerror or error}") from None
            _refuse_entities(before + data, path)
            before = data[-32:]
            try:
                parser.feed(data if decoder is None else decoder.decode(data, not data))
                if not data:
                    parser.close()
                events: list[Any] = list(parser.read_events())
            except (ElementTree.ParseError, ValueError, LookupError) as error:
                raise InputError(f"{shown(path)} is not valid XML ({error}); repair or remove it") from None
            for event, element in events:
                depth += 1 if event == "start" else -1
                if depth > limits().depth:
                    require_within(f"{shown(path)}: the depth of elements inside each other", depth, "depth")
                yield event, element
            if not data:
                return


def _xml_decoder(start: bytes) -> codecs.IncrementalDecoder | None:
    """For XML in an encoding that the parser does not know itself: those of several bytes a character, such as GBK."""
    declared = _DECLARED.search(start)
    encoding = start_encoding(start) or (declared[1].decode("ascii") if declared else "utf-8")
    try:
        known = codecs.lookup(encoding)
        "a".encode(encoding)  # some names are of no encoding of text
    except (LookupError, ValueError):  # nobody knows it: most such files are in UTF-8, and others are refused
        known = codecs.lookup("utf-8-sig")
    return None if known.name in ("utf-8", "utf-16", "ascii", "iso8859-1") else known.incrementaldecoder("strict")


def _refuse_entities(data: bytes, path: PathLike) -> None:
    if b"<!ENTITY" in data or b"<\0!\0E\0N\0T" in data:
        raise InputError(f"{shown(path)} declares XML entities, which are not read; remove <!ENTITY …> from it")


def _require_shallow_xml(root: ElementTree.Element, path: PathLike) -> None:
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > limits().depth:
            require_within(f"{shown(path)}: the depth of elements inside each other", depth, "depth")
        level = [child for element in level for child in element]


# CSV


def read_csv(path: PathLike, delimiter: str = ",") -> list[list[str]]:
    """The rows of a CSV file, blank ones left out; errors as for `read_bytes` and `parse_csv`."""
    return parse_csv(read_text(path), path, delimiter)


def parse_csv(text: str, where: PathLike, delimiter: str = ",") -> list[list[str]]:
    """The rows of a CSV text, blank ones left out.

    Raises:
        InputError: it is no CSV, a field is too long, or there are too many rows.
    """
    now = limits()
    usual = csv.field_size_limit(min(now.field, 2**31 - 1))
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) > now.rows:
                require_within(f"{shown(where)}: the number of rows", len(rows), "rows")
    except csv.Error as error:
        reason = str(error)
        if "field limit" in reason:
            reason = f"a field is longer than {now.field} characters, the limit ({VARIABLE}=10 raises it)"
        raise InputError(f"{shown(where)}, line {reader.line_num}: not valid CSV ({reason}); correct it") from None
    finally:
        csv.field_size_limit(usual)
    return rows


# NumPy


def read_array(path: PathLike, *, mapped: bool = False) -> np.ndarray:
    """The array of a .npy file, never of Python objects.

    Args:
        path: of the file.
        mapped: leave it in the file, and read what is looked at (read-only).

    Raises:
        InputError: it is no .npy file, holds Python objects, is shorter than its header says, or is too large to be
            read at once.
    """
    with open_binary(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
            shape, _, dtype = read(file)
            ahead = size - file.tell()
        except Exception as error:  # the header is a Python literal: its reader raises errors of every kind
            reason = str(error).split("\n")[0] or type(error).__name__
            raise InputError(f"cannot read {shown(path)}: it is not a .npy file ({reason}); save it again") from None
    if dtype.hasobject:
        raise InputError(f"{shown(path)} holds Python objects, which are not read; save an array of numbers")
    count = 1
    for side in shape:
        count *= side
    if any(side < 0 for side in shape) or count * dtype.itemsize > ahead:
        raise InputError(
            f"{shown(path)} is truncated: its header says {list(shape)} of {dtype}, which is "
            f"{count * dtype.itemsize} bytes, but {ahead} follow; save it again"
        )
    if not mapped:
        require_within(f"the size of {shown(path)}", count * dtype.itemsize, "array_bytes", "bytes")
    try:
        return np.load(path, mmap_mode="r" if mapped and count else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        raise InputError(f"cannot read {shown(path)}: {error}; save it again") from None


# Words


def shown(text: object) -> str:
    """A name as it can stand in one line of a terminal: no line breaks, no control characters, no lone surrogates."""
    name = os.fsdecode(text) if isinstance(text, bytes | os.PathLike) else str(text)
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), name)


_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a whole number"}


def kind_of(value: object) -> str:
    """What a value of JSON or YAML is, in words; a type stands for its values."""
    if isinstance(value, tuple) and value and all(isinstance(part, type) for part in value):
        return " or ".join(kind_of(part) for part in value)
    kind = value if isinstance(value, type) else type(value)
    if value is None:
        return "null"
    return _KINDS.get(kind, "a number" if kind is float else kind.__name__)


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISREG, ""),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return name
    return "no ordinary file"


def _unusual(path: PathLike, kind: str) -> InputError:
    return InputError(f"{shown(path)} is {kind}, not a file; give a file, or remove it")

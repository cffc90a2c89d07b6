"""Read XML, as a whole or element by element, with a limit on the nesting depth and without entity declarations."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from sightline.errors import InputError
from sightline.runtime.limits import limits, require_within
from sightline.runtime.reading.files import CHUNK, PathLike, open_binary, read_bytes
from sightline.runtime.reading.text import MARKS, decode, start_encoding
from sightline.words import shown

_DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


def read_xml(path: PathLike) -> ElementTree.Element:
    """Read the root element of an XML file in its declared encoding; element names are without namespaces.

    Raises:
        InputError: as for `read_bytes`; it is not valid XML, is nested too deeply, or declares entities.
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
    for element in root.iter():
        _leave_namespace(element)
    return root


def _leave_namespace(element: ElementTree.Element) -> None:
    """Remove the namespace from an element's name: some tools declare one (xmlns="…"), which no format needs."""
    if isinstance(element.tag, str) and element.tag.startswith("{"):
        element.tag = element.tag.rpartition("}")[2]


def decode_xml(data: bytes, path: PathLike) -> str:
    """The text of an XML file: in its declared encoding if the bytes match it; otherwise as by `decode`."""
    declared = _DECLARED.search(data[:1024])
    if declared and not any(data.startswith(mark) for mark, _ in MARKS):
        try:
            return data.decode(declared[1].decode("ascii"))
        except (LookupError, UnicodeDecodeError, ValueError):
            pass
    return decode(data, path)


def iter_xml(path: PathLike) -> Iterator[tuple[str, ElementTree.Element]]:
    """Yield events ("start" and "end") and elements of a large XML file while reading it.

    The caller should clear elements that it has used.

    Raises:
        InputError: as for `read_xml`, while the file is read. There is no limit on the file's size.
    """
    parser: Any = ElementTree.XMLPullParser(("start", "end"))
    depth, before = 0, b""
    with open_binary(path) as file:
        decoder = _xml_decoder(file.read(4096))
        file.seek(0)
        while True:
            try:
                data = file.read(CHUNK)
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
                if event == "start":
                    _leave_namespace(element)
                yield event, element
            if not data:
                return


def _xml_decoder(start: bytes) -> codecs.IncrementalDecoder | None:
    """Decode XML in an encoding that the parser does not support: multi-byte encodings such as GBK."""
    declared = _DECLARED.search(start)
    encoding = start_encoding(start) or (declared[1].decode("ascii") if declared else "utf-8")
    try:
        known = codecs.lookup(encoding)
        "a".encode(encoding)  # some names are not text encodings
    except (LookupError, ValueError):  # an unknown encoding: most such files are UTF-8, others are refused
        known = codecs.lookup("utf-8-sig")
    return None if known.name in ("utf-8", "utf-16", "ascii", "iso8859-1") else known.incrementaldecoder("strict")


def _refuse_entities(data: bytes, path: PathLike) -> None:
    if b"<!ENTITY" in data or b"<\0!\0E\0N\0T" in data:
        raise InputError(f"{shown(path)} declares XML entities, which are refused; remove <!ENTITY …> from it")


def _require_shallow_xml(root: ElementTree.Element, path: PathLike) -> None:
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > limits().depth:
            require_within(f"{shown(path)}: the depth of elements inside each other", depth, "depth")
        level = [child for element in level for child in element]

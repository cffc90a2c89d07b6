"""Read text in the encoding that its byte order mark or its bytes indicate."""

from __future__ import annotations

import codecs
import os
import re

from sightline.errors import InputError
from sightline.runtime.reading.files import PathLike, open_binary, read_bytes
from sightline.words import shown

MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_NOT_LATIN = re.compile(rb"[\x80-\xbf\xd7\xf7]|[\x80-\xff]{2}|(?<![A-Za-z])[\x80-\xff](?![A-Za-z])")
"""Bytes that are not single accented letters next to Latin ones. Encodings of other scripts have many of them."""


def read_text(path: PathLike, limit: str = "file_bytes") -> str:
    """Read all text of a file, decoded as by `decode`; errors as for `read_bytes`."""
    return decode(read_bytes(path, limit), path)


def decode(data: bytes, path: PathLike = "the text") -> str:
    """Decode text: by its byte order mark, else as UTF-8, UTF-16 (zero bytes) or Windows-1252 (accented letters).

    Other encodings, such as GBK, Shift-JIS or Windows-1251, decode each other's bytes without an error but to other
    letters. They are refused, since which one is meant cannot be known.

    Args:
        data: the bytes of a text file.
        path: for the message.

    Raises:
        InputError: the bytes are not in the encoding of the byte order mark, or the encoding is unknown.
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                name = encoding.removesuffix("-sig").upper()
                raise InputError(
                    f"{shown(path)} begins with the byte order mark of {name} but is not in it ({error.reason} at byte "
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


def head(path: PathLike, count: int = 2**16, tail: int = 0) -> bytes:
    """The first `count` bytes of a text file and its last `tail`; empty if the file cannot be read.

    This is used to search for words: zero bytes of UTF-16 are removed, so that Latin letters are as in other encodings.
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
    """The encoding indicated by a byte order mark or by zero bytes at the start of a text; "" if there is neither."""
    marked = next((encoding for mark, encoding in MARKS if data.startswith(mark)), "")
    start = data[:4096]
    if marked or 0 not in start:  # only UTF-16 text has zero bytes, in its line ends and Latin letters
        return marked
    even, odd = start[::2].count(0), start[1::2].count(0)
    few = even + odd < len(start) * 0.15 and _is_utf8(start)
    if few or min(even, odd) * 8 > max(even, odd):
        return ""  # a damaged file: UTF-16 has zeros in one byte of each pair
    return "utf-16-le" if odd >= even else "utf-16-be"


def _is_utf8(start: bytes) -> bool:
    """Whether bytes are UTF-8; they may end within a character."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True

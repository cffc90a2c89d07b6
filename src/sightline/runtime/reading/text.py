"""Text of files, in the encoding that its beginning or its bytes show."""

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
"""Bytes that are not single accented letters beside Latin ones. The encodings of other scripts are full of them."""


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
    for mark, encoding in MARKS:
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
    marked = next((encoding for mark, encoding in MARKS if data.startswith(mark)), "")
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

"""Reading a large JSON object piece by piece, so that only one piece at a time exists as Python objects.

A COCO file is one object whose "annotations" may have hundreds of megabytes. The text is cut at places that look like
the end of an annotation. If a piece parses as a JSON array, the cut was correct, because a wrong cut leaves a bracket
open.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Never

from sightline.errors import InputError
from sightline.runtime import reading
from sightline.runtime.limits import limits

_CHUNK = 2**20
"""Number of characters parsed at once: enough for the parser's full speed, few enough to use little memory."""
_SEGMENTATION = re.compile(r'"segmentation"\s*:\s*(\[(?:[^\[\]{}"]|\[[^\[\]{}"]*\])*\]|\{[^{}]*\})')
"""The text of a segmentation: lists of numbers, or an RLE (whose compressed counts contain no brace)."""
_SPACE = re.compile(r"\s+")

Batch = tuple[list[Any], list[str]]
"""Elements of an array, and the compact texts of segmentations; an element's "segmentation" is an index into these."""


class JsonFile:
    """One JSON object in a file.

    Args:
        path: the file, in UTF-8 (or UTF-16 with a byte order mark).
    """

    def __init__(self, path: Path):
        self.path = path
        self._json = json.JSONDecoder()

    def _decode(self, text: str, at: int = 0) -> tuple[Any, int]:
        try:
            return self._json.raw_decode(text, at)
        except RecursionError:
            raise InputError(
                f"{self.path} is not usable: lists and objects are nested more deeply than the limit of "
                f"{limits().depth}; save it again"
            ) from None
        except json.JSONDecodeError:
            raise
        except ValueError:  # Python refuses integers with more than 4300 digits
            raise InputError(f"{self.path} contains a number with thousands of digits; correct it") from None

    def items(self, streamed: frozenset[str] | set[str]) -> Iterator[tuple[str, Any]]:
        """Yield each key with its value. For a key in `streamed` whose value is an array, the value is an iterator of
        `Batch`es, which must be exhausted before the next key.

        Raises:
            InputError: the file cannot be read, is truncated, or is not a JSON object.
        """
        try:
            with reading.open_binary(self.path) as self._file:
                encoding = reading.start_encoding(self._file.read(4096)) or "utf-8-sig"
                self._file.seek(0)
                self._decoder = codecs.getincrementaldecoder(encoding)()
                self._text, self._at, self._before, self._ended = "", 0, 0, False
                yield from self._members(streamed)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path} is not JSON: {error}; save it again as UTF-8") from None

    def _members(self, streamed: frozenset[str] | set[str]) -> Iterator[tuple[str, Any]]:
        self._expect("{", "an object such as {")
        if self._peek() == "}":
            return
        while True:
            key = self._value()
            self._expect(":", "a colon")
            if key in streamed and self._peek() == "[":
                self._at += 1
                yield key, self._batches(key)
            else:
                yield key, self._value()
            if self._peek() == "}":
                return
            self._expect(",", "a comma or }")

    def _batches(self, key: str) -> Iterator[Batch]:
        want, count = _CHUNK, 0
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            self._fill(want)
            text = self._text[self._at :]
            cut = len(text)
            for _ in range(8):
                cut = text.rfind("},", 0, cut)
                if cut < 0:
                    break
                piece = text[: cut + 1]
                batch = _parsed(self._decode, piece)
                if batch is not None:
                    count += len(batch[0])
                    yield batch
                    self._at += cut + 2
                    want = _CHUNK
                    break
            else:
                cut = -1
            if cut >= 0:
                continue
            try:  # no further cut is possible: this may be the end of the array
                values, end = self._decode("[" + text)
            except json.JSONDecodeError as error:
                if self._ended:
                    self._complain(error.pos - 1, f'in "{key}" after {count} entries', error.msg)
                want = 2 * max(want, len(text))
                continue
            self._at += end - 1
            yield _with_texts(values)
            return

    # The text and the position in it

    def _fill(self, want: int) -> None:
        """Buffer at least `want` characters ahead, or all that are left."""
        if self._ended or len(self._text) - self._at >= want:
            return
        self._before += self._at
        pieces = [self._text[self._at :]]
        have = len(pieces[0])
        while have < want and not self._ended:
            data = self._file.read(max(_CHUNK, want - have))
            self._ended = not data
            pieces.append(self._decoder.decode(data, final=self._ended))
            have += len(pieces[-1])
        self._text, self._at = "".join(pieces), 0

    def _peek(self) -> str:
        """The next non-whitespace character; "" at the end."""
        while True:
            self._fill(64)
            match = _SPACE.match(self._text, self._at)
            if match:
                self._at = match.end()
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]

    def _expect(self, character: str, what: str) -> None:
        if self._peek() != character:
            self._complain(0, "", f"expecting {what}")
        self._at += 1

    def _value(self) -> Any:
        self._peek()
        want = _CHUNK
        while True:
            self._fill(want)
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    self._complain(error.pos - self._at, "", error.msg)
            else:
                if end < len(self._text) or self._ended:  # otherwise a number might continue
                    self._at = end
                    return value
            want = 2 * max(want, len(self._text) - self._at)

    def _complain(self, offset: int, where: str, message: str) -> Never:
        """Report an error `offset` characters ahead."""
        rest = self._text[self._at :].rstrip()
        place = f" {where}" if where else ""
        if not self._before and not self._at and not rest:
            raise InputError(f"{self.path} is empty, but a JSON file is expected; copy or download it again")
        unclosed = message.startswith("Unterminated") or offset >= len(rest)
        if (self._before or self._at) and self._ended and unclosed:
            raise InputError(f"{self.path} is truncated: it ends{place or ' too early'}; copy or download it again")
        raise InputError(
            f"{self.path} is not valid JSON{place}: {message} at character {self._before + self._at + offset}"
        )


def _parsed(decode: Any, piece: str) -> Batch | None:
    """The elements in `piece`, or None if it does not consist of complete elements."""
    texts: list[str] = []

    def take(match: re.Match[str]) -> str:
        texts.append(_SPACE.sub("", match[1]))
        return f'"segmentation":{len(texts) - 1}'

    bare = f"[{_SEGMENTATION.sub(take, piece)}]"
    try:
        values, end = decode(bare)
    except json.JSONDecodeError:
        return None
    if end != len(bare):
        return None
    found = [value.get("segmentation") for value in values if isinstance(value, dict)]
    places = [place for place in found if place is not None]
    if places != [*range(len(texts))] or bool in map(type, places):
        # a segmentation is nested, or is neither list nor object: use the slower, exact way
        return _with_texts(json.loads(f"[{piece}]"))
    return values, texts


def _with_texts(values: list[Any]) -> Batch:
    texts: list[str] = []
    for value in values:
        if isinstance(value, dict) and "segmentation" in value:
            texts.append(json.dumps(value["segmentation"], separators=(",", ":")))
            value["segmentation"] = len(texts) - 1
    return values, texts

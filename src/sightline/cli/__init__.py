"""The command line: `sightline VERB …`. Each verb reads its arguments, calls the library, and prints what came out.

A mistake ends in one sentence on the error output and exit code 2. `check` exits with 1 where training cannot start.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from sightline.cli import about, data, train, use  # noqa: F401  (whose verbs register themselves)
from sightline.cli.app import app
from sightline.runtime.reading import shown


def main() -> None:
    """Entry point."""
    usual, sys.stdout = sys.stdout, _Printable(sys.stdout)
    try:
        logging.basicConfig(stream=sys.stderr)
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_OneLine("%(message)s"))
        app(prog_name="sightline")
    finally:
        sys.stdout = usual


class _Printable:
    """A text stream to which nothing of a file's name can send commands: control characters are written as escapes."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        if not text.isprintable():
            text = "".join(shown(c) if c not in "\n\t" else c for c in text)
        return int(self._stream.write(text) or 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _OneLine(logging.Formatter):
    """Messages whose lines hold no control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(shown, super().format(record).split("\n")))

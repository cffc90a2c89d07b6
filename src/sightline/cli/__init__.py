"""The command line: `sightline VERB …`. Each verb parses its arguments, calls the library, and prints the result.

A user's mistake prints one sentence to stderr and exits with code 2. `check` exits with 1 if training cannot start.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import Any

from sightline.cli import ablate, about, annotate, compare, data, explain, export, inside, serve, train, use  # noqa: F401  (whose verbs register themselves)
from sightline.cli.app import app
from sightline.runtime.processes import is_main
from sightline.runtime.reading import CONTROL, shown


def main() -> None:
    """Entry point."""
    messages = logging.StreamHandler(sys.stderr)
    messages.setFormatter(_OneLine("%(message)s"))
    usual: Any = sys.stdout
    sys.stdout = _Printable(usual)
    try:
        logging.getLogger().addHandler(messages)
        with nullcontext() if is_main() else _silent():
            app(prog_name="sightline")
    except KeyboardInterrupt:  # before the verb begins; `_Verbs` takes those after that
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        logging.getLogger().removeHandler(messages)
        sys.stdout = usual


@contextmanager
def _silent() -> Iterator[None]:
    """Context in which nothing is printed: of several processes, only the main one prints.

    Only the sentence of an error goes to `sys.__stderr__`, if this process is the first to have one.
    """
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(level)


class _Printable:
    """A text stream that writes control characters as escapes, so that file names cannot send terminal commands."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._stream.write(CONTROL.sub(lambda c: c[0] if c[0] in "\n\t" else shown(c[0]), text)) or 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _OneLine(logging.Formatter):
    """Formats log messages without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(shown, super().format(record).split("\n")))

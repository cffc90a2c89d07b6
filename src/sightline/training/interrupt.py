"""Ctrl-C as a request: training ends where its state is whole."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupts:
    """Within this context the first Ctrl-C waits for a safe point, and the second one ends at once.

    Safe points are the calls of `check` (between two optimizer steps) and everything inside `allowed` (validation,
    which changes nothing). `safe` then tells whoever catches the KeyboardInterrupt whether it came at such a point, and
    the state may be saved. In other threads than the main one, where Python delivers no signals, nothing is changed.

    Args:
        enabled: False leaves Ctrl-C as it is (several processes, which would stop at different steps).
    """

    def __init__(self, enabled: bool = True):
        self.enabled = enabled
        self.safe = False
        self._asked = False
        self._previous: Any = None

    def __enter__(self) -> Interrupts:
        if self.enabled:
            try:
                self._previous = signal.signal(signal.SIGINT, self._handle)
            except ValueError:  # not the main thread
                self.enabled = False
        return self

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            # A handler that was not installed from Python reads as None and cannot be put back: take Python's own.
            signal.signal(signal.SIGINT, self._previous if self._previous is not None else signal.default_int_handler)

    def _handle(self, _: int, __: FrameType | None) -> None:
        if self.safe or self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def check(self) -> None:
        """A safe point: raises the KeyboardInterrupt that was asked for since the last one."""
        if self._asked:
            self.safe = True
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside, Ctrl-C is obeyed at once: nothing of the training state changes here."""
        self.check()
        self.safe = True
        yield
        self.safe = False  # not reached by an exception: whoever catches it must still see that it was safe

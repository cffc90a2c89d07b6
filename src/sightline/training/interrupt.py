"""Handle Ctrl-C so that training stops only when its state is consistent."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupts:
    """Context in which the first Ctrl-C waits for a safe point and the second one stops at once.

    Safe points are the calls of `check` (between two optimizer steps) and everything inside `allowed` (validation,
    which changes no training state). Code that catches the KeyboardInterrupt can read from `safe` whether it was
    raised at a safe point, so that the state may be saved. Outside the main thread, where Python delivers no signals,
    the context changes nothing.

    Args:
        enabled: False leaves Ctrl-C unchanged (for several processes, which would stop at different steps).
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
            # A handler that was not installed from Python is None and cannot be restored: use Python's default.
            signal.signal(signal.SIGINT, self._previous if self._previous is not None else signal.default_int_handler)

    def _handle(self, _: int, __: FrameType | None) -> None:
        if self.safe or self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def check(self) -> None:
        """A safe point: raise the KeyboardInterrupt requested since the last one."""
        if self._asked:
            self.safe = True
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside this context Ctrl-C takes effect at once: no training state changes here."""
        self.check()
        self.safe = True
        yield
        self.safe = False  # not reached after an exception, so that `safe` stays True for the code that catches it

"""A file that takes images of any size, compiled once more for each size that comes often."""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import numpy as np

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
"""Inputs by name, "images" [N, C, H, W] and "cameras" [N, 3, 3] where they are taken → the outputs by name."""
Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""The names of inputs and their shapes."""

MOST = 4
"""Number of sizes that are kept compiled; each keeps its own copy of the weights."""
PATIENCE = 10.0
"""A size is compiled once its calls have taken this many times as long as compiling takes."""
_REMEMBERED = 64


class PerSize:
    """Runs a file, and compiles it for inputs of one shape once these have taken far more time than compiling does.

    A runtime that knows all shapes computes sizes, anchors and the weights of resizing only once, and chooses faster
    forms of some layers. Whatever sizes come, compiling takes at most a tenth (`PATIENCE`) of the time of all calls.
    Calls from several threads run one after another: what runs them overwrites its memory at the next call.

    Args:
        general: runs inputs of any shape.
        compiled: shapes → what runs inputs of these shapes.
        seconds: how long compiling takes, for the first decision.
        most: number of shapes that are kept; the one that was not used for longest is dropped.
    """

    def __init__(self, general: Run, compiled: Callable[[Shapes], Run], seconds: float, most: int = MOST):
        self._general, self._compiled, self._seconds, self._most = general, compiled, seconds, most
        self._own: OrderedDict[Shapes, Run] = OrderedDict()
        self._spent: OrderedDict[Shapes, float] = OrderedDict()
        self._fails = False
        self._lock = Lock()

    @property
    def shapes(self) -> list[Shapes]:
        """The shapes that are compiled, with the one last used at the end."""
        return list(self._own)

    def __call__(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            return self._run(given)

    def _run(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        key = tuple((name, value.shape) for name, value in sorted(given.items()))
        own = self._own.get(key)
        if own is not None:
            self._own.move_to_end(key)
            return own(given)
        began = time.perf_counter()
        found = self._general(given)
        self._spent[key] = self._spent.pop(key, 0.0) + time.perf_counter() - began
        if self._spent[key] >= PATIENCE * self._seconds and not self._fails:
            self._add(key)
        elif len(self._spent) > _REMEMBERED:
            self._spent.popitem(last=False)
        return found

    def _add(self, key: Shapes) -> None:
        """Compile for these shapes; if that fails, the general form serves all, and a warning says so."""
        del self._spent[key]
        began = time.perf_counter()
        try:
            self._own[key] = self._compiled(key)
        except Exception as error:  # the runtimes' errors have no common public class
            self._fails = True
            height, width = dict(key)["images"][-2:]
            warnings.warn(
                f"compiling the file for images of {height}×{width} failed ({short(error)}); results stay right, but "
                "every size keeps the slower form for any size",
                stacklevel=2,
            )
            return
        self._seconds = time.perf_counter() - began
        if len(self._own) > self._most:
            self._own.popitem(last=False)


def short(error: Exception) -> str:
    """The message of a runtime's error in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]

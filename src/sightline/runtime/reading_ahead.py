"""Compute items in threads before they are asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def read_ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int, ahead: int
) -> Generator[_Result, None, None]:
    """Yield `function(item)` for each item, in order, computed in threads while the caller works on earlier ones.

    The caller can stop at any time, such as by Ctrl-C, and does not wait for the threads. `ThreadPoolExecutor` does
    wait: if Ctrl-C interrupts one of its methods while it holds a lock, for ever. `SimpleQueue` has no such moment.

    Args:
        function: called in the threads. What it raises is raised when the item's turn has come.
        items: iterated over by the caller's thread.
        workers: number of threads.
        ahead: maximum number of results that wait, or are computed, while the caller works on one.
    """
    tasks: SimpleQueue[tuple[_Item, SimpleQueue[Any]] | None] = SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while (task := tasks.get()) is not None and not stopped.is_set():
            item, answer = task
            try:
                answer.put((function(item), None))
            except BaseException as error:
                answer.put((None, error))

    def answered(answer: SimpleQueue[Any]) -> _Result:
        result, error = answer.get()
        if error is not None:
            raise error
        found: _Result = result
        return found

    waiting: deque[SimpleQueue[Any]] = deque()
    for _ in range(workers):
        threading.Thread(target=work, name="sightline-ahead", daemon=True).start()
    try:
        for item in items:
            waiting.append(SimpleQueue())
            tasks.put((item, waiting[-1]))
            if len(waiting) > ahead:
                yield answered(waiting.popleft())
        while waiting:
            yield answered(waiting.popleft())
    finally:
        stopped.set()
        for _ in range(workers):
            tasks.put(None)

"""Times of calls that take turns, so that other load on the machine hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def seconds_in_turn(calls: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median wall seconds of each call; a first call of each, which prepares, is not counted.

    Args:
        calls: functions that return when their work is done.
        repeats: number of timed calls of each.
    """
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats + 1):
        for call, own in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call()
            if turn:
                own.append(time.perf_counter() - begin)
    return [statistics.median(own) for own in times]

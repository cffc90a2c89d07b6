"""Items are computed ahead in threads, in order; the caller can stop without waiting for them."""

from __future__ import annotations

import threading
import time

import pytest

from sightline.runtime.reading_ahead import read_ahead


def test_results_come_in_order_and_are_computed_at_once() -> None:
    together = threading.Barrier(3, timeout=10)  # is passed only if three items are computed at the same time

    def slow_first(item: int) -> int:
        together.wait()
        time.sleep(0.02 * (3 - item % 3))
        return item * item

    assert list(read_ahead(slow_first, range(9), 3, 3)) == [item * item for item in range(9)]
    assert list(read_ahead(slow_first, [], 3, 3)) == []


def test_no_more_is_read_ahead_than_was_asked_for() -> None:
    begun: list[int] = []
    results = read_ahead(begun.append, range(100), 2, 4)
    for _ in range(10):
        next(results)
    time.sleep(0.05)
    assert len(begun) == 14
    results.close()


def test_an_error_is_raised_at_its_turn() -> None:
    def third(item: int) -> int:
        if item == 2:
            raise KeyError(item)
        return item

    results = read_ahead(third, range(5), 2, 4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)


def test_who_stops_does_not_wait_for_the_threads() -> None:
    """As after Ctrl-C: a pool whose end is waited for would hang with its threads."""
    release = threading.Event()

    def stuck(item: int) -> int:
        if item:
            release.wait(60)
        return item

    results = read_ahead(stuck, range(5), 2, 3)
    assert next(results) == 0
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 5
    names = [thread.name for thread in threading.enumerate() if thread.name == "sightline-ahead"]
    assert names
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "sightline-ahead")
    release.set()  # and then they end, without the items that nobody asks for
    until = time.monotonic() + 10
    while any(thread.name == "sightline-ahead" for thread in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "sightline-ahead"]

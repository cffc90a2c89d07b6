"""A file compiled once more for the sizes that come often."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sightline.deploy import sizes
from sightline.deploy.sizes import PerSize, Run, Shapes


def given(side: int) -> dict[str, np.ndarray]:
    return {"images": np.zeros((1, 3, side, side), np.uint8)}


def key(side: int) -> Shapes:
    return (("images", (1, 3, side, side)),)


class Clock:
    """Time that passes only in the general form: 2 seconds for a call."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def runs(
    monkeypatch: pytest.MonkeyPatch, seconds: float, most: int = 2, fails: bool = False
) -> tuple[PerSize, list[Shapes]]:
    """The general form gives 0; that of a size gives its side. Compiling takes so many seconds."""
    made: list[Shapes] = []
    clock = Clock()
    monkeypatch.setattr(sizes, "time", clock)

    def general(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        clock.now += 2
        return {"side": np.array(0)}

    def compiled(shapes: Shapes) -> Run:
        made.append(shapes)
        if fails:
            raise RuntimeError("no")
        clock.now += seconds
        return lambda inputs: {"side": np.array(dict(shapes)["images"][-1])}

    return PerSize(general, compiled, seconds, most), made


def test_a_size_is_compiled_once_its_calls_took_ten_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    run, made = runs(monkeypatch, seconds=0.3)
    first = run(given(8))
    assert (int(first["side"]), made) == (0, [])
    assert int(run(given(8))["side"]) == 0  # 4 seconds in all: compiled for the next call
    assert made == [key(8)]
    assert int(run(given(8))["side"]) == 8
    assert int(run(given(9))["side"]) == 0


def test_the_size_that_was_not_used_for_longest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    run, made = runs(monkeypatch, seconds=0.0)
    for side in (1, 2):
        run(given(side))
    run(given(1))
    run(given(3))
    assert run.shapes == [key(1), key(3)]
    run(given(2))  # it has to be compiled again
    assert made == [key(1), key(2), key(3), key(2)]


def test_what_cannot_be_compiled_is_tried_once_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    run, made = runs(monkeypatch, seconds=0.0, fails=True)
    with pytest.warns(UserWarning, match=r"compiling the file for images of 4×4 failed \(no\)") as said:
        found = [int(run(given(side))["side"]) for side in (4, 5) * 3]
    assert (found, made, len(said)) == ([0] * 6, [key(4)], 1)


def test_times_of_many_sizes_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    run, made = runs(monkeypatch, seconds=3.0)
    run(given(1))
    run._spent.update({key(100 + i): 0.0 for i in range(64)})
    run(given(2))
    run(given(1))
    assert made == []


def test_calls_from_several_threads_run_one_after_another() -> None:
    """What runs them gives memory that the next call overwrites."""
    inside = threading.Semaphore(1)

    def general(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert inside.acquire(blocking=False), "two calls at once"
        time.sleep(0.002)
        inside.release()
        return {"side": np.array(inputs["images"].shape[-1])}

    run = PerSize(general, lambda shapes: general, 0.001)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda side: int(run(given(side))["side"]), [4, 8] * 20))
    assert found == [4, 8] * 20

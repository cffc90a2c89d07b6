"""Choose, while training, how many threads compute beside the processes that read images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch

from sightline.words import counted

STEPS, SKIPPED = 5, 2
"""Steps that are timed with each number of threads, and steps before them that are not: batches that were read
meanwhile make those faster than what follows."""
PAUSE, LONGEST_PAUSE = 50, 400
"""Steps until the next trial: twice as many after each that changes nothing."""
GAIN = 0.95
"""The other number is taken if its steps take at most this fraction of the time."""


class Threads:
    """Tries two numbers of threads every now and then, and keeps the one with the faster training steps.

    Threads of one operation wait for each other. Where they are as many as the cores, each process that reads images,
    and each other program, holds all of them up: on two shared cores a step can take four times as long with two
    threads as with one (`benchmarks/results/three_minutes.md`). Where the cores are free, more threads are faster.

    Args:
        most: number of threads at the start.
        fewer: the other number.
        say: prints a sentence.
        now: returns a time in seconds.
        use: sets the number of threads of this process.
    """

    def __init__(
        self,
        most: int,
        fewer: int,
        say: Callable[[str], object],
        now: Callable[[], float] = time.perf_counter,
        use: Callable[[int], object] = torch.set_num_threads,
    ):
        self.most, self.count, self.other = most, most, fewer
        self._say, self._now, self._use = say, now, use
        self._pause = PAUSE
        self._wait = 0  # steps until the next trial
        self._mean: float | None = None  # seconds per step with `count`, once measured
        self._spent: list[float] = []
        self._last: float | None = None

    def begin_epoch(self) -> None:
        """Forget when the last step ended: a validation may lie in between."""
        self._last = None

    def step(self) -> None:
        """Count a training step that has just ended, and change the number of threads if it is time to."""
        if self.count == self.other:
            return
        now = self._now()
        before, self._last = self._last, now
        if before is None:
            return
        if self._wait > 0:
            self._wait -= 1
            return
        self._spent.append(now - before)
        timed = self._spent[SKIPPED:]
        if self._mean is None:  # the number in use is measured first
            if len(timed) == STEPS:
                self._mean, self._spent = sum(timed) / STEPS, []
                self._use(self.other)
            return
        if len(timed) == STEPS:
            self._decide(sum(timed) / STEPS)
        elif sum(self._spent) > self._mean * (SKIPPED + STEPS):
            self._decide(sum(self._spent) / len(self._spent))

    def end(self) -> None:
        """Set the number of threads that the process had before."""
        self._use(self.most)

    def _decide(self, other: float) -> None:
        assert self._mean is not None
        if other <= GAIN * self._mean:
            self.count, self.other = self.other, self.count
            self._say(
                f"computing with {counted(self.count, 'thread')} instead of {self.other}: a step takes "
                f"{1e3 * other:.0f} ms instead of {1e3 * self._mean:.0f}"
            )
            self._pause = PAUSE
        else:
            self._use(self.count)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._mean, self._spent, self._wait = None, [], self._pause


def threads_to_try(minutes: float | None, device: torch.device, processes: int, workers: int) -> tuple[int, int]:
    """The number of threads to begin with and the one to try; equal where there is nothing to choose.

    Only a training run with a budget of time tries: the number of threads changes the last digits of sums, so a run of
    fixed length would not end with the same weights each time.

    Args:
        minutes: the budget of the run, or None.
        device: where the model is trained.
        processes: number of processes that train it together.
        workers: number of processes that read images.
    """
    most = torch.get_num_threads()
    if minutes is None or device.type != "cpu" or processes > 1:
        return most, most
    return most, max(1, most - max(workers, 1))


def numbers_of_threads(device: torch.device, processes: int = 1, workers: int = 1) -> Iterator[int]:
    """Yield the numbers of threads that a training run by the clock tries, lower one first, each while it is set."""
    most, fewer = threads_to_try(math.inf, device, processes, workers)
    try:
        for count in dict.fromkeys((fewer, most)):
            torch.set_num_threads(count)
            yield count
    finally:
        torch.set_num_threads(most)

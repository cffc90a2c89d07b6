"""The command `sightline` with a clock that runs on CPU time, for trainings with a time budget on a busy machine.

    OMP_NUM_THREADS=1 python benchmarks/cpu_clock.py 0.6 train DATA --minutes 3 --set workers=0

The first argument is the number of seconds that the clock advances per CPU second of this process. On two free cores a
training with two threads and a process that reads images takes about 0.6 s for what takes one thread 1 s of CPU time.
With it, `--minutes 3` ends after 300 CPU seconds, however long they take, and everything that looks at the minutes or
at the time of a step works as in a run of three minutes. Processes that are not this one are not counted, so images
are read by the training process itself (workers=0).
"""

from __future__ import annotations

import selectors  # noqa: F401
import subprocess  # noqa: F401
import sys
import threading  # noqa: F401  (with the two above: they take the real clock for their timeouts when imported)
import time


def install(rate: float) -> None:
    """Replace `time.monotonic` and `time.perf_counter` of this process by its CPU time, times `rate`."""

    def clock() -> float:
        return rate * time.process_time()

    time.monotonic = clock
    time.perf_counter = clock


if __name__ == "__main__":
    install(float(sys.argv.pop(1)))
    from sightline.cli import main

    main()

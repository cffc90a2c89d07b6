"""How PyTorch's threads wait for each other.

The threads of GNU OpenMP, which PyTorch's builds for Linux use, wait by spinning for milliseconds before they sleep. If
any other process needs a core, the thread that the others spin for may not be running, and a training step on two cores
takes tens of times as long. Spinning for some microseconds only costs 5 to 10 % where the cores are free
(`benchmarks/results/three_minutes.md`).
"""

from __future__ import annotations

import os

_COUNT, _POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
SPINS = "10000"


def spin_briefly() -> None:
    """Limit how long threads spin, unless the environment says how they wait.

    It must be called before PyTorch is imported; afterwards it has no effect on this process.
    """
    if _COUNT not in os.environ and _POLICY not in os.environ:
        os.environ[_COUNT] = SPINS

"""What several tests use."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
if (
    "PYTEST_XDIST_WORKER_COUNT" in os.environ
):  # the processes of one test run share the cores; set before torch is imported
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))


gc.disable()


def pytest_collection_finish() -> None:
    """Imported modules stay, so the garbage collector need not look through them again and again.

    With its usual numbers it takes a tenth of the time of all tests.
    """
    gc.freeze()
    gc.set_threshold(5000, 10, 10)
    gc.enable()


_SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference values and real images beside the project; tests that need it are skipped without it."""
    if not (_SHARED / "parity").is_dir():
        pytest.skip("the folder ../shared with reference values and real images is not there")
    return _SHARED

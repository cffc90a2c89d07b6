"""What several tests use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")

_SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference values and real images beside the project; tests that need it are skipped without it."""
    if not (_SHARED / "parity").is_dir():
        pytest.skip("the folder ../shared with reference values and real images is not there")
    return _SHARED

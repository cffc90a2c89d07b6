"""The log of the package in tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def log_level_kept() -> Iterator[None]:
    """Context after which the log has its level of before; commands set it."""
    log = logging.getLogger("sightline")
    level = log.level
    try:
        yield
    finally:
        log.setLevel(level)

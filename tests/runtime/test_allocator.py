"""Freed memory is kept inside, and returned afterwards; what the environment says is left alone."""

from __future__ import annotations

import resource

import pytest
import torch

from sightline.runtime import allocator
from sightline.runtime.allocator import kept_memory

pytestmark = pytest.mark.skipif(allocator._glibc() is None, reason="only glibc has these settings")


def faults() -> int:
    """Number of pages that the system clears for a tensor of 64 MiB, after others like it were freed."""
    blocks = [torch.ones(2**24) for _ in range(3)]
    del blocks
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_freed_block_is_used_again_inside_only() -> None:
    with kept_memory():
        with kept_memory():
            pass
        kept = faults()  # an inner context does not end the outer one
    returned = faults()
    assert kept < returned / 4
    assert returned >= 32  # pages of 2 MiB at most


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "1000000"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=3")]
)
def test_what_the_environment_says_is_kept(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(allocator, "_set", lambda *_: pytest.fail("the thresholds were changed"))
    with kept_memory():
        pass

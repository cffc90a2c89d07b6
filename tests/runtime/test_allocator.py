"""Freed memory is kept inside, and returned afterwards; what the environment says is left alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sightline.runtime import allocator
from sightline.runtime.allocator import kept_memory

pytestmark = pytest.mark.skipif(allocator._glibc() is None, reason="only glibc has these settings")


FAULTS = """
import resource
from sightline.runtime.allocator import kept_memory

def faults():  # of pages that the system clears for a block of 64 MiB, after others like it were freed
    blocks = [b"x" * 2**26 for _ in range(3)]
    del blocks
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with kept_memory():
    with kept_memory():
        pass
    kept = faults()  # an inner context does not end the outer one
print(kept, faults())
"""


def test_a_freed_block_is_used_again_inside_only() -> None:
    """In a process of its own, since the memory of this one depends on the tests before."""
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=120)
    kept, returned = map(int, found.stdout.split())
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

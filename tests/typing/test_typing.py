"""The public API's types, as mypy sees them in programs that use it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def expected(file: Path) -> set[tuple[str, int, str]]:
    """File, line and code of each error that is written beside a line."""
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    return {(file.name, number, code[1]) for number, line in lines if (code := re.search(r"# error: ([\w-]+)$", line))}


def test_users_of_the_library_get_its_types() -> None:
    pytest.importorskip("mypy")
    files = [HERE / "usage.py", HERE / "misuse.py"]
    run = subprocess.run(  # with the project's settings and cache
        [sys.executable, "-m", "mypy", "--no-error-summary", *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    found = set()
    for line in run.stdout.splitlines():
        at = re.match(r"(?:.*[/\\])?(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", line)
        if at is not None:
            found.add((at[1], int(at[2]), at[3]))
        else:
            assert ": note: " in line, line
    assert run.stderr == ""
    assert found == expected(files[0]) | expected(files[1]), run.stdout
    assert len(found) > 10

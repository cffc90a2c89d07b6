"""How PyTorch's threads wait: set before PyTorch is imported, and only if the user says nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sightline.runtime.waiting import SPINS, spin_briefly

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def test_importing_the_package_sets_it_before_pytorch_is_imported() -> None:
    code = "import sightline, os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    own = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [SPINS, "False"]


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "5"), ("OMP_WAIT_POLICY", "PASSIVE")])
def test_what_the_environment_says_is_kept(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    spin_briefly()
    assert {other: os.environ.get(other) for other in NAMES} == dict.fromkeys(NAMES) | {name: value}

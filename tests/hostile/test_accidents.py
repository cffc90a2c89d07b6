"""Accidents of a training: killed at any instant, a full disk, two of one name."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sightline.errors import InputError
from sightline.training.metrics_log import replacing
from sightline.training.run import new_run, new_run_folder
from tests.hostile.world import MODEL, coco, write_coco


def test_of_two_runs_of_one_name_the_second_is_refused(tmp_path: Path) -> None:
    first = new_run_folder(tmp_path, "a")
    second = new_run_folder(tmp_path, "a")  # both have looked before either has begun
    new_run(first)
    with pytest.raises(InputError, match=r"not empty|has just begun"):
        new_run(second)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), replacing(tmp_path / "a.txt") as path:
        path.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_instant_a_run_goes_on(seed: int, tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_coco(tmp_path / "data", coco(tmp_path / "data", split), split)
    command = [sys.executable, "-m", "sightline", "train", "data", *MODEL, "--epochs", "8", "--device", "cpu"]
    command += ["--name", "run", "--runs", ".", "--quiet", "--no-report"]
    begun = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "run" / "checkpoint" / "state.pt").is_file():
        time.sleep(0.02)
    time.sleep(random.Random(seed).uniform(0, 4))
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    ended = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 8

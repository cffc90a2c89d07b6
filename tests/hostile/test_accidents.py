"""Accidents of a training: killed at any instant, a full disk, two of one name."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sightline
from sightline.errors import InputError
from sightline.training.loop import fit
from sightline.training.metrics_log import MetricsLog, atomic_write
from sightline.training.recipe import Recipe
from sightline.training.run import new_folder, new_run, new_run_folder, removed_if_empty, write_json
from tests.hostile.world import MODEL, coco, picture, write_coco
from tests.training import toy


def test_of_two_runs_of_one_name_the_second_is_refused(tmp_path: Path) -> None:
    first = new_run_folder(tmp_path, "a")
    second = new_run_folder(tmp_path, "a")  # both have looked before either has begun
    new_run(first)
    with pytest.raises(InputError, match=r"not empty|has just begun"):
        new_run(second)


def test_a_run_is_not_resumed_while_it_is_trained(tmp_path: Path) -> None:
    options: dict[str, Any] = {"save": toy.save, "progress": False}
    refused: list[str] = []

    def resume_meanwhile(row: Mapping[str, Any]) -> None:
        with pytest.raises(InputError) as caught:
            fit(toy.model(), toy.Blobs(4), Recipe(epochs=3, batch_size=2), tmp_path / "run", resume=True, **options)
        refused.append(str(caught.value))

    fit(
        toy.model(),
        toy.Blobs(4),
        Recipe(epochs=2, batch_size=2),
        tmp_path / "run",
        on_epoch=resume_meanwhile,
        **options,
    )
    sentence = f"the run {tmp_path / 'run'} is being trained by another process; wait until it has ended"
    assert refused == [sentence] * 2
    later = fit(toy.model(), toy.Blobs(4), Recipe(epochs=3, batch_size=2), tmp_path / "run", resume=True, **options)
    assert len(later.metrics) == 3


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """No file can become larger than `most` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_does_not_take_the_rows_of_a_resumed_run(tmp_path: Path) -> None:
    rows = [{"epoch": epoch, "train/loss": 0.5} for epoch in range(1, 50)]
    MetricsLog(tmp_path, rows)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with small_files(200), pytest.raises(OSError, match="too large") as caught:
        MetricsLog(tmp_path, rows)
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert [json.loads(line) for line in before["metrics.jsonl"].splitlines()] == rows


def test_a_full_disk_does_not_take_what_is_written_again(tmp_path: Path) -> None:
    environment, report = tmp_path / "environment.json", tmp_path / "report.html"
    write_json(environment, {"cores": 2})
    report.write_text("the report of yesterday")
    with small_files(100):
        with pytest.raises(OSError, match="too large") as caught:
            write_json(environment, {"commands": ["x" * 1000]})
        with pytest.raises(InputError, match=r"report\.html: the report cannot be written there \(File too large\)"):
            sightline.write_report(tmp_path)
    assert caught.value.filename == str(environment)
    assert json.loads(environment.read_text()) == {"cores": 2}
    assert report.read_text() == "the report of yesterday"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["environment.json", "report.html"]


def test_a_full_disk_is_reported_by_the_name_of_the_folder(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught, removed_if_empty(new_folder(tmp_path / "out")):
        full()
    assert caught.value.filename == str(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError) as other, removed_if_empty(tmp_path):
        (tmp_path / "missing").read_bytes()
    assert other.value.filename == str(tmp_path / "missing")  # errors that name something keep it
    file = tmp_path / "last.safetensors"
    with pytest.raises(InputError, match=r"/last\.safetensors: no room") as refused, atomic_write(file) as path:
        raise InputError(f"{path}: no room")
    assert "partial" not in str(refused.value)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), atomic_write(tmp_path / "a.txt") as path:
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


def _trained(folder: Path, workers: int, accident: Callable[[Path], None]) -> str:
    """The sentence that a training ends with when something happens to it after its first epoch."""
    for split in ("train", "val"):
        content: Any = coco(folder, split)
        for annotation in content["annotations"]:
            annotation["bbox"] = [2, 3, 6, 8]
        write_coco(folder, content, split)
    happened: list[int] = []

    def once(row: Mapping[str, Any]) -> None:
        if not happened:
            happened.append(1)
            accident(folder)

    recipe = sightline.Recipe(epochs=3, batch_size=2, workers=workers, augmentation="none")
    data = sightline.open_dataset(folder)
    run = new_run_folder(folder, "run")
    options: dict[str, Any] = {"validation": data["val"], "save": toy.save, "on_epoch": once, "device": "cpu"}
    with pytest.raises(InputError) as caught:
        fit(toy.BlobDetector(data.classes), data["train"], recipe, run, progress=False, **options)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("accident", "sentence"),
    [
        (lambda file: file.unlink(), "there is no image {file}; correct the path"),
        (lambda file: file.write_bytes(b""), "{file}: the file is empty"),
        (lambda file: picture(file, (8, 24)), "b.png is 24 × 8 pixels, but its label is for an image of 16 × 16"),
    ],
    ids=["deleted", "emptied", "of another size"],
)
def test_an_image_that_changes_during_a_training(
    split: str, accident: Callable[[Path], object], sentence: str, tmp_path: Path, small: None
) -> None:
    said = _trained(tmp_path, 0, lambda folder: accident(folder / split / "b.png") and None)
    assert sentence.format(file=tmp_path / split / "b.png") in said


def test_a_worker_that_is_killed(tmp_path: Path, small: None) -> None:
    def kill(folder: Path) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    said = _trained(tmp_path, 1, kill)
    assert said.startswith("a process that reads images was killed, possibly because memory ran out")
    assert said.endswith("use fewer workers, or workers=0, and resume the run")
    assert "\n" not in said


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of the size that the smallest model takes."""
    monkeypatch.setattr("tests.hostile.world.SIZE", (toy.SIZE, toy.SIZE))

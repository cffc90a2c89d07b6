"""The whole path for class maps: train, choose the best epoch, measure, predict, draw, report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import sightline as sl
from sightline.models import catalog
from sightline.models.entry import Entry
from sightline.models.preprocess import Preprocess
from sightline.models.segmentation.segmenter import Segmenter


class AsTheyAre(Preprocess):
    """Images of their own size."""

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        return size


def three_layers(classes: list[str], *, in_channels: int = 3, width: int = 8) -> Segmenter:
    """Three convolutions, the second dilated."""
    network = nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(width, len(classes), 3, padding=1),
    )
    return Segmenter(classes, AsTheyAre(divisor=1), network)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    entry = Entry(name="three_layers", builder=three_layers, task="segmentation", paper="a test")
    monkeypatch.setitem(catalog._BY_NAME, "three_layers", entry)
    torch.manual_seed(0)
    return sl.create_model("three_layers", sl.scenes(1, 48, kind="class_map").classes)


def test_the_whole_path(model: nn.Module, tmp_path: Path) -> None:
    data = sl.scenes(6, 48, seed=1, kind="class_map").split(0.7, 0.3, 0, seed=0)
    numbers = {"epochs": 2, "batch_size": 2, "workers": 0, "lr": 0.01, "augmentation": "light", "device": "cpu"}
    run = sl.train(model, data["train"], data["val"], runs=tmp_path, name="r", progress=False, **numbers)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert {"val/mIoU", "val/pixel_accuracy", "val/loss"} <= rows[0].keys()
    assert run.metric == "val/mIoU"
    assert "mIoU" in str(run)
    stored = json.loads((run.folder / "evaluation.json").read_text())
    assert stored["task"] == "segmentation"
    assert stored["metrics"]["mIoU"] == pytest.approx(run.best["val/mIoU"], abs=1e-4)

    result = sl.evaluate(run.folder, data["val"], progress=False)
    assert result.metrics == pytest.approx(stored["metrics"])
    report = (run.folder / "report.html").read_text()
    assert all(f'id="{part}"' in report for part in ("metrics", "classes", "confusion", "training", "gallery"))
    assert report.count("<figure>") == len(data["val"])

    found = sl.predict(run.folder, data["val"].image(0))
    assert found.image_size == (48, 48)
    assert sl.draw(data["val"].image(0), found).size[0] >= 48  # a legend may be wider


def test_objects_are_learned_as_class_maps_by_command(model: nn.Module, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sightline.cli import app
    from sightline.data.scenes import write_scenes

    data = write_scenes(tmp_path / "data", 3, 2, 0, 48, progress=False)
    numbers = ["--epochs", "1", "--batch-size", "2", "--set", "workers=0", "--device", "cpu", "-q", "--no-report"]
    run = str(tmp_path / "runs" / "a")
    runner = CliRunner()

    def done(*words: str) -> str:
        result = runner.invoke(app, list(words))
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    done("train", str(data), "--model", "three_layers", "--runs", str(tmp_path / "runs"), "--name", "a", *numbers)
    assert "mIoU" in done("evaluate", run, str(data), "-q")
    out = tmp_path / "out"
    assert "2 class maps in masks/" in done(
        "predict", run, str(data / "val"), "--out", str(out), "--tile", "32", "--overlap", "8", "-q"
    )
    assert sorted(p.name for p in (out / "masks").iterdir()) == ["000001.png", "000002.png"]
    assert (out / "000001.png").is_file()

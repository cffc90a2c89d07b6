"""Train, resume, evaluate and predict on a GPU through the command line. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import sightline as sl
from sightline.cli.app import app
from sightline.data.scenes import write_scenes
from sightline.training.metrics_log import Row
from tests.training.test_resume import train as run_of

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here"),
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "data"
    write_scenes(folder, 16, 6, 6, 96, seed=3, objects=(1, 3), progress=False)
    return folder


def command(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "sightline_n", "--arg", "image_size=96", "--set", "workers=1"],
        ["--model", "faster_rcnn_mobilenet_v2_fpn", "--arg", "min_size=96", "--arg", "max_size=96"],
        ["--model", "unet_mobilenet_v2", "--arg", "depth=3", "--arg", "channels=[16, 16, 8]"],
    ],
)
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_run(scenes: Path, tmp_path: Path, options: list[str], precision: str) -> None:
    words = [*options, "--set", f"precision={precision}", "--device", "cuda", "--batch-size", 4]
    command("train", scenes, *words, "--epochs", 2, "--name", "run", "--runs", tmp_path, "--no-report")
    run = tmp_path / "run"
    assert "cuda" in (run / "environment.json").read_text()
    command("evaluate", run, scenes, "--split", "test", "--device", "cuda", "-q")
    command("predict", run, scenes / "test", "--device", "cuda", "--out", tmp_path / "found")
    model = sl.load(run)  # and on the processor
    assert next(model.parameters()).device.type == "cpu"
    assert sl.evaluate(model, sl.open_dataset(scenes)["test"], progress=False, device="cpu").metrics


def test_resuming(tmp_path: Path) -> None:
    """A run that is stopped after two epochs and goes on ends as one that was not."""

    class Stopped(Exception):
        pass

    def stop(row: Row) -> None:
        if row["epoch"] == 2:
            raise Stopped

    whole = run_of(tmp_path / "whole", device="cuda")
    with pytest.raises(Stopped):
        run_of(tmp_path / "parts", device="cuda", on_epoch=stop)
    parts = run_of(tmp_path / "parts", device="cuda", resume=True)
    assert len((tmp_path / "parts/metrics.jsonl").read_text().splitlines()) == 4
    for key, value in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[key], value, atol=1e-4, rtol=1e-3)

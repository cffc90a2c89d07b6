"""A comparison of models from the call to its report: stopped, resumed, extended, diverged, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.errors import InputError
from sightline.training import loop
from sightline.training.run import Run
from sightline.verbs import comparison_runs as module
from tests.test_cli import done, refused

TWO = ["mobilenet_v1", "mobilenet_v3_small"]
SIZE: dict[str, Any] = {"image_size": 32}
QUICK: dict[str, Any] = {
    "arguments": {"mobilenet_v1": SIZE | {"width": 0.25}, "mobilenet_v3_small": SIZE},
    "weights": "none",
    "epochs": 1,
    "batch_size": 4,
    "workers": 0,
    "device": "cpu",
    "progress": False,
    "out": "found",
}
OPTIONS = ["--epochs", "1", "--set", "batch_size=4", "--set", "workers=0", "--weights", "none", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty small images in folders of two classes, without splits."""
    found = sl.scenes(20, 32, seed=5, kind="class_scores", objects=(1, 1))
    data = sl.Dataset.from_labels([found[i][0] for i in range(20)], [i % 2 for i in range(20)], ["a", "b"])
    return sl.convert(data, tmp_path_factory.mktemp("images") / "folders", "folders")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_stopped_resumed_and_extended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second training is stopped by Ctrl-C; the same call resumes it; a further model adds a training."""
    trained: list[str] = []
    train, epoch = module.train_prepared, loop.train_epoch

    def recorded(prepared: Any, **options: Any) -> Run:
        trained.append(options["name"] + (" resumed" if prepared.folder else ""))
        return train(prepared, **options)

    def stopped_in_the_second(*arguments: Any) -> Any:
        if len(trained) == 2:
            raise KeyboardInterrupt
        return epoch(*arguments)

    monkeypatch.setattr(module, "train_prepared", recorded)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_epoch", stopped_in_the_second)
        part = sl.compare(folder, TWO, **QUICK)
    assert part.interrupted
    assert [row.name for row in part.rows] == ["mobilenet_v1"]
    assert trained == TWO
    result = sl.compare(folder, TWO, **QUICK)
    assert not result.interrupted
    assert trained[2:] == ["mobilenet_v3_small resumed"]
    assert {row.name for row in result.rows} == {*TWO}

    # every model was trained, validated and measured on the same images
    facts = [sl.Recipe.from_yaml(Path("found/runs") / name / "recipe.yaml") for name in TWO]
    assert {(recipe.seed, recipe.epochs, recipe.batch_size) for recipe in facts} == {(0, 1, 4)}
    runs = [json.loads((Path("found/runs") / n / "environment.json").read_text())["run"] for n in TWO]
    assert runs[0]["division"] == runs[1]["division"]
    measured = [json.loads((Path("found/runs") / n / "evaluation.json").read_text()) for n in TWO]
    assert {(row["images"], row["measured"]["split"]) for row in measured} == {(2, "test")}
    assert {row.name: row.value for row in result.rows} == {
        name: row["metrics"]["top1"] for name, row in zip(TWO, measured, strict=True)
    }
    for row in result.rows:
        model = sl.load(Path("found/runs") / row.name)
        assert row.cost.parameters == sum(p.numel() for p in model.parameters())
        assert row.cost.flops == sl.summary(model, (3, 32, 32)).flops
        assert row.cost.epochs == 1
        assert row.cost.milliseconds > 0
    table = json.loads(Path("found/table.json").read_text())
    assert [row["name"] for row in table["models"]] == [row.name for row in result.rows]
    text = Path("found/table.md").read_text()
    assert "- compared on 2 images of test" in text
    assert "- 1 epoch each" in text
    page = Path("found/report.html").read_text()
    assert "Accuracy and time" in page
    assert "precision of each class" in page
    assert Path("found/front.png").stat().st_size > 1000

    more = sl.compare(
        folder, [*TWO, "squeezenet1_1"], **QUICK | {"arguments": {**QUICK["arguments"], "squeezenet1_1": SIZE}}
    )
    assert trained[3:] == ["squeezenet1_1"]
    assert len(more.rows) == 3
    with pytest.raises(InputError, match=r"found holds a comparison with settings .*\"epochs\": 1.* but now it is"):
        sl.compare(folder, TWO, **QUICK | {"epochs": 2})
    with pytest.raises(InputError, match=r"holds a comparison with mobilenet_v1 of .*0\.25.* but now it is"):
        sl.compare(folder, TWO, **QUICK | {"arguments": {"mobilenet_v1": SIZE}})


def test_a_training_that_diverges_is_told_and_not_repeated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def diverges(prepared: Any, **options: Any) -> Run:
        calls.append(options["name"])
        raise module.NonFiniteLoss("loss_classification is nan")

    monkeypatch.setattr(module, "train_prepared", diverges)
    for _ in range(2):
        result = sl.compare(folder, TWO, **QUICK)
        assert not result.rows
        assert result.failed == dict.fromkeys(TWO, "loss_classification is nan")
    assert calls == TWO
    assert "mobilenet_v1 is missing: loss_classification is nan" in str(result)
    assert "mobilenet_v1 is missing" in Path("found/table.md").read_text()


def test_the_command_line(folder: Path) -> None:
    small = ["--arg", "mobilenet_v1:width=0.25", "--arg", "mobilenet_v1:image_size=32"]
    models = ["--model", "mobilenet_v1", "--model", "squeezenet1_1", "--arg", "squeezenet1_1:image_size=32"]
    text = done("compare", folder, *models, *small, *OPTIONS, "-q", "--out", "found").out
    assert "squeezenet1_1" in text
    assert "best" in text
    assert "report:   found/report.html" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "mobilenet_v1"], "compare needs two models or more"),
        (["--model", "mobilenet_v1", "--model", "mobilenet_v1"], "mobilenet_v1 is given twice"),
        (["--model", "mobilenet_v1", "--model", "unet_small"], "of different tasks, classification and segmentation"),
        (["--model", "mobilenet_v1", "--model", "resnet1"], "there is no model 'resnet1'"),
        (["--model", TWO[0], "--model", TWO[1], "--arg", "width=0.25"], "write MODEL:width=…"),
        (["--model", TWO[0], "--model", TWO[1], "--arg", "resnet18:crop=9"], "'resnet18', which is not compared"),
        (["--model", TWO[0], "--model", TWO[1], "--metric", "top2"], "metric is 'top2'"),
        (["--model", TWO[0], "--model", TWO[1], "--weights", "none", "--weights", "imagenet"], "MODEL=weights"),
        (["--model", TWO[0], "--model", TWO[1], "--arg", f"{TWO[0]}:in_channels=1"], "in_channels differs"),
        (["--model", TWO[0], "--model", TWO[1], "--set", "epocs=1"], "did you mean 'epochs'"),
    ],
)
def test_refused(folder: Path, options: list[str], words: str) -> None:
    assert words in refused("compare", folder, *options, *OPTIONS)
    assert not Path("comparison").exists()


def test_refused_without_budget_or_images_to_compare_on(folder: Path) -> None:
    assert "the budget of each training" in refused("compare", folder, "--model", TWO[0], "--model", TWO[1])
    with pytest.raises(InputError, match="compare needs two models or more"):
        sl.compare(folder, "mobilenet_v1", epochs=1)
    with pytest.raises(InputError, match="add a split val or test"):
        sl.compare(sl.scenes(4, 32), ["ssdlite320_mobilenet_v2", "sightline_n"], **QUICK | {"arguments": {}})
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="mine exists and holds no comparison, and nothing is overwritten"):
        sl.compare(folder, TWO, **QUICK | {"out": "mine"})

"""An ablation from the plan to its report: resumed, extended, diverged, and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.errors import InputError
from sightline.evaluation.ablation import compare
from sightline.report.ablation import cells_of, difference_figure, markdown
from sightline.training import loop
from sightline.training.run import Run
from sightline.verbs import ablation_plan as plan
from sightline.verbs import ablation_runs as module
from sightline.verbs import continued
from tests.test_cli import done, refused

QUICK: dict[str, Any] = {
    "model": "mobilenet_v1",
    "arguments": {"width": 0.25, "image_size": 32},
    "epochs": 1,
    "batch_size": 4,
    "workers": 0,
    "device": "cpu",
    "progress": False,
}
OPTIONS = ["--model", "mobilenet_v1", "--arg", "image_size=32", "--arg", "width=0.25"]
OPTIONS += ["--epochs", "1", "--set", "batch_size=4", "--set", "workers=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten small images in folders of two classes, without splits."""
    found = sl.scenes(10, 32, seed=5, kind="class_scores", objects=(1, 1))
    data = sl.Dataset.from_labels([found[i][0] for i in range(10)], [i % 2 for i in range(10)], ["a", "b"])
    return sl.convert(data, tmp_path_factory.mktemp("images") / "folders", "folders")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def times(out: Path) -> dict[str, int]:
    return {file.parent.name: file.stat().st_mtime_ns for file in (out / "runs").glob("*/last.safetensors")}


def test_stopped_resumed_and_extended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third run is stopped by Ctrl-C; the same call finishes it and repeats none; a further switch adds runs."""
    call: dict[str, Any] = {**QUICK, "seeds": 2, "out": "found"}
    trained: list[str] = []
    train, epoch = module.train_prepared, loop.train_epoch

    def recorded(prepared: Any, **options: Any) -> Run:
        trained.append(options["name"] + (" resumed" if prepared.folder else ""))
        return train(prepared, **options)

    def stopped_in_the_third(*arguments: Any) -> Any:
        if len(trained) == 3:
            raise KeyboardInterrupt
        return epoch(*arguments)

    monkeypatch.setattr(module, "train_prepared", recorded)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_epoch", stopped_in_the_third)
        assert sl.ablate(folder, ["ema"], **call).interrupted
    assert trained == ["base-seed0", "no-ema-seed0", "base-seed1"]
    before = times(Path("found"))
    result = sl.ablate(folder, ["ema"], **call)
    assert not result.interrupted
    assert trained[3:] == ["base-seed1 resumed", "no-ema-seed1"]
    assert {name: time for name, time in times(Path("found")).items() if name in before} == before
    assert [row.name for row in result.rows] == ["base", "no ema"]
    assert [sorted(row.scores) for row in result.rows] == [[0, 1], [0, 1]]
    # every seed has the same images, but not the same weights at the start
    measured = [json.loads(f.read_text()) for f in sorted(Path("found/runs").glob("*/evaluation.json"))]
    assert {(row["images"], row["measured"]["split"]) for row in measured} == {(1, "test")}
    recipes = [sl.Recipe.from_yaml(f) for f in sorted(Path("found/runs").glob("*/recipe.yaml"))]
    assert [(recipe.seed, recipe.ema) for recipe in recipes] == [(0, 0.999), (1, 0.999), (0, None), (1, None)]
    assert recipes[2].changed(ema=0.999) == recipes[0]
    starts = [json.loads(f.read_text())["run"] for f in sorted(Path("found/runs").glob("*/environment.json"))]
    assert len({json.dumps(start["division"]) for start in starts}) == 1

    table = json.loads(Path("found/table.json").read_text())
    assert [row["settings"] for row in table["variants"]] == [{}, {"ema": None}]
    assert "| no ema | 2 |" in Path("found/table.md").read_text()
    assert "compared on 1 image of test" in Path("found/table.md").read_text()
    assert "<svg" in Path("found/report.html").read_text()
    assert Path("found/differences.png").stat().st_size > 1000

    more = _planned(folder, ["ema", "mirror"], seeds=2)
    states = [more.state_of(*run) for run in more.runs]
    assert (states.count("finished"), len(states)) == (4, 8)
    assert "8 runs of 1 epoch, compared by top1; 4 finished, 0 to resume" in str(more)


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    options = [option if option != "--epochs" else "--minutes" for option in OPTIONS]
    options[options.index("--minutes") + 1] = "10"
    text = done(
        "ablate", folder, "--switch", "ema", "--switch", "lr=1e-3,3e-3", "--dry-run", "--device", "cpu", *options
    ).out
    assert "4 variants × 3 seeds = 12 runs of 10 minutes, compared by top1" in text
    assert "at most 2 h 00 min" in text
    assert "ablation/runs/no-ema+lr=0.003-seed2  no ema + lr=0.003, seed 2" in text
    assert not list(Path.cwd().iterdir())


def test_refused(folder: Path, tmp_path: Path) -> None:
    assert "did you mean 'mosaic'" in refused("ablate", folder, "--switch", "mosiac", *OPTIONS)
    assert "nothing to compare" in refused("ablate", folder, *OPTIONS)
    assert "budget of each run" in refused("ablate", folder, "--switch", "ema")
    (tmp_path / "ablation").mkdir()
    (tmp_path / "ablation" / "mine.txt").write_text("mine")
    assert "holds no ablation" in refused("ablate", folder, "--switch", "ema", *OPTIONS)
    (tmp_path / "ablation" / "ablation.json").write_text('{"given": {"model": "a"}}')
    assert "is not the plan of an ablation" in refused("ablate", folder, "--switch", "ema", *OPTIONS)
    with pytest.raises(InputError, match="no argument 'switch'"):
        sl.ablate(folder, ["ema"], switch=1, epochs=1)


def test_another_ablation_in_the_folder(folder: Path) -> None:
    planned = _planned(folder)
    continued.make_folder(planned.folder, plan.PLAN_FILE)
    plan.write_plan(planned)
    with pytest.raises(InputError, match=r"holds an ablation with settings .* but now it is"):
        _planned(folder, epochs=2)
    assert _planned(folder).base == planned.base


def test_a_run_that_diverges_is_told_and_not_repeated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*_: Any, **__: Any) -> Run:
        raise module.NonFiniteLoss("loss_classification is nan")

    monkeypatch.setattr(module, "train_prepared", diverges)
    planned = _planned(folder)
    result = module.run_ablation(planned, progress=False)
    assert result.failed["no ema, seed 0"] == "loss_classification is nan"
    assert [planned.state_of(*run) for run in planned.runs] == ["finished", "finished"]
    assert "no ema, seed 0 is missing" in Path("found/table.md").read_text()
    assert [row.verdict for row in result.rows] == ["not run", "not run"]


def _planned(folder: Path, switches: list[str] | None = None, **changes: Any) -> Any:
    given = {name: QUICK[name] for name in ("model", "arguments", "epochs", "device")} | {"seeds": 1, "out": "found"}
    settings = {"batch_size": 4, "workers": 0}
    return plan.plan_ablation(folder, switches or ["ema"], settings=settings, **given | changes)


def test_only_training_images() -> None:
    with pytest.raises(InputError, match="add a split val or test"):
        sl.ablate(sl.scenes(4, 32), ["ema"], epochs=1, progress=False, device="cpu", model="ssdlite320_mobilenet_v2")


def test_the_table_and_the_plot_of_a_real_difference() -> None:
    base = {0: 0.10, 1: 0.50, 2: 0.90}
    scores = {"base": base, "a|b": {0: 0.121, 1: 0.519, 2: 0.920}, "noise": {0: 0.15, 1: 0.48, 2: 0.91}, "late": {}}
    rows = compare(scores, "base")
    assert cells_of(rows[1])[4:6] == ["+0.0200", "[+0.0175, +0.0225]"]
    text = markdown(rows, "title", "AP50", ["a fact"])
    assert "| a\\|b | 3 | 0.5200 |" in text
    assert text.count("| not distinguishable |") == 1
    figure = difference_figure(rows, "AP50")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["noise", "a|b"]
    colours = {line.get_color() for line in figure.axes[0].get_lines()}
    assert {"#2f6fde", "#8a94a6"} < colours


def test_two_at_once_in_one_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused while the first runs: it would remove the run that the first has just begun."""
    planned = _planned(folder)
    calls: list[str] = []

    def running(*arguments: Any) -> bool:
        calls.append("running")
        begun = Path("found/runs/base-seed0")
        begun.mkdir(parents=True)
        with pytest.raises(InputError, match="another ablation is running in found; wait for it"):
            module.run_ablation(planned, progress=False)
        assert begun.is_dir()
        shutil.rmtree("found/runs")
        return True

    monkeypatch.setattr(module, "_finish", running)
    monkeypatch.setattr(module, "write_tables", lambda *_: None)
    module.run_ablation(planned, progress=False)
    # the lock is free again, also of a call that ended before it wrote its plan
    (Path("found") / plan.PLAN_FILE).unlink()
    assert [path.name for path in Path("found").iterdir()] == [continued.LOCK_FILE]
    module.run_ablation(planned, progress=False)
    assert calls == ["running"] * 2 * len(planned.runs)

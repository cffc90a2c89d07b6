"""Two processes train one model: as one process with twice the batch, every image once, folders made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.scenes import write_scenes
from sightline.runtime.launching import _count_in, _end, _waited
from sightline.runtime.sharing import Share, batch_count, shared_batch
from sightline.training.loader import EpochBatches
from sightline.training.loop import fit
from sightline.training.recipe import Recipe
from tests.training import toy

ROOT = Path(__file__).resolve().parents[2]
CURVE = {"epochs": 2, "ema": 0.9, "lr": 0.05, "optimizer": "sgd", "warmup_steps": 0}

SCRIPT = """
import json, sys
import torch
from accelerate.state import PartialState
from tests.training import toy
from tests.training.test_processes import CURVE, counting
from sightline.errors import InputError
from sightline.training.loop import fit
from sightline.training.recipe import Recipe

recipe = Recipe(epochs=2, batch_size=2, ema=0.9, accumulate=2)
options = {"validation": toy.Blobs(5, seed=1), "save": toy.save, "progress": False}
seen = []

def watch(image, target, generator):
    seen.append(target.source)
    return toy.jitter(image, target, generator)

folder = sys.argv[1]
first = fit(toy.model(), toy.Blobs(8), recipe, folder + "/run", transform=watch, **options)
again = fit(toy.model(5), toy.Blobs(8), Recipe(epochs=3, batch_size=2, ema=0.9, accumulate=2), folder + "/run",
            resume=True, transform=toy.jitter, validate=lambda model: {"AP": 0.25}, **options)
try:
    fit(toy.model(), toy.Blobs(8), recipe, folder + "/run", **options)
    refused = ""
except InputError as error:
    refused = str(error)
rank = PartialState().process_index
# the models of the processes differ before the training: that of the main process counts
curve = fit(counting(3 + rank), toy.Blobs(13), Recipe(batch_size=2, **CURVE), folder + "/curve",
            transform=toy.jitter, **options)
weights = [p.detach().double().sum().item() for p in again.model.parameters()]
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump({"weights": weights, "seen": seen, "rows": again.metrics, "refused": refused,
               "curve": curve.metrics}, file)
"""


def launched(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes; its first argument is the folder."""
    (folder / "script.py").write_text(script)
    places = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": places, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [*launch, str(folder / "script.py"), str(folder), *arguments]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done


def counting(seed: int) -> Any:
    """A toy model without dropout and batch norm, whose loss is divided by a number counted in the batch."""
    model = toy.model(seed)
    model.dropout.p = 0.0
    model.backbone[1] = torch.nn.Identity()
    losses = model.forward

    def forward(images: Any, targets: Any = None) -> Any:
        found = losses(images, targets)
        if targets is None:
            return found
        bright = torch.stack([image.float().mean() > 128 for image in images])
        return found | {"counted": 1e-3 * found["cls"] * len(images) / batch_count(bright.sum())}

    model.forward = forward
    return model


def test_two_processes(tmp_path):
    launched(SCRIPT, tmp_path)
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one["weights"] == two["weights"]
    for epoch in range(2):
        both = one["seen"][4 * epoch : 4 * epoch + 4] + two["seen"][4 * epoch : 4 * epoch + 4]
        assert sorted(both) == [f"blob{i}.png" for i in range(8)]
    for of_one, of_two in zip(one["rows"], two["rows"], strict=True):
        assert {k: v for k, v in of_one.items() if k != "seconds"} == {
            k: v for k, v in of_two.items() if k != "seconds"
        }
    assert [row["step"] for row in one["rows"]] == [1, 2, 3]
    assert one["rows"][2]["val/AP"] == 0.25
    assert "exists and is not empty" in one["refused"]
    assert "exists and is not empty" in two["refused"]

    options: dict[str, Any] = {"validation": toy.Blobs(5, seed=1), "save": toy.save, "progress": False}
    alone = fit(counting(3), toy.Blobs(13), Recipe(batch_size=4, **CURVE), tmp_path / "alone", transform=toy.jitter,
                **options)  # fmt: skip
    for together, row in zip(one["curve"], alone.metrics, strict=True):
        assert {k: v for k, v in together.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in row.items() if k != "seconds"}, rel=1e-5
        )


@pytest.mark.parametrize(("length", "size", "processes"), [(16, 2, 2), (23, 2, 3), (22, 4, 2), (3, 2, 4), (17, 4, 2)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_the_batches_of_one(length: int, size: int, processes: int, shuffle: bool) -> None:
    parts = [EpochBatches(length, size, 7, shuffle, processes, index) for index in range(processes)]
    alone = EpochBatches(length, size * processes, 7, shuffle)
    for order in (*parts, alone):
        order.begin(3)
    assert {len(part) for part in parts} == {parts[0].count}
    whole, rest = divmod(length, size * processes)
    assert parts[0].count == whole + (rest >= (2 * processes if shuffle and whole else 1))
    for number, (of_one, *of_all) in enumerate(zip(alone, *parts, strict=False)):
        shares = [part.share(number) for part in parts]
        assert {share.total for share in shares} == {len(of_one)}
        assert [item for share, own in zip(shares, of_all, strict=True) for item in own[: share.own]] == of_one
        assert all(len(own) == max(1, share.own) for share, own in zip(shares, of_all, strict=True))
        assert max(share.own for share in shares) - min(share.own for share in shares) <= 1


def test_a_count_without_other_processes_is_clamped_only() -> None:
    assert batch_count(0) == 1
    assert batch_count(3, added=1) == 4
    with shared_batch(Share(2, 4), "cpu"):
        assert batch_count(torch.tensor(0)) == 1
        assert batch_count(torch.tensor([0.5, 3.0]), 1e-6).tolist() == [0.5, 3.0]


FROZEN: dict[str, dict[str, Any]] = {
    "cached": {"freeze": "all", "cache_features": 2},
    "unfrozen": {"unfreeze_every": 1, "freeze_norm": True},
}


def frozen_curve(name: str, batch_size: int, folder: str) -> list[dict[str, Any]]:
    """The losses of a classifier whose backbone learns nothing, or part by part."""
    data, validation = (sl.scenes(count, 32, kind="class_scores") for count in (9, 3))
    torch.manual_seed(0)
    model = sl.create_model("mobilenet_v2", data.classes, weights="none", image_size=32, crop_pct=1.0)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    recipe = Recipe(batch_size=batch_size, **{**CURVE, "epochs": 3, "ema": None, "lr": 1e-3}, **FROZEN[name])
    run = fit(model, data, recipe, folder, validation=validation, progress=False, device="cpu")
    return [{key: value for key, value in row.items() if "loss" in key} for row in run.metrics]


FROZEN_SCRIPT = """
import json, sys
from accelerate.state import PartialState
from tests.training.test_processes import FROZEN, frozen_curve

found = {name: frozen_curve(name, 2, f"{sys.argv[1]}/{name}") for name in FROZEN}
with open(f"{sys.argv[1]}/{PartialState().process_index}.json", "w") as file:
    json.dump(found, file)
"""


@pytest.mark.slow
def test_two_processes_cache_features_and_unfreeze_parts(tmp_path: Path) -> None:
    launched(FROZEN_SCRIPT, tmp_path)
    main, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert main == other
    assert not list(tmp_path.rglob("features*.bin"))
    for name in FROZEN:
        alone = frozen_curve(name, 4, str(tmp_path / f"{name}-alone"))
        for together, row in zip(main[name], alone, strict=True):
            assert together == pytest.approx(row, rel=1e-4), name


@pytest.mark.slow
def test_accelerate_launches_the_command(tmp_path: Path) -> None:
    """Two processes end with exit code 0, and have the losses of one with twice the batch.

    The model has no dropout, and its batch normalisation is fixed.
    """
    for split, count in (("train", 8), ("val", 4)):
        for number in range(count):
            place = tmp_path / "data" / split / "ab"[number % 2] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 255, (40, 48, 3)).astype(np.uint8)
            Image.fromarray(pixels // (1 + number % 2)).save(place)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    launch = "accelerate.commands.accelerate_cli launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no"
    options = "--model resnet18 --weights none --arg norm=frozen --arg image_size=32 --epochs 2 --set warmup_steps=0"
    curves = []
    for name, batch, first in (("two", "2", [*launch.split(), "--dynamo_backend", "no", "-m"]), ("one", "4", [])):
        words = [sys.executable, "-m", *first, "sightline", "train", "data", *options.split(), "--name", name]
        words += ["--batch-size", batch, "--augmentation", "none", "--no-report", "--device", "cpu"]
        done = subprocess.run(
            words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "runs" / name / "metrics.jsonl").read_text().splitlines()
        curves.append([{key: value for key, value in json.loads(line).items() if "loss" in key} for line in lines])
    for together, alone in zip(*curves, strict=True):
        assert together == pytest.approx(alone, rel=1e-4)


@pytest.mark.slow
def test_launched_processes_agree_on_a_plan_for_the_minutes(tmp_path: Path) -> None:
    write_scenes(tmp_path / "data", train=12, val=4, test=0, size=64, seed=0, progress=False)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    launch = "accelerate.commands.accelerate_cli launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no"
    words = [sys.executable, "-m", *launch.split(), "--dynamo_backend", "no", "-m", "sightline", "train", "data"]
    words += ["--minutes", "1", "--weights", "none", "--no-report", "--device", "cpu", "--name", "run"]
    done = subprocess.run(
        words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "run" / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python /bin/accelerate launch --cpu --num_processes 2 -m sightline train a", 2),
        ("python /bin/accelerate-launch --num-processes=3 --cpu script.py", 3),
        ("python -m accelerate.commands.accelerate_cli launch --num_processes 4 -m sightline train a", 4),
        ("python -m accelerate.commands.launch --num_processes 5 script.py", 5),
        ("python /bin/accelerate launch --cpu -m sightline train a --num_processes 2", 0),
        ("python /bin/accelerate launch --cpu --num_processes x script.py", 0),
    ],
)
def test_the_number_of_processes_is_read_from_the_launcher(line: str, expected: int) -> None:
    assert _count_in(line.split()) == expected


def test_a_process_that_was_killed_is_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    words = [sys.executable, "-c"]
    sleeper = subprocess.Popen([*words, "import time; time.sleep(60)"])
    killed = subprocess.Popen([*words, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    try:
        assert _waited([sleeper, killed]) == 137
    finally:
        _end([sleeper, killed])
    assert sleeper.returncode == -15
    why = "SIGKILL, probably because the memory ran out; the others are ended, too"
    assert capfd.readouterr().err == f"error: process 2 of 2 was ended by {why}\n"
    failed = subprocess.Popen([*words, "raise SystemExit(2)"])  # which has said itself what is wrong
    assert _waited([failed]) == 2
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "handlers",
    [
        "signal.signal(signal.SIGINT, signal.default_int_handler)",
        # a shell script's background processes ignore Ctrl-C
        "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.default_int_handler)",
    ],
)
def test_processes_end_with_their_launcher(tmp_path: Path, handlers: str) -> None:
    """If it is killed, nobody else ends them."""
    child = (
        "import pathlib, signal, sys, time\n"
        f"{handlers}\n"
        "from sightline.runtime.launching import end_with_launcher\n"
        "end_with_launcher()\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "(place / 'begun').touch()\n"
        "try:\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    (place / 'interrupted').touch()\n"
    )
    launcher = (
        "import os, signal, subprocess, sys, time\n"
        "environment = {**os.environ, 'SIGHTLINE_LAUNCHER': str(os.getpid())}\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[2]], env=environment)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", launcher, child, str(tmp_path)]) as process:
        for name, seconds in (("begun", 60), ("interrupted", 20)):
            until = time.monotonic() + seconds
            while not (tmp_path / name).exists() and time.monotonic() < until:
                time.sleep(0.05)
            process.kill()
            assert (tmp_path / name).exists(), name

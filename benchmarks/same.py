"""Whether a change of the code changes what it computes: nine tiny trainings, of all families, to the last bit.

    python benchmarks/same.py record FILE [--only detector,masks] [--keep FOLDER]
    python benchmarks/same.py compare FILE [--only detector,masks]
    python benchmarks/same.py load FILE --keep FOLDER

`record` trains on rendered scenes and writes to FILE, for each training: hashes of the best and last weights, of
predictions and of a sheet of training images, the metrics of each epoch and those of two evaluations. `compare` does
the same again, prints what differs from FILE, and exits with 1 if anything does. `load` compares what the files in
FOLDER give, which `record --keep` left there: the models, and a run that was stopped and is now resumed. Bits differ
between processors, so record and compare on the same machine. One thread; about a minute. benchmarks/results/same.json
is such a FILE.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.training.run import cpu_name


@dataclass(frozen=True)
class Case:
    """A tiny training.

    Attributes:
        model: name in the catalog.
        arguments: its builder's.
        recipe: numbers of the recipe.
        fields: what the scenes' targets have beyond boxes and labels.
        kind: of the scenes' labels.
        size: side of the scenes, pixels.
        alternating: in the four steps of Faster R-CNN's paper.
        stop: the epoch after which the training is stopped, to be resumed.
    """

    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    kind: Any = "instances"
    size: int = 96
    alternating: bool = False
    stop: int | None = None


_TWO_STAGES = {"min_size": 96, "max_size": 128, "hidden": 64}
CASES = {
    "detector": Case(
        "sightline_n", {"image_size": 96}, {"epochs": 10, "augmentation": "mosaic", "lr": 4e-3, "ema": 0.99}
    ),
    "masks": Case(
        "mask_rcnn_mobilenet_v2_fpn",
        {**_TWO_STAGES, "channels": 32},
        {"epochs": 3, "augmentation": "default", "lr": 2e-3, "batch_size": 4},
        ("masks",),
    ),
    "keypoints": Case(
        "keypoint_rcnn_mobilenet_v2_fpn",
        {**_TWO_STAGES, "channels": 32},
        {"epochs": 2, "augmentation": "strong", "lr": 2e-3, "batch_size": 4},
        ("keypoints",),
    ),
    "proposals": Case(
        "region_proposal_network_mobilenet_v2",
        {"min_size": 96, "max_size": 128},
        {"epochs": 3, "augmentation": "light", "batch_size": 4, "accumulate": 2},
    ),
    "segmenter": Case(
        "unet_mobilenet_v2",
        {},
        {"epochs": 4, "augmentation": "default", "optimizer": "sgd", "lr": 0.05, "batch_size": 4},
        kind="class_map",
    ),
    "classifier": Case(
        "mobilenet_v2",
        {"label_smoothing": 0.0},  # as it was without the argument
        {"epochs": 3, "augmentation": "default", "lr": 2e-3, "batch_size": 4},
        kind="class_scores",
    ),
    "stages": Case(
        "r_cnn_mobilenet_v2",
        {"regions": {"crop": 32, "proposals": 150, "samples": 16}},
        {"epochs": 2, "lr": 2e-3},
    ),
    "alternating": Case(
        "faster_rcnn_mobilenet_v2", _TWO_STAGES, {"epochs": 1, "batch_size": 4, "ema": None}, alternating=True
    ),
    "resumed": Case(
        "ssdlite320_mobilenet_v2",
        {"image_size": 128},
        {"epochs": 4, "augmentation": "crops", "batch_size": 4, "schedule": "step", "lr": 1e-3},
        stop=2,
    ),
}


class Stopped(Exception):
    """Stands for a power cut."""


RENAMED: dict[str, str] = {
    "train/loss_classifier": "train/loss_classification",
    "train/loss_box_reg": "train/loss_box",
    "train/loss_rpn_box_reg": "train/loss_proposal_box",
    "train/classification": "train/loss_classification",
    "train/bbox_regression": "train/loss_box",
    "train/distances": "train/loss_distance",
}
"""Losses and metrics that older files have under other names: old name → today's."""


def parts(case: Case) -> list[Any]:
    """The scenes to train on and the ones held out."""
    sets = ((16, 1), (8, 2))
    return [sl.scenes(n, case.size, seed, fields=case.fields, kind=case.kind, objects=(1, 3)) for n, seed in sets]


def options(name: str, case: Case, runs: Path) -> dict[str, Any]:
    """The numbers of the training, and where it goes."""
    fixed = {"name": name, "runs": runs, "progress": False, "device": "cpu", "report": False, "workers": 0, "seed": 3}
    return {**fixed, "warmup_steps": 2, **case.recipe}


def trained(name: str, case: Case, runs: Path) -> Any:
    """Run the training; one that is stopped leaves its folder as it then was beside it, as NAME_stopped."""
    train, held_out = parts(case)
    torch.manual_seed(0)
    points = {"num_keypoints": train[0][1].keypoints.shape[1]} if "keypoints" in case.fields else {}
    model = sl.create_model(case.model, train.classes, **case.arguments, **points)
    given = options(name, case, runs)

    def stop(row: Mapping[str, Any]) -> None:
        if row["epoch"] == case.stop:
            raise Stopped

    try:
        return sl.train(model, train, held_out, alternating=case.alternating, on_epoch=stop, **given)
    except Stopped:
        shutil.copytree(runs / name, runs / f"{name}_stopped")
        return sl.train(None, train, held_out, resume=True, **given)


def outcome(run: Any, case: Case) -> dict[str, Any]:
    """All that comes of a run, in hashes and numbers."""
    train, _ = parts(case)
    return {
        "best weights": weights(run.model),
        "last weights": weights(sl.load(run.folder / "last.safetensors")),
        "epochs": [{key: value for key, value in row.items() if key != "seconds"} for row in run.metrics],
        "best epoch": run.best.get("epoch"),
        "sheet": digest([sl.contact_sheet(train, run.recipe.augmentation, n=4).tobytes()]),
        "saved": of_model(sl.load(run.folder), case),
    }


def of_model(model: nn.Module, case: Case) -> dict[str, Any]:
    """What a model gives, and how labels that are a little wrong are measured."""
    _, held_out = parts(case)
    images = [held_out[i][0] for i in range(4)]
    measured = {"evaluation": model, "evaluation of moved labels": MovedLabels(model, held_out)}
    return {
        "weights": weights(model),
        "predictions": [digest(facts(result)) for result in sl.predict(model, images, threshold=0.0)],
        **{key: numbers(it, held_out) for key, it in measured.items()},
    }


class MovedLabels(nn.Module):
    """Answers with the labels of the data, in its order, some of them moved: metrics that are neither 0 nor 1."""

    def __init__(self, like: Any, data: Any):
        super().__init__()
        self.task, self.classes, self.in_channels = like.task, like.classes, 3
        self.turn: Iterator[Any] = iter([data[i][1] for i in range(len(data))])
        self.rng = np.random.default_rng(0)

    def forward(self, images: list[Tensor], targets: None = None) -> list[Any]:
        return [self.moved(next(self.turn)) for _ in images]

    def moved(self, target: Any) -> Any:
        """The same by up to 4 pixels to the right and below, for objects each by its own; of a label, any scores."""
        if isinstance(target, sl.ClassScores):
            scores = torch.from_numpy(self.rng.dirichlet(np.ones(len(self.classes)))).float()
            return sl.ClassScores(target.image_size, scores=scores, classes=target.classes)
        if not isinstance(target, sl.Instances):
            return sl.ClassMap(target.labels.roll((2, 3), (0, 1)), target.classes)
        n = len(target)
        by = torch.from_numpy(self.rng.integers(0, 5, (n, 2)))
        new: dict[str, Any] = {"boxes": target.boxes + by.repeat(1, 2), "labels": target.labels}
        new["scores"] = torch.from_numpy(self.rng.random(n, dtype=np.float32))
        if "masks" in target:
            rolled = [m.roll((int(y), int(x)), (0, 1)) for m, (x, y) in zip(target.masks, by, strict=True)]
            new["masks"] = torch.stack(rolled)
        if "keypoints" in target:
            new["keypoints"] = target.keypoints + torch.cat([by, torch.zeros(n, 1)], 1)[:, None]
        return sl.Instances(target.image_size, classes=target.classes, **new)


def weights(model: nn.Module) -> str:
    """Hash of all parameters and buffers, by name."""
    return digest(part for key, value in sorted(model.state_dict().items()) for part in (key, value))


def facts(result: Any) -> list[Any]:
    """What an answer says: its fields by name."""
    found = result.fields if isinstance(result, sl.Instances) else vars(result)
    return [part for name in sorted(found) if isinstance(found[name], Tensor) for part in (name, found[name])]


def digest(parts: Iterable[Any]) -> str:
    """SHA-256 of texts, bytes and tensors: their types and shapes, too."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            sha.update(f"{part.dtype}{list(part.shape)}".encode())
            part = part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        sha.update(part if isinstance(part, bytes) else f"{part};".encode())
    return sha.hexdigest()


def numbers(model: nn.Module, data: Any) -> dict[str, Any]:
    """Those metrics that are one number, or missing; none where such answers cannot be measured."""
    try:
        metrics = sl.evaluate(model, data, progress=False).metrics
    except sl.InputError:
        return {}
    return {key: value for key, value in metrics.items() if value is None or isinstance(value, int | float)}


def differences(old: Any, new: Any, where: str) -> list[str]:
    """What is in `old` and is not the same in `new`; names that only `new` has are no difference."""
    if isinstance(old, dict) and isinstance(new, dict):
        old = {RENAMED.get(key, key): value for key, value in old.items()}
        lost = [f"{where}: {key} is missing" for key in old if key not in new]
        return lost + [d for key in old if key in new for d in differences(old[key], new[key], f"{where}: {key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, pair in enumerate(zip(old, new, strict=True), 1) for d in differences(*pair, f"{where} {i}")]
    return [] if old == new else [f"{where}: was {old}, is {new}"]


def from_files(name: str, case: Case, folder: Path, temporary: Path) -> dict[str, Any]:
    """What the files of an earlier run give; the one that was stopped is resumed."""
    if case.stop is None:
        return {"saved": of_model(sl.load(folder / name), case)}
    shutil.copytree(folder / f"{name}_stopped", temporary / name)
    return outcome(sl.train(None, *parts(case), resume=True, **options(name, case, temporary)), case)


def machine() -> dict[str, Any]:
    """What the bits depend on beside the code."""
    return {"cpu": cpu_name(), "threads": 1, "python": platform.python_version(), "torch": torch.__version__}


def commit() -> str:
    """Of the working tree; "+" says that it has changes."""
    call = ["git", "describe", "--always", "--dirty=+", "--abbrev=10"]
    return subprocess.run(call, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "compare", "load"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default=",".join(CASES), help=f"some of {','.join(CASES)}")
    parser.add_argument("--keep", type=Path, help="a folder for what the runs write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    record, load = args.what == "record", args.what == "load"
    old: dict[str, Any] = {} if record else json.loads(args.file.read_text())
    new: dict[str, Any] = {"machine": machine(), "commit": commit(), "cases": {}}
    for key, value in old.get("machine", {}).items():
        if value != new["machine"][key]:
            print(f"{key} was {value}, is {new['machine'][key]}: the bits may differ for that alone")
    differ = 0
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.only.split(","):
            began, case, runs = time.process_time(), CASES[name], args.keep or Path(temporary)
            came = from_files(name, case, runs, Path(temporary)) if load else outcome(trained(name, case, runs), case)
            came = new["cases"][name] = json.loads(json.dumps(came))
            expected = old["cases"][name] if old else {}
            if load:
                expected = {key: expected[key] for key in came if key in expected}
            found = differences(expected, came, name)
            differ += len(found)
            said = "recorded" if record else f"{len(found)} differ" if found else "the same"
            print(f"{name}: {said}, {time.process_time() - began:.0f} s of CPU", *found, sep="\n  ", flush=True)
    if record:
        args.file.write_text(json.dumps(new, indent=1) + "\n")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()

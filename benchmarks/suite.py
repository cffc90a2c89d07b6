"""The development suite: trainings of 3, 10 and 30 minutes on small sets, from which every default is decided.

    python benchmarks/suite.py run  --recipe default --minutes 3 --sets bccd cards --seeds 0 1
    python benchmarks/suite.py run  --recipe wide --choose --protocol cpu -- --model sightline_lite0 --arg width=0.5
    python benchmarks/suite.py peer --name yolo11n --python PEERS/bin/python --minutes 3
    python benchmarks/suite.py table

`run` trains our own models, each in a fresh process and through the command line, as a user would: `sightline train
DATA --minutes M`, with the options of the recipe and nothing else (`--protocol wall`). With `--protocol cpu` the
minutes are CPU seconds of one thread (benchmarks/cpu_clock.py), which other work on the machine does not change.
Options after `--` make a new recipe, named by --recipe. `peer` trains a peer by a script of benchmarks/peers, with the
interpreter of an environment that has the peer. Both see the same folders (suite_sets.py); the best weights of a run,
by validation images that it splits from its training images, are measured once, with the same evaluation for all.

Test images are for the end. With `--choose` a run is measured on a quarter of the training images instead, which it
does not see: choices are made by these. Results go to benchmarks/results/suite.json; `table` writes suite.md from it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import scene_runs
import suite_measure
import suite_table
from suite_sets import SETS, Folders, folders

HERE = Path(__file__).parent
WEIGHTS = "WEIGHTS"
"""Stands for the file of MobileNet v2's ImageNet weights."""
DETECTION, SEGMENTATION, CLASSIFICATION = "detection", "segmentation", "classification"


@dataclass(frozen=True)
class Recipe:
    """Options of `sightline train`, for the tasks that they are for."""

    options: tuple[str, ...] = ()
    tasks: tuple[str, ...] = (DETECTION,)


RECIPES: dict[str, Recipe] = {
    "default": Recipe(tasks=(DETECTION, SEGMENTATION, CLASSIFICATION)),
    "sightline_n, random numbers": Recipe(("--model", "sightline_n")),
    "sightline_n, random numbers, 320 px": Recipe(("--model", "sightline_n", "--arg", "image_size=320")),
    "sightline_lite0, ImageNet": Recipe(("--model", "sightline_lite0", "--weights", "imagenet")),
    "sightline_lite1, ImageNet": Recipe(("--model", "sightline_lite1", "--weights", "imagenet")),
    "sightline_lite2, ImageNet": Recipe(("--model", "sightline_lite2", "--weights", "imagenet")),
    "sightline_mobilenet_v2, ImageNet": Recipe(("--model", "sightline_mobilenet_v2", "--weights", WEIGHTS)),
    "faster_rcnn_mobilenet_v2_fpn, ImageNet": Recipe(("--model", "faster_rcnn_mobilenet_v2_fpn", "--weights", WEIGHTS)),
    "ssdlite320_mobilenet_v2, ImageNet": Recipe(("--model", "ssdlite320_mobilenet_v2", "--weights", WEIGHTS)),
    "unet_mobilenet_v2, ImageNet": Recipe(("--model", "unet_mobilenet_v2", "--weights", WEIGHTS), (SEGMENTATION,)),
    "deeplabv3_mobilenet_v2, ImageNet": Recipe(
        ("--model", "deeplabv3_mobilenet_v2", "--weights", WEIGHTS), (SEGMENTATION,)
    ),
    "mobilenet_v2, ImageNet": Recipe(("--model", "mobilenet_v2", "--weights", WEIGHTS), (CLASSIFICATION,)),
}


@dataclass(frozen=True)
class Peer:
    """A script of benchmarks/peers with its options.

    Attributes:
        script: the file's name.
        options: that make it this peer.
        tasks: that it is for.
    """

    script: str
    options: tuple[str, ...]
    tasks: tuple[str, ...] = (DETECTION,)


_FASTER_RCNN = ("--model", "faster_rcnn_mobilenet_v2_fpn", "--weights", WEIGHTS)
PEERS: dict[str, Peer] = {
    "yolo11n": Peer("ultralytics_yolo.py", ("--model", "yolo11n", "--size", "320")),
    "yolo26n": Peer("ultralytics_yolo.py", ("--model", "yolo26n", "--size", "320")),
    "yolo11n_640": Peer("ultralytics_yolo.py", ("--model", "yolo11n", "--size", "640")),
    "yolo26n_640": Peer("ultralytics_yolo.py", ("--model", "yolo26n", "--size", "640")),
    "ssdlite320": Peer("torchvision_detectors.py", ("--model", "ssdlite320_mobilenet_v3_large")),
    "faster_rcnn": Peer("torchvision_detectors.py", _FASTER_RCNN),
    "faster_rcnn_fine": Peer("torchvision_detectors.py", (*_FASTER_RCNN, "--levels", "fine")),
    "unet": Peer("smp_segmenters.py", ("--model", "unet", "--weights", WEIGHTS), (SEGMENTATION,)),
    "unet, lr 2e-4": Peer(
        "smp_segmenters.py", ("--model", "unet", "--weights", WEIGHTS, "--lr", "2e-4"), (SEGMENTATION,)
    ),
    "deeplabv3plus": Peer("smp_segmenters.py", ("--model", "deeplabv3plus", "--weights", WEIGHTS), (SEGMENTATION,)),
}


@dataclass
class Outcome:
    """A finished process: its figures, or why there are none, and what it cost."""

    seconds: float
    cpu: float
    load: list[float]
    figures: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    failed: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "peer", "table"])
    parser.add_argument("--recipe", nargs="+", default=["default"], help="named here, or a new name with -- OPTIONS")
    parser.add_argument("--name", nargs="+", choices=list(PEERS), default=list(PEERS), help="peers")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the peers' environment")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--protocol", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--rate", type=float, default=0.6, help="seconds of two cores per CPU second of one thread")
    parser.add_argument("--choose", action="store_true", help="measure on held-out training images, not on the test's")
    parser.add_argument("--missing", action="store_true", help="skip what is stored already")
    parser.add_argument("--keep", action="store_true", help="keep the weights of the runs")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2_imagenet.pth"))
    parser.add_argument("--work", type=Path, default=Path("runs/suite"), help="the sets' folders, and the runs")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "suite.json")
    words, options = split_at_dashes(sys.argv[1:])
    args = parser.parse_args(words)
    if options and (args.what != "run" or len(args.recipe) != 1 or args.recipe[0] in RECIPES):
        parser.error("options after -- make one new recipe of `run`: name it by --recipe")
    recipes = (
        {args.recipe[0]: Recipe(tuple(options), (DETECTION, SEGMENTATION, CLASSIFICATION))} if options else RECIPES
    )
    unknown = [name for name in args.recipe if name not in recipes]
    if unknown:
        parser.error(f"no recipe {unknown[0]!r}; there are: {'; '.join(RECIPES)}; or give its options after --")
    systems: dict[str, Recipe | Peer] = {}
    if args.what == "run":
        systems = {name: recipes[name] for name in args.recipe}
    elif args.what == "peer":
        systems = {name: PEERS[name] for name in args.name}
    for minutes in args.minutes:
        for seed in args.seeds:
            for where in args.sets:
                for name, system in systems.items():
                    if SETS[where].task in system.tasks:
                        one(name, system, where, minutes, seed, args)
    args.results.with_suffix(".md").write_text(suite_table.table(stored(args.results)))
    print(args.results.with_suffix(".md"))


def split_at_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    """The words before and after the first `--`."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def one(name: str, system: Recipe | Peer, where: str, minutes: float, seed: int, args: argparse.Namespace) -> None:
    """Train and measure one system on one set, and store the row."""
    key = {
        "name": name,
        "peer": isinstance(system, Peer),
        "set": where,
        "task": SETS[where].task,
        "minutes": minutes,
        "seed": seed,
        "protocol": args.protocol,
        "measured_on": "held out" if args.choose else "test",
    }
    if args.missing and any(is_same(row, key) and not row["failed"] for row in stored(args.results)["runs"]):
        return
    place = folders(where, args.data, args.work, args.choose)
    done = peer(system, place, key, args) if isinstance(system, Peer) else ours(system, place, key, args)
    row = key | ({"rate": args.rate} if args.protocol == "cpu" else {})
    row |= {"options": list(system.options), "images": list(place.images), "failed": done.failed}
    row |= {"seconds": round(done.seconds), "cpu": round(done.cpu), "load": done.load}
    row |= done.facts | done.figures
    keep(args.results, row)
    shown = {k: v for k, v in done.figures.get("metrics", {}).items() if k in ("AP", "AP50", "mIoU", "top1")}
    print(name, where, f"{minutes:g} min", f"seed {seed}", shown or done.failed, f"{row['cpu']} CPU s", flush=True)


def ours(recipe: Recipe, place: Folders, key: dict[str, Any], args: argparse.Namespace) -> Outcome:
    """A run of ours, through the command line in a process of its own."""
    folder = run_folder(key, args)
    options = [str(args.weights) if word == WEIGHTS else word for word in recipe.options]
    words = [str(place.learn), "--minutes", f"{key['minutes']:g}", "--seed", str(key["seed"]), *options]
    words += ["--name", folder.name, "--runs", str(folder.parent)]
    command, environment = [sys.executable, "-m", "sightline", "train", *words], {"HF_HUB_OFFLINE": "1"}
    if key["protocol"] == "cpu":
        launcher = [sys.executable, str(HERE / "cpu_clock.py"), str(args.rate)]
        command = [*launcher, "train", *words, "--set", "workers=0", "--no-report"]
        environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = timed(command, environment)
    if done.failed:
        return done
    known = json.loads((folder / "environment.json").read_text())
    done.facts = {
        "epochs": len((folder / "metrics.jsonl").read_text().splitlines()),
        "trained": settings_of(folder),
        "machine": scene_runs.trained_on(folder),
        "versions": {"torch": known["versions"]["torch"], "sightline": known["versions"]["sightline"]},
    }
    done.figures = suite_measure.of_run(folder, place.test_data())
    if not args.keep:
        for file in folder.rglob("*.safetensors"):
            file.unlink()
    return done


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a run that are not None, with its model, arguments, weights and numbers of images."""
    settings = yaml.safe_load((folder / "recipe.yaml").read_text())
    run = settings.pop("run", {})
    settings |= {name: run.get(name) for name in ("model", "arguments", "weights", "images")}
    return {name: value for name, value in settings.items() if value is not None}


def peer(system: Peer, place: Folders, key: dict[str, Any], args: argparse.Namespace) -> Outcome:
    """A training of a peer by its own script and interpreter, which leaves predictions and facts in a folder."""
    folder = run_folder(key, args)
    folder.mkdir(parents=True)
    options = [str(args.weights.absolute()) if word == WEIGHTS else word for word in system.options]
    budget = key["minutes"] * 60 / (args.rate if key["protocol"] == "cpu" else 1)
    command = [args.python, str(HERE / "peers" / system.script), *options, "--seconds", f"{budget:g}"]
    command += ["--clock", key["protocol"], "--seed", str(key["seed"]), "--out", str(folder.absolute())]
    command += ["--learn", str(place.learn.absolute()), "--test", str(place.test.absolute())]
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} if key["protocol"] == "cpu" else {}
    done = timed(command, threads)
    if done.failed:
        return done
    done.facts = json.loads((folder / "facts.json").read_text())
    if not args.keep:
        for file in folder.rglob("*.pt"):
            file.unlink()
    found = folder / ("predictions.json" if key["task"] == DETECTION else "predictions")
    done.figures = suite_measure.of_predictions(
        found, place.test_data(), place.test / "annotations" / "instances_test.json"
    )
    return done


def run_folder(key: dict[str, Any], args: argparse.Namespace) -> Path:
    """A new folder for a run; one that is left of an earlier run of the same is moved aside by a number."""
    words = [key["name"], key["set"], f"{key['minutes']:g}", key["seed"], key["protocol"], key["measured_on"]]
    stem = "".join(c if c.isalnum() else "_" for c in "_".join(map(str, words)))
    runs: Path = args.work / "runs"
    path, number = runs / stem, 1
    while path.exists():
        number += 1
        path = runs / f"{stem}_{number}"
    return path


def timed(command: list[str], environment: dict[str, str]) -> Outcome:
    """Run a process to its end; what it prints is shown only if it fails."""
    before, began, cpu = os.getloadavg()[0], time.perf_counter(), scene_runs.children()
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    spent = time.perf_counter() - began, scene_runs.children() - cpu
    outcome = Outcome(*spent, [round(before, 1), round(os.getloadavg()[0], 1)])
    if done.returncode:
        print(shlex.join(command), done.stdout, done.stderr, sep="\n", file=sys.stderr)
        outcome.failed = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    return outcome


def is_same(row: dict[str, Any], key: dict[str, Any]) -> bool:
    """Whether a stored row is of the same run: system, set, minutes, seed, protocol and measured images."""
    return all(row.get(name) == value for name, value in key.items())


KEY = ("name", "peer", "set", "task", "minutes", "seed", "protocol", "measured_on")


def keep(file: Path, row: dict[str, Any]) -> None:
    """Store a row in place of an earlier one of the same run; several processes may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        key = {name: row[name] for name in KEY}
        rows = [other for other in stored(file)["runs"] if not is_same(other, key)]
        lines = ",\n".join(json.dumps(r) for r in [*rows, row])
        part = file.with_suffix(".part")
        part.write_text(f'{{"runs": [\n{lines}\n]}}\n')
        part.replace(file)
    finally:
        os.close(folder)  # which also unlocks it


def stored(file: Path) -> dict[str, Any]:
    """What was measured before."""
    return json.loads(file.read_text()) if file.exists() else {"runs": []}


if __name__ == "__main__":
    main()

"""Masks and keypoints on Sightline's own detector: what they cost beside it, and two trainings.

    python benchmarks/sightline_heads.py latency
    python benchmarks/sightline_heads.py train [--only nuclei scenes]

`latency`: one picture of 480×640, one thread, folded, preprocessing, suppression and pasting of masks included; each
model beside its detector in turns within one process. Weights are random, so the detections are not of objects: their
number is set instead, to 300 (the most there can be) and to 30.

`train`: nuclei for masks, beside `benchmarks/masks.py`, and the rendered scenes of `benchmarks/regions.py` for
keypoints, each through the command line with one thread. Seconds of CPU time are told beside the wall time, because
they do not grow when other processes run. Writes benchmarks/results/sightline_heads.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import sightline as sl
from sightline.data.scenes import write_scenes
from sightline.models.detection.sightline_detector import DenseSettings
from sightline.nn.layers import fuse
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results"
DETECTORS = ("sightline_n", "sightline_s", "sightline_lite0")
COMMON = [
    *("--arg", "norm=frozen", "--arg", "trainable_layers=3", "--weights", "imagenet", "--batch-size", "4"),
    *("--set", "augmentation=default", "--set", "workers=0", "--no-report"),
]
RUNS = {
    "nuclei": [
        *("--model", "sightline_lite0_mask", "--arg", "image_size=384", "--epochs", "12"),
        *("--set", "validate_every=4", *COMMON),
    ],
    "scenes": [
        *("--model", "sightline_lite0_pose", "--arg", "num_keypoints=8", "--arg", "image_size=192", "--epochs", "6"),
        *("--set", "validate_every=2", *COMMON),
    ],
}
METRICS = ("AP", "AP50", "mask/AP", "mask/AP50", "mask/AP75", "keypoint/AP", "keypoint/AP50")


def latency(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of CPU time per picture by number of detections and model, each the median of `rounds`."""
    torch.set_num_threads(1)
    pixels = torch.randint(0, 256, (3, 480, 640), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found: dict[str, Any] = {"load": os.getloadavg()[0]}
    for count in (300, 30):
        for detector in DETECTORS:
            models = {}
            for name, own in ((detector, {}), (f"{detector}_mask", {}), (f"{detector}_pose", {"num_keypoints": 17})):
                torch.manual_seed(0)
                settings = DenseSettings(max_detections=count)
                models[name] = fuse(sl.create_model(name, [str(i) for i in range(80)], settings=settings, **own).eval())
            spent: dict[str, list[float]] = {name: [] for name in models}
            with torch.inference_mode():
                for turn in range(args.rounds + 3):
                    for name, model in models.items():
                        began = time.process_time()
                        (result,) = model([pixels])
                        _ = result.fields  # masks are pasted when they are read
                        if turn >= 3:
                            spent[name].append(1e3 * (time.process_time() - began))
                        assert len(result) == count
            for name, own_times in spent.items():
                found[f"{name} {count}"] = round(statistics.median(own_times), 1)
                print(count, name, found[f"{name} {count}"], flush=True)
    return found


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Metrics on the held-out split of each run, with its wall and CPU seconds and the load before and after."""
    found = {}
    data = {"nuclei": args.nuclei, "scenes": args.scenes}
    if "scenes" in args.only and not args.scenes.exists():
        write_scenes(args.scenes, 400, 60, 100, 160, seed=11, objects=(2, 7), progress=False)
    for name in args.only:
        before, began, load = cpu_seconds(), time.perf_counter(), os.getloadavg()[0]
        command = ["train", str(data[name]), *RUNS[name], "--name", name, "--runs", str(args.runs)]
        run(command)
        own = {"cpu": round(cpu_seconds() - before), "wall": round(time.perf_counter() - began)}
        split = "val" if name == "nuclei" else "test"
        measured = json.loads(
            run(["evaluate", str(args.runs / name), str(data[name]), "--split", split, "--json", "-", "-q"])
        )
        metrics = {key: measured["metrics"][key] for key in METRICS if measured["metrics"].get(key) is not None}
        found[name] = own | {"load": [load, os.getloadavg()[0]], "split": split, "metrics": metrics}
        print(name, found[name], flush=True)
    return found


def run(command: list[str]) -> str:
    """The output of the command line, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "sightline", *command]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def cpu_seconds() -> float:
    """CPU time of the processes started so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(results: dict[str, Any]) -> str:
    lines = [
        "# Masks and keypoints on Sightline's own detector",
        "",
        f"{cpu_name()}, one of {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}.",
        "Made by `python benchmarks/sightline_heads.py latency` and `… train`.",
        "",
    ]
    if "latency" in results:
        times = results["latency"]
        lines += [
            "## Latency",
            "",
            "One picture of 480×640, 80 classes, folded, preprocessing, suppression and pasted masks included; random",
            "weights, whose boxes are about 5 cells wide. Milliseconds of CPU time, one thread, models in turns;",
            f"load before: {times['load']:.1f}. In brackets: times the detector's.",
            "",
            "| detector | detections | alone | with masks | with 17 keypoints |",
            "|---|---:|---:|---:|---:|",
        ]
        for detector in DETECTORS:
            for count in (300, 30):
                alone, mask, pose = (times[f"{detector}{end} {count}"] for end in ("", "_mask", "_pose"))
                cells = [f"{v:.0f} ({v / alone:.2f})" for v in (mask, pose)]
                lines.append(f"| `{detector}` | {count} | {alone:.0f} | {' | '.join(cells)} |")
        lines.append("")
    for name, own in results.get("train", {}).items():
        metrics = ", ".join(f"{key} {value:.3f}" for key, value in own["metrics"].items())
        lines += [
            f"## Training: {name}",
            "",
            f"Measured on the {own['split']} split: {metrics}.",
            f"The command took {own['cpu'] / 60:.1f} minutes of CPU time and {own['wall'] / 60:.1f} of wall time; load",
            f"{own['load'][0]:.1f} before and {own['load'][1]:.1f} after, on {os.cpu_count()} cores.",
            "",
            "```",
            f"sightline train {name.upper()} {' '.join(RUNS[name])}",
            "```",
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["latency", "train"])
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--nuclei", type=Path, default=Path("../shared/data/nuclei"))
    parser.add_argument("--scenes", type=Path, default=Path("runs/heads_scenes"))
    parser.add_argument("--runs", type=Path, default=Path("runs/heads"))
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    file = RESULTS / "sightline_heads.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    if args.what == "latency":
        results["latency"] = latency(args)
    else:
        results["train"] = results.get("train", {}) | train(args)
    file.write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()

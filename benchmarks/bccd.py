"""Blood cells (BCCD, 205 + 87 + 72 photographs): two detectors from a pretrained backbone, and one from scratch.

    python benchmarks/bccd.py --data ../shared/data/bccd --weights ../shared/weights/mobilenet_v2_imagenet.pth

Trains on the train split alone, chooses the epoch on val, measures on test; everything through the command line. The
weights are of MobileNet v2, trained on ImageNet. Writes benchmarks/results/bccd.md and bccd.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results"
COMMON = ["--set", "precision=bf16", "--set", "validate_every=3", "--set", "workers=1"]
FASTER = ["--model", "faster_rcnn_mobilenet_v2_fpn", "--arg", "min_size=384", "--batch-size", "4"]
SSDLITE = ["--model", "ssdlite320_mobilenet_v2", "--batch-size", "8"]
RUNS: dict[str, list[str]] = {
    "faster": [*FASTER, "--weights", "WEIGHTS", "--epochs", "15", "--lr", "5e-4"],
    "ssdlite": [*SSDLITE, "--weights", "WEIGHTS", "--epochs", "24", "--lr", "1e-3"],
    "scratch": [*FASTER, "--minutes", "6", "--lr", "1e-3"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bccd"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2_imagenet.pth"))
    parser.add_argument("--runs", type=Path, default=Path("runs/bccd"))
    parser.add_argument("--only", nargs="*", choices=list(RUNS), default=list(RUNS))
    args = parser.parse_args()

    file = RESULTS / "bccd.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for name in args.only:
        options = [*RUNS[name], *COMMON, "--name", name, "--runs", str(args.runs)]
        command = ["sightline", "train", str(args.data), *options]
        real = [str(args.weights) if word == "WEIGHTS" else word for word in command]
        before, began = os.getloadavg()[0], time.perf_counter()
        subprocess.run([sys.executable, "-m", *real], check=True)
        seconds = time.perf_counter() - began
        evaluate = ["sightline", "evaluate", str(args.runs / name), str(args.data), "--split", "test", "--json", "-"]
        out = subprocess.run([sys.executable, "-m", *evaluate, "-q"], check=True, capture_output=True, text=True).stdout
        measured = json.loads(out)
        results[name] = {
            "command": " ".join(["sightline train BCCD", *RUNS[name], *COMMON, "--name", name]).replace(
                "WEIGHTS", "mobilenet_v2_imagenet.pth"
            ),
            "minutes": round(seconds / 60, 1),
            "load": [round(before, 1), round(os.getloadavg()[0], 1)],
            "metrics": measured["metrics"],
            "per_class": measured["per_class"],
            "machine": f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
            "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        }
        file.write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "bccd.md").write_text(table(results))
    print(table(results))


def table(results: dict[str, Any]) -> str:
    lines = [
        "# Blood cells: BCCD",
        "",
        "205 photographs to train on, 87 to choose the epoch, 72 to test; 640×480, three classes. Made by",
        "`python benchmarks/bccd.py`; `mobilenet_v2_imagenet.pth` is a MobileNet v2 trained on ImageNet (published",
        "top-1 70.8 %). COCO numbers on the test split. Minutes are of the whole training command, validation and",
        "report included; load is the one-minute average before and after, about two of it the training's own.",
        "",
        "| run | AP | AP50 | AP75 | VOC 2007 AP50 | VOC 2010 AP50 | minutes | load |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, run in results.items():
        m = run["metrics"]
        columns = (m[k] for k in ("AP", "AP50", "AP75", "VOC2007_AP50", "VOC2010_AP50"))
        numbers = " | ".join(f"{value:.3f}" for value in columns)
        lines.append(f"| {name} | {numbers} | {run['minutes']} | {run['load'][0]} → {run['load'][1]} |")
    lines += ["", "AP50 by class:", "", "| run | " + " | ".join(next(iter(results.values()))["per_class"]) + " |"]
    lines.append("|---|" + "---:|" * len(next(iter(results.values()))["per_class"]))
    for name, run in results.items():
        lines.append(f"| {name} | " + " | ".join(f"{c['AP50']:.3f}" for c in run["per_class"].values()) + " |")
    lines.append("")
    for name, run in results.items():
        lines += [f"{name} ({run['machine']}; {run['versions']}):", "", "```", run["command"], "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

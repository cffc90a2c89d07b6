"""The dense detectors on rendered scenes: every system trained through the command line, measured beside the others.

    python benchmarks/dense.py train --weights ../shared/weights/mobilenet_v2_imagenet.pth [--only NAME …]
    python benchmarks/dense.py measure [--only NAME …]

As benchmarks/regions.py, whose scenes these are: the same epochs and one thread each. `measure` counts the operations
of one image and times it with all cores. Writes benchmarks/results/dense.md and dense.json.
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
from torch.utils.flop_counter import FlopCounterMode

import regions
import sightline as sl
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results"
SMALL = ["--arg", "min_size=160", "--arg", "max_size=160"]
SQUARE = ["--arg", "image_size=160"]
SYSTEMS: dict[str, tuple[str, list[str]]] = {
    "SSDlite": ("ssdlite320_mobilenet_v2", SQUARE),
    "SSD MobileNet v1 (scratch)": ("ssd_mobilenet_v1", ["--arg", "image_size=300"]),
    "YOLO v1": ("yolo_v1_mobilenet_v2", ["--arg", "image_size=224"]),
    "YOLO v2": ("yolo_v2_mobilenet_v2", SQUARE),
    "YOLO9000": ("yolo_9000_mobilenet_v2", SQUARE),
    "RetinaNet": ("retinanet_mobilenet_v2_fpn", SMALL),
    "FCOS": ("fcos_mobilenet_v2_fpn", SMALL),
    "EfficientDet-D0 (scratch)": ("efficientdet_d0", ["--arg", "image_size=256"]),
    "PP-YOLO": ("pp_yolo_mobilenet_v2", SQUARE),
    "sightline_n (scratch)": ("sightline_n", SQUARE),
    "sightline_s (scratch)": ("sightline_s", SQUARE),
}
"""Named "scratch": no classifier's weights of that backbone were at hand."""

EARLIER = [
    "Provisional: trained while a warm-up lasted up to a third of a run, not a tenth as now, and at a learning rate of",
    "5e-4 where small detectors now take 1e-3, so the commands now give other figures.",
]
"""To be dropped when all rows have been trained anew."""


def train(args: argparse.Namespace) -> None:
    for name in args.only or SYSTEMS:
        catalog, own = SYSTEMS[name]
        options = ["--model", catalog, *own, "--epochs", str(args.epochs)]
        options += ["--set", "validate_every=1000", "--set", "workers=0", "--batch-size", "8"]
        folder = args.runs / regions.run_folder(name)
        if folder.exists():
            print(f"{folder} exists: skipped")
            continue
        weights = [] if "scratch" in name else ["--weights", str(args.weights)]
        command = ["-m", "sightline", "train", str(args.data), *options, *weights]
        before, began = os.getloadavg()[0], time.perf_counter()
        subprocess.run(
            [sys.executable, *command, "--name", folder.name, "--runs", str(args.runs), "--no-report"],
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        seconds = time.perf_counter() - began
        told = {"options": options, "train_seconds": round(seconds)}
        told["load"] = [round(before, 1), round(os.getloadavg()[0], 1)]
        (folder / "benchmark.json").write_text(json.dumps(told))


def measure(args: argparse.Namespace) -> None:
    file = RESULTS / "dense.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    data = sl.open_dataset(args.data)["test"]
    for name in args.only or SYSTEMS:
        folder = args.runs / regions.run_folder(name)
        if not (folder / "benchmark.json").exists():
            print(f"{name}: not trained")
            continue
        model: Any = sl.load(folder).eval()
        images = [data[i][0] for i in range(args.images)]
        with torch.inference_mode():
            with FlopCounterMode(display=False) as counter:
                model(images[:1])
            spent = []
            for image in images:
                began = time.perf_counter()
                model([image])
                spent.append(time.perf_counter() - began)
        results[name] = {
            "model": SYSTEMS[name][0],
            **json.loads((folder / "benchmark.json").read_text()),
            "parameters": sum(p.numel() for p in model.parameters()),
            "gflops": counter.get_total_flops() / 1e9,
            "ms": 1000 * sorted(spent)[len(spent) // 2],
            "metrics": sl.evaluate(model, data, batch_size=1, progress=False).to_dict()["metrics"],
            "measured_load": round(os.getloadavg()[0], 1),
            "machine": f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
            "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        }
        ordered = {n: results[n] for n in SYSTEMS if n in results}
        file.write_text(json.dumps(ordered, indent=1) + "\n")
        (RESULTS / "dense.md").write_text(table(ordered))
        print(name, f"{results[name]['ms']:.1f} ms", flush=True)


def table(results: dict[str, Any]) -> str:
    one = next(iter(results.values()))
    lines = [
        "# The dense detectors on rendered scenes",
        "",
        "400 scenes of 160×160 pixels to train on, 100 to test, five classes; MobileNet v2 from its ImageNet weights",
        f"unless the name says scratch; one thread each while training. {one['machine']}; {one['versions']}. Made by",
        "`python benchmarks/dense.py train` and `… measure`. A few epochs each: who learns slowly from scratch looks",
        "weak here. Operations: two a multiply-add, of one image, at the size the network sees. Time: median of one",
        "image with preprocessing and suppression, not fused; load of the machine (2 cores) in brackets.",
        *EARLIER,
        "",
        "| system | parameters | GFLOP | AP50 | AP | training s (load) | test ms (load) |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, r in results.items():
        m = r["metrics"]
        lines.append(
            f"| {name} | {r['parameters'] / 1e6:.2f} M | {r['gflops']:.2f} | {m['AP50']:.3f} | {m['AP']:.3f} "
            f"| {r['train_seconds']} ({r['load'][0]}–{r['load'][1]}) | {r['ms']:.1f} ({r['measured_load']}) |"
        )
    lines += ["", "Commands (`sightline train SCENES` …):", ""]
    lines += [f"- {name}: `{' '.join(r['options'])}`" for name, r in results.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "measure"])
    parser.add_argument("--data", type=Path, default=Path("runs/regions/scenes"))
    parser.add_argument("--runs", type=Path, default=Path("runs/dense/runs"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2_imagenet.pth"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=40, help="timed one by one")
    parser.add_argument("--only", nargs="*", choices=list(SYSTEMS), default=[])
    args = parser.parse_args()
    train(args) if args.what == "train" else measure(args)


if __name__ == "__main__":
    main()

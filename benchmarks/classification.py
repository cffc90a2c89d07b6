"""MobileNet v2 on five kinds of flowers: from ImageNet's weights and from random numbers, within the same epochs.

    python benchmarks/classification.py step                       # CPU time of a training step at several sizes
    python benchmarks/classification.py train [--only NAME …] [--epochs 10] [--image-size 160] [--threads 2]

`step` says how many epochs fit into 20 minutes of 2 cores; `train` takes the epochs it is given, so what else the
machine does meanwhile changes the minutes and not the result. A tenth of the 1000 training photographs, by seed 0, is
held out and chooses the best epoch; the 300 of "val" are measured once, at the end, and chose nothing. All settings of
the recipe but the number of epochs and the precision are the defaults. Writes benchmarks/results/classification.md and
.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch

import sightline as sl
from scene_runs import machine
from sightline.evaluation import ClassificationResult
from sightline.training.half import guarded
from sightline.training.optimizer import make_optimizer
from sightline.verbs.prepare import recipe_for

RESULTS = Path(__file__).parent / "results"
RUNS: dict[str, bool] = {"from ImageNet": True, "from random numbers": False}
"""Whether it begins with the pretrained weights."""
BUDGET = 20 * 60 * 2
"""Seconds of one core: 20 minutes of two."""


def cpu_seconds() -> float:
    """Of this process and of the processes it has started and seen end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def model_of(classes: Any, size: int, weights: Path | None) -> Any:
    torch.manual_seed(0)
    return sl.create_model("mobilenet_v2", classes, weights, image_size=size)


def step(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    data = sl.open_dataset(args.data)["train"]
    rows = []
    for size in args.sizes:
        model = model_of(data.classes, size, args.weights).train()
        recipe = recipe_for(model, {"epochs": 1}, "the benchmark")
        optimizer = make_optimizer(model, recipe)
        images, targets = zip(*(data[i] for i in range(recipe.batch_size)), strict=True)
        spent = []
        for _ in range(args.steps):
            began = time.process_time()
            with guarded(torch.device("cpu"), "bf16"), torch.autocast("cpu", torch.bfloat16):
                losses = model(list(images), list(targets))
            sum(losses.values()).backward()
            optimizer.step()
            optimizer.zero_grad()
            spent.append(time.process_time() - began)
        seconds = sorted(spent)[len(spent) // 2]
        steps = -(-len(data) * 9 // 10 // recipe.batch_size)
        rows.append({"image_size": size, "seconds": round(seconds, 2), "epochs": round(BUDGET / seconds / steps, 1)})
        print(rows[-1], flush=True)
    store("step", {"rows": rows, "load": round(os.getloadavg()[0], 1), **machine()})


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    data = sl.open_dataset(args.data)
    parts = data["train"].split(0.9, 0.1, 0, 0)
    for name in args.only or RUNS:
        load, began, cpu = os.getloadavg()[0], time.perf_counter(), cpu_seconds()
        run = sl.train(
            model_of(data.classes, args.image_size, args.weights if RUNS[name] else None),
            parts["train"],
            parts["val"],
            name=name.replace(" ", "_"),
            runs=args.runs,
            epochs=args.epochs,
            precision="bf16",
            workers=0,
            device="cpu",
        )
        seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu
        result = sl.evaluate(sl.load(run.folder), data["val"], device="cpu")
        assert isinstance(result, ClassificationResult)
        rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        curve = [[r["epoch"], r["val/top1"]] for r in rows if "val/top1" in r]
        row = {
            "image_size": args.image_size,
            "epochs": args.epochs,
            "minutes": round(seconds / 60, 1),
            "cpu": round(cpu),
            "load": [round(load, 1), round(os.getloadavg()[0], 1)],
            "metrics": dict(result.metrics),
            "intervals": {name: list(pair) for name, pair in result.intervals().items() if pair is not None},
            "per_class": {name: dict(values) for name, values in result.per_class.items()},
            "curve": curve,
            "recipe": run.recipe.to_dict(),
            **machine(),
        }
        store(name, row)
        print(name, row["metrics"], flush=True)


def store(name: str, row: dict[str, Any]) -> None:
    file = RESULTS / "classification.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results[name] = row
    file.write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(table(results))


def table(results: dict[str, Any]) -> str:
    lines = ["# Classification of whole images", "", "Made by `python benchmarks/classification.py`.", ""]
    found = {name: results[name] for name in RUNS if name in results}
    if found:
        one = next(iter(found.values()))
        lines += [
            "MobileNet v2 on five kinds of flowers: 900 photographs to train on, 100 held out of the same to choose",
            "the best epoch, and 300 to measure on, which chose nothing and were measured once. In brackets 95 %",
            "intervals. No setting was tuned on these photographs: all but the image size, the epochs and the",
            f"precision (bf16) are the model's defaults. {one['machine']};",
            f"{one['versions']}. Minutes are wall time beside other work (load at the start → at",
            "the end); CPU s is the CPU time of the run, with its data, validations and report. 20 minutes of 2 cores",
            f"are {BUDGET} CPU s.",
            "",
            "| run | pixels | epochs | top-1 | balanced accuracy | macro F1 | ECE | CPU s | minutes | load |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
        ]
        for name, r in found.items():
            m, (low, high) = r["metrics"], r["intervals"]["top1"]
            lines.append(
                f"| {name} | {r['image_size']} | {r['epochs']} | {m['top1']:.3f} ({low:.3f} to {high:.3f}) "
                f"| {m['balanced_accuracy']:.3f} | {m['macro_F1']:.3f} | {m['ECE']:.3f} | {r['cpu']} "
                f"| {r['minutes']} | {r['load'][0]} → {r['load'][1]} |"
            )
        lines += ["", "Recall (precision) of each class:", ""]
        for name, r in found.items():
            classes = ", ".join(f"{c} {v['recall']:.2f} ({v['precision']:.2f})" for c, v in r["per_class"].items())
            lines.append(f"- {name}: {classes}")
        lines += ["", "Top-1 on the 100 held-out photographs by epoch:", ""]
        lines += [f"- {name}: " + ", ".join(f"{e} {v:.2f}" for e, v in r["curve"]) for name, r in found.items()]
        lines += ["", "Commands (`python benchmarks/classification.py` …):", ""]
        lines += [
            f'- {name}: `train --only "{name}" --epochs {r["epochs"]} --image-size {r["image_size"]}`'
            for name, r in found.items()
        ]
    if "step" in results:
        r = results["step"]
        lines += [
            "",
            "## A training step",
            "",
            f"CPU seconds of a step of 32 images in bf16, and the epochs of 900 images that fit into {BUDGET} CPU s.",
            f"{r['machine']}; load {r['load']}.",
            "",
            "| pixels | CPU s a step | epochs |",
            "|---:|---:|---:|",
            *(f"| {row['image_size']} | {row['seconds']} | {row['epochs']} |" for row in r["rows"]),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    shared = Path(__file__).parents[2] / "shared"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["step", "train"])
    parser.add_argument("--only", nargs="*", choices=list(RUNS))
    parser.add_argument("--data", type=Path, default=shared / "data/flowers")
    parser.add_argument("--weights", type=Path, default=shared / "weights/mobilenet_v2_imagenet.pth")
    parser.add_argument("--runs", type=Path, default=Path("/tmp/classification"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--sizes", type=int, nargs="*", default=[128, 160, 192, 224])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    {"step": step, "train": train}[arguments.what](arguments)

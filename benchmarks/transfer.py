"""EfficientNet-Lite0 on five kinds of flowers: from random numbers, on cached features, the last stages, all of it.

    python benchmarks/transfer.py run --variant features --seed 0             # one run; resumes where it stopped
    python benchmarks/transfer.py run --variant all --seed 0 --epochs 20      # epochs in place of minutes
    python benchmarks/transfer.py run --variant scratch --images 20 --epochs 10  # 20 images of each class
    python benchmarks/transfer.py table

A tenth of the 1000 training photographs, by seed 0, chooses the best epoch; the 300 of "val" are measured once, at the
end. Minutes are those of a clock that runs on CPU time (cpu_clock.py): 20 minutes of two free cores are 2000 CPU
seconds of one thread at the usual rate of 0.6, whatever else the machine does. Without --minutes and --epochs a variant
has its own budget: 20 minutes, and 3 for cached features. Each run stores its row in results/transfer.json; `table`
writes transfer.md from it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cpu_clock
import sightline as sl
from classification import cpu_seconds
from scene_runs import machine
from sightline.evaluation import ClassificationResult
from sightline.models.creation import installed_start
from sightline.training.checkpoint import STATE_FILE

RESULTS = Path(__file__).parent / "results" / "transfer.json"
MODEL = "efficientnet_lite0"


@dataclass(frozen=True)
class Variant:
    """A way to train on few images.

    Attributes:
        title: its name in the table.
        pretrained: whether it starts from ImageNet's weights.
        minutes: budget by default.
        settings: of the recipe, besides the model's defaults.
    """

    title: str
    pretrained: bool = True
    minutes: float = 20
    settings: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "scratch": Variant("from random numbers", pretrained=False),
    "features": Variant(
        "cached features of 2 views, only the head learns",
        minutes=3,
        settings={"cache_features": 2, "freeze": "all", "epochs": 30, "validate_every": 5},
    ),
    "last": Variant("the last 2 of 5 parts learn, the others are frozen", settings={"freeze": 3, "freeze_norm": True}),
    "all": Variant(
        "all parts learn, each at 0.7 of the rate of the next", settings={"freeze": "none", "layer_decay": 0.7}
    ),
}


def run(args: argparse.Namespace) -> None:
    variant = VARIANTS[args.variant]
    budget = {"epochs": args.epochs, "minutes": args.minutes}
    if args.epochs is None and args.minutes is None:
        budget["minutes"] = variant.minutes
    settings = variant.settings | {name: value for name, value in budget.items() if value is not None}
    torch.set_num_threads(1)
    load, began = os.getloadavg()[0], time.time()
    cpu_clock.install(args.rate)
    data = sl.open_dataset(args.data)
    parts = data["train"].split(0.9, 0.1, 0, 0)
    images = parts["train"]
    if args.images is not None:
        images = first_of_each_class(images, args.images)
        settings["validate_every"] = args.epochs or 1  # no epoch is chosen
    start = installed_start(args.model, {})
    torch.manual_seed(args.seed)
    weights = start.data if start is not None and variant.pretrained else None
    model = sl.create_model(args.model, data.classes, weights, image_size=args.image_size)
    name = f"{args.model}_{args.variant}_{args.seed}" + ("" if args.images is None else f"_{args.images}")
    name += "" if settings.get("minutes") is None else f"_{settings['minutes']:g}min"
    run = sl.train(
        model,
        images,
        parts["val"],
        name=name,
        runs=args.runs,
        resume=(args.runs / name / STATE_FILE).is_file(),
        seed=args.seed,
        workers=0,
        report=False,
        device="cpu",
        **settings,
    )
    spent = cpu_seconds()
    result = sl.evaluate(sl.load(run.folder), data["val"], device="cpu", progress=False)
    assert isinstance(result, ClassificationResult)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    row = {
        "model": args.model,
        "variant": args.variant,
        "images": args.images,
        "seed": args.seed,
        "minutes": settings.get("minutes"),
        "epochs": len(rows),
        "image_size": args.image_size,
        "top1": result.metrics["top1"],
        "balanced_accuracy": result.metrics["balanced_accuracy"],
        "interval": list(result.intervals()["top1"] or ()),
        "cpu": round(spent),
        "wall_minutes": round((time.time() - began) / 60, 1),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "curve": [[r["epoch"], r["val/top1"]] for r in rows if "val/top1" in r],
        **machine(),
    }
    keep(row)
    print(row, flush=True)


def first_of_each_class(data: sl.Dataset, count: int) -> sl.Dataset:
    """The first `count` images of each class, in the order of the data."""
    labels = data.columns.image_labels
    assert labels is not None
    taken = [np.flatnonzero(labels == label)[:count] for label in range(len(data.classes))]
    return data[np.sort(np.concatenate(taken))]


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a row from others; rows of before `--model` and `--images` lack them."""
    return row["variant"], row.get("model", MODEL), row.get("images"), row["minutes"], row["seed"]


def stored() -> list[dict[str, Any]]:
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else []


def keep(row: dict[str, Any]) -> None:
    """Store a row in place of an earlier one of the same variant and seed; several processes may do so at once."""
    folder = os.open(RESULTS.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        others = [r for r in stored() if key_of(r) != key_of(row)]
        order = list(VARIANTS)
        rows = sorted([*others, row], key=lambda r: (order.index(r["variant"]), -(r["minutes"] or 0), r["seed"]))
        RESULTS.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
        RESULTS.with_suffix(".md").write_text(table(rows))
    finally:
        os.close(folder)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Transfer learning",
        "",
        "Made by `python benchmarks/transfer.py`.",
        "",
        "EfficientNet-Lite0 on five kinds of flowers: 900 photographs to train on, 100 held out of the same to choose",
        "the best epoch, and 300 to measure on, which chose nothing and were measured once. CPU s are those of one",
        "thread, with data, validations and the computation of cached features; 20 minutes of two free cores are about",
        "2000. Below the mean of a variant, its seeds with 95 % intervals of the 300 images. Training steps became",
        "faster between the runs, so rows of the same minutes hold different numbers of epochs.",
        "",
        *rows_of([r for r in rows if r.get("images") is None]),
        "",
        "; ".join(dict.fromkeys(f"{r['machine']}; {r['versions']}" for r in rows if r.get("images") is None)) + ".",
    ]
    few = [r for r in rows if r.get("images") is not None]
    for count in sorted({r["images"] for r in few}):
        lines += [
            *("", f"## {count} photographs of each class", ""),
            "The same 300 photographs measure; the last epoch counts, none is chosen. "
            + "; ".join(dict.fromkeys(r["machine"] for r in few if r["images"] == count))
            + ".",
            "",
            *rows_of([r for r in few if r["images"] == count]),
        ]
    return "\n".join(lines) + "\n"


def rows_of(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| run | minutes | epochs | top-1 | balanced accuracy | CPU s | load |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, model, budget in dict.fromkeys((r["variant"], r.get("model", MODEL), r["minutes"]) for r in rows):
        own = [r for r in rows if (r["variant"], r.get("model", MODEL), r["minutes"]) == (name, model, budget)]
        values = [r["top1"] for r in own]
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        title = VARIANTS[name].title + ("" if model == MODEL else f" ({model})")
        lines.append(f"| **{title}** | | | **{statistics.mean(values):.3f}**{spread} | | | |")
        for r in own:
            minutes = "" if r["minutes"] is None else f"{r['minutes']:g}"
            low, high = r["interval"]
            lines.append(
                f"| seed {r['seed']}, {r['image_size']} px | {minutes} | {r['epochs']} | {r['top1']:.3f} ({low:.3f} to "
                f"{high:.3f}) | {r['balanced_accuracy']:.3f} | {r['cpu']} | {r['load'][0]} → {r['load'][1]} |"
            )
    return lines


if __name__ == "__main__":
    shared = Path(__file__).parents[2] / "shared"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--variant", choices=list(VARIANTS), default="features")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--images", type=int, help="photographs of each class to train on; by default all 900")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--rate", type=float, default=0.6, help="seconds of two cores per CPU second of one thread")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--data", type=Path, default=shared / "data/flowers")
    parser.add_argument("--runs", type=Path, default=Path("/tmp/transfer_runs"))
    arguments = parser.parse_args()
    if arguments.what == "run":
        run(arguments)
    else:
        RESULTS.with_suffix(".md").write_text(table(stored()))

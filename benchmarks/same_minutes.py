"""Detectors on blood cells (BCCD) with the same images and the same minutes: which learns most from them?

    python benchmarks/same_minutes.py time                       # on a quiet machine
    python benchmarks/same_minutes.py train [--only NAME …] [--seeds 0 1 2] [--threads 1]

`time` measures a training step of each with all cores and one process that reads images, the systems taking turns; from
its median come the epochs that fit into the minutes. `train` runs those epochs, with as many threads as asked: what a
run learns depends on its epochs, not on what else the machine does meanwhile. Trains on train + val (292 photographs),
measures on test (72) once, after the last step. Backbones begin with ImageNet's weights where a file of them is at
hand. Writes benchmarks/results/same_minutes.md and same_minutes.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sightline
from sightline.data.transforms import recipes
from sightline.training.half import guarded
from sightline.training.loader import EpochBatches, make_loader
from sightline.training.optimizer import make_optimizer
from sightline.verbs.prepare import recipe_for
from sightline_detector import RESULTS, Variant, machine, spread, train

UPRIGHT = {"vertical_flip": 0.5}
SIDES = {"min_size": 320, "max_size": 427}
ANCHORS = [[0.8115, 1.0426], [2.0273, 2.2529], [1.9679, 2.852], [2.442, 2.9711], [4.3056, 5.2157]]
"""Of `sightline anchors BCCD --split train -k 5` at 416 pixels, in cells of 32."""
SYSTEMS: dict[str, Variant] = {
    "SSDlite": Variant("ssdlite320_mobilenet_v2", None, numbers={"lr": 1e-3}, says="320×320, MobileNet v2"),
    "RetinaNet": Variant("retinanet_mobilenet_v2_fpn", None, SIDES, says="427×320, MobileNet v2"),
    "Faster R-CNN": Variant("faster_rcnn_mobilenet_v2_fpn", None, SIDES, says="427×320, MobileNet v2, pyramid"),
    "EfficientDet-D0": Variant("efficientdet_d0", 384, says="384×384, EfficientNet B0 from random numbers"),
    "YOLO v2": Variant("yolo_v2_mobilenet_v2", 416, {"anchors": ANCHORS}, says="416×416, MobileNet v2"),
    "sightline_n": Variant("sightline_n", 320, says="320×240, from random numbers"),
    "sightline_s": Variant("sightline_s", 320, says="320×240, from random numbers"),
}


def prepared(name: str, weights: Path) -> Variant:
    """The system with its backbone's weights and its augmentation; cells have no up: all are also mirrored so."""
    variant = SYSTEMS[name]
    own = name.startswith("sightline")
    return dataclasses.replace(
        variant,
        weights=weights if "mobilenet_v2" in variant.model else None,
        augmentation=(lambda: recipes.mosaic(**UPRIGHT)) if own else (lambda: recipes.detection(**UPRIGHT)),
    )


def seconds_a_step(name: str, args: argparse.Namespace, steps: int = 24, before: int = 6) -> tuple[float, int]:
    """The median seconds of a training step of a system, with all cores and one process that reads; its batch size."""
    data = sightline.open_dataset(args.data)["train"]
    variant = prepared(name, args.weights)
    arguments = variant.arguments | ({} if variant.size is None else {"image_size": variant.size})
    model: Any = sightline.create_model(variant.model, data.classes, variant.weights, **arguments).train()
    recipe = recipe_for(model, {"epochs": 1, **variant.numbers}, "the benchmark")
    order = EpochBatches(len(data), recipe.batch_size)
    augmentation = variant.augmentation() if variant.augmentation else None
    loader = make_loader(data, order, augmentation, 1, size=model.seen_size)
    optimizer = make_optimizer(model, recipe)
    spent: list[float] = []
    for epoch in range(-(-(steps + before) // len(order))):
        order.begin(epoch)
        began = time.perf_counter()
        for batch in loader:
            with guarded(torch.device("cpu"), "bf16"), torch.autocast("cpu", torch.bfloat16):
                losses = model(*batch.to("cpu"))
            sum(losses.values()).backward()
            optimizer.step()
            optimizer.zero_grad()
            spent.append(time.perf_counter() - began)
            began = time.perf_counter()
    return statistics.median(spent[before:]), recipe.batch_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["time", "train", "table"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bccd"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2_imagenet.pth"))
    parser.add_argument("--runs", type=Path, default=Path("runs/same_minutes"))
    parser.add_argument("--only", nargs="*", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=20, help="of all cores")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    file = RESULTS / "same_minutes.json"
    if args.what == "time":
        load = round(os.getloadavg()[0], 1)
        for name in args.only:
            seconds, batch = seconds_a_step(name, args)
            epochs = int(args.minutes * 60 / (seconds * -(-292 // batch)))
            results = stored(file)
            measured = {"seconds": round(seconds, 3), "batch": batch, "epochs": epochs, "load": load}
            results["steps"][name] = (
                measured | {"minutes": args.minutes, "threads": torch.get_num_threads()} | machine()
            )
            write(file, results)
            print(f"{name}: {seconds:.3f} s a step of {batch}: {epochs} epochs in {args.minutes:g} minutes", flush=True)
    if args.what == "train":
        torch.set_num_threads(args.threads)
        for seed in args.seeds:
            for name in args.only:
                epochs = stored(file)["steps"][name]["epochs"]
                own = argparse.Namespace(**vars(args) | {"epochs": epochs, "choose": False, "overfit": False})
                row = {"system": name} | train(name.replace(" ", "_"), prepared(name, args.weights), seed, own)
                results = stored(file)  # read late: another process may have written meanwhile
                kept = [r for r in results["runs"] if (r["system"], r["seed"]) != (name, seed)]
                results["runs"] = [*kept, row]
                write(file, results)
                print(json.dumps(row), flush=True)
    print(table(stored(file)))


def stored(file: Path) -> dict[str, Any]:
    """What was measured before."""
    return json.loads(file.read_text()) if file.exists() else {"steps": {}, "runs": []}


def write(file: Path, results: dict[str, Any]) -> None:
    file.write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(table(results))


def table(results: dict[str, Any]) -> str:
    lines = [
        "# The same images, the same minutes",
        "",
        "Blood cells (BCCD): 292 photographs to train on, 72 to test, measured once, after the last step. Each system",
        "trained as many epochs as fit into the minutes on two cores, by the median of its training step on the quiet",
        "machine with two threads and one process that reads images; the runs themselves had one thread each, two at a",
        "time. bf16; MobileNet v2 from its ImageNet weights (top-1 70.8 %), the others from random numbers; all",
        "pictures also mirrored top to bottom. Made by `python benchmarks/same_minutes.py`.",
        "",
        "| system | | s a step | minutes | epochs | seeds | AP50:95 | AP50 | AP75 | platelets | red | white |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, variant in SYSTEMS.items():
        rows, step = [r for r in results["runs"] if r["system"] == name], results["steps"].get(name)
        if not rows or step is None:
            continue
        figures = [spread([r[k] for r in rows]) for k in ("AP", "AP50", "AP75")]
        figures += [f"{np.mean([r['per_class'][c]['AP50'] for r in rows]):.3f}" for c in ("Platelets", "RBC", "WBC")]
        lines.append(
            f"| {name} | {variant.says} | {step['seconds']:.3f} | {step['minutes']:g} | {step['epochs']} | {len(rows)} "
            f"| {' | '.join(figures)} |"
        )
    lines += ["", "AP50 of each class; with several seeds the mean, and of the first three columns (least … most)."]
    if results["steps"]:
        one = next(iter(results["steps"].values()))
        lines += [f"{one['machine']}; {one['versions']}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Sightline's own detector from random numbers on blood cells (BCCD): seeds, what each choice brings, and its latency.

    python benchmarks/sightline_detector.py --minutes 24 --seeds 0 1 2
    python benchmarks/sightline_detector.py --minutes 6 --threads 1 --variant base no_mosaic no_closing box_7.5
    python benchmarks/sightline_detector.py --data DATA/coco_mini --overfit --variant by_heart --epochs 160
    python benchmarks/sightline_detector.py --data DATA/coco_mini --overfit --variant by_heart --epochs 240 --go-on
    python benchmarks/sightline_detector.py --latency

Trains on train + val (292 photographs), measures on test (72) once, after the last step: no epoch is chosen by the
test split. The minutes are the run's own budget. Writes benchmarks/results/sightline_detector.md and
sightline_detector.json; runs already there of the same variant, minutes, seed and threads are replaced.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import scene_runs
import sightline
from sightline import api
from sightline.data.transforms import Compose, recipes
from sightline.models.detection.sightline_detector import DenseSettings
from sightline.nn.layers import fuse
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results"
PEER = {"AP50": 0.893, "AP": 0.569, "ms": 23.5, "yardstick": 15.0}
"""Ultralytics' 11n on a machine of two AMD EPYC cores: 320 px, 24 minutes, its best epoch; latency at 480×640, and that
of a ResNet-18 at 224×224 beside it, by which other machines can be compared."""
YARDSTICK = "ResNet-18 at 224×224"


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        model: of the catalog.
        size: `image_size` of the builder, the pixels of the longer side; None for the model's own.
        arguments, settings, numbers: of the builder, the detector and the recipe, where they differ from the usual.
        augmentation: makes the augmentation; None for the one that suits the model.
        weights: of the backbone; None for random numbers.
        says: what differs.
    """

    model: str = "sightline_n"
    size: int | None = 320
    arguments: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    augmentation: Callable[[], Compose] | None = recipes.mosaic
    weights: Path | None = None
    says: str = ""


VARIANTS = {
    "base": Variant(says="sightline_n as it is"),
    "s": Variant("sightline_s", says="sightline_s"),
    "n_416": Variant(size=416, says="416 pixels"),
    "upright": Variant(augmentation=lambda: recipes.mosaic(vertical_flip=0.5), says="also mirrored top to bottom"),
    "upright_416": Variant(
        size=416, augmentation=lambda: recipes.mosaic(vertical_flip=0.5), says="416 pixels, also mirrored top to bottom"
    ),
    "upright_batch_4": Variant(
        numbers={"batch_size": 4},
        augmentation=lambda: recipes.mosaic(vertical_flip=0.5),
        says="4 images a step, also mirrored top to bottom",
    ),
    "no_mosaic": Variant(augmentation=recipes.detection, says="flip, scale and colour in place of the mosaic"),
    "no_closing": Variant(augmentation=lambda: recipes.mosaic(closing=0.0), says="the mosaic to the end"),
    "closing_30": Variant(augmentation=lambda: recipes.mosaic(closing=0.3), says="the mosaic ends at 70 %"),
    "mixup": Variant(augmentation=lambda: recipes.mosaic(mixup=0.15), says="mix-up of every seventh mosaic"),
    "narrow_scale": Variant(augmentation=lambda: recipes.mosaic(scale=(0.7, 1.4)), says="scales 0.7 … 1.4"),
    "no_ema": Variant(numbers={"ema": None}, says="no average of the weights"),
    "ema_9998": Variant(numbers={"ema": 0.9998}, says="a longer average"),
    "lr_2e-3": Variant(numbers={"lr": 2e-3}, says="half the learning rate"),
    "lr_8e-3": Variant(numbers={"lr": 8e-3}, says="twice the learning rate"),
    "batch_4": Variant(numbers={"batch_size": 4}, says="4 images a step"),
    "batch_16": Variant(numbers={"batch_size": 16}, says="16 images a step"),
    "quality": Variant(settings={"class_loss": "quality"}, says="quality focal loss"),
    "varifocal": Variant(settings={"class_loss": "varifocal"}, says="varifocal loss"),
    "giou": Variant(settings={"box_loss": "generalized"}, says="generalized IoU"),
    "box_7.5": Variant(settings={"box_weight": 7.5, "distance_weight": 1.5}, says="box losses three times as heavy"),
    "no_distances": Variant(settings={"distance_weight": 0.0}, says="no distribution focal loss"),
    "alpha_half": Variant(settings={"alpha": 0.5}, says="α = 0.5 in the assignment"),
    "top_9": Variant(settings={"top": 9}, says="9 points an object"),
    "plain": Variant(augmentation=recipes.none, says="no augmentation: to learn the pictures by heart"),
    "by_heart": Variant(
        size=640,
        numbers={"batch_size": 4, "lr": 3e-3},
        augmentation=recipes.none,
        says="640 pixels, 4 images a step, no augmentation",
    ),
    "multi_scale": Variant(arguments={"multi_scale": 0.25}, says="batches resized by up to a quarter"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bccd"))
    parser.add_argument("--runs", type=Path, default=Path("runs/sightline"))
    parser.add_argument("--minutes", type=float, default=24)
    parser.add_argument("--epochs", type=int, default=None, help="instead of minutes")
    parser.add_argument("--size", type=int, default=None, help="pixels of the longer side, in place of the variants'")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variant", nargs="+", choices=list(VARIANTS), default=["base"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--choose", action="store_true", help="train on train, measure on val: to choose a variant by")
    parser.add_argument("--overfit", action="store_true", help="train on train, and measure on it, too")
    parser.add_argument("--latency", action="store_true", help="measure the latency only")
    parser.add_argument(
        "--trained", type=Path, default=Path("runs/same_minutes/bccd_sightline_n_0_test/last.safetensors")
    )
    parser.add_argument("--go-on", action="store_true", help="with the runs that are there, to more epochs")
    parser.add_argument("--device", default=None, help="to train and test on; by default the best there is")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    file = args.results / "sightline_detector.json"
    if args.latency:
        results = stored(file)
        results["latency"] = [r for r in results["latency"] if r["threads"] != args.threads] + [latency(args.trained)]
        write(file, results)
    else:
        for seed in args.seeds:
            for name in args.variant:
                row = train(name, VARIANTS[name], seed, args)
                results = stored(file)  # read late: another process may have written meanwhile
                same = ("data", "size", "variant", "measured_on", "minutes", "epochs", "seed", "threads")
                others = [r for r in results["runs"] if any(r.get(k) != row[k] for k in same)]
                results["runs"] = [*others, row]
                write(file, results)
                print(json.dumps(row))
    print(table(stored(file)))


def stored(file: Path) -> dict[str, Any]:
    """What was measured before."""
    return json.loads(file.read_text()) if file.exists() else {"runs": [], "latency": []}


def train(name: str, variant: Variant, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One run and its figures."""
    data = sightline.open_dataset(args.data)
    splits = np.array([data.split_of(i) for i in range(len(data))])
    if args.overfit:
        learn, test, where = data["train"], data["train"], "train"
    elif args.choose:
        learn, test, where = data["train"], data["val"], "val"
    else:
        learn, test, where = data[np.isin(splits, ("train", "val"))], data["test"], "test"
    torch.manual_seed(seed)
    arguments = dict(variant.arguments)
    size = getattr(args, "size", None) or variant.size
    if size is not None:
        arguments["image_size"] = size
    if variant.settings:
        arguments["settings"] = DenseSettings(**variant.settings)
    model: Any = sightline.create_model(variant.model, learn.classes, variant.weights, **arguments)
    bf16 = torch.cpu._is_avx512_bf16_supported()  # where the processor has it, it is nearly twice as fast
    length = {"minutes": args.minutes} if args.epochs is None else {"epochs": args.epochs}
    usual = {"seed": seed, "precision": "bf16" if bf16 else "no", "workers": 1 if args.threads > 1 else 0, **length}
    numbers = {**usual, **variant.numbers}
    folder = args.runs / f"{args.data.name}_{name}_{seed}_{where}"
    again = getattr(args, "go_on", False)
    if not again:
        shutil.rmtree(folder, ignore_errors=True)
    load, began, cpu = os.getloadavg()[0], time.perf_counter(), time.process_time()
    run = api.train(
        model,
        learn,
        name=folder.name,
        runs=args.runs,
        report=False,
        checked=True,
        resume=again,
        device=getattr(args, "device", None),
        transform=None if variant.augmentation is None else variant.augmentation(),
        **(length if again else numbers),
    )
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    measured = api.evaluate(
        sightline.load(run.folder / "last.safetensors"), test, progress=False, device=getattr(args, "device", None)
    )
    return {
        "variant": name,
        "data": args.data.name,
        "size": size,
        "measured_on": where,
        "says": variant.says,
        "minutes": None if args.epochs else args.minutes,
        "epochs": args.epochs,
        "seed": seed,
        "threads": args.threads,
        "epochs_done": len(run.metrics),
        "seconds": round(seconds),
        "cpu_seconds": round(cpu),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "AP": measured.metrics["AP"],
        "AP50": measured.metrics["AP50"],
        "AP75": measured.metrics["AP75"],
        "per_class": {k: {m: v[m] for m in ("AP", "AP50")} for k, v in measured.to_dict()["per_class"].items()},
        "recipe": run.recipe.to_dict(),
        **machine(),
        "trained_on": scene_runs.trained_on(run.folder),
    }


def latency(trained: Path, rounds: int = 60) -> dict[str, Any]:
    """Milliseconds from the picture of 480×640 to its boxes: folded, one picture, suppression included.

    All networks take turns, so that a busy second hits all; the least and the median of the rounds count. The
    trained model is taken where there is one, for what it finds decides what decoding costs.
    """
    from sightline.models.creation import create_model

    picture = torch.randint(0, 256, (3, 480, 640), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    models: dict[str, Any] = {}
    for name in ("sightline_n", "sightline_s", "ssdlite320_mobilenet_v3_large"):
        torch.manual_seed(0)
        models[f"{name}, 80 classes, random weights"] = create_model(name, [str(i) for i in range(80)])
    if trained.is_file():
        known: Any = sightline.load(trained)
        again: Any = create_model("sightline_n", known.classes)  # at 640
        again.load_state_dict(known.state_dict())
        models["sightline_n, trained on BCCD"] = again
    folded = {name: fuse(model) for name, model in models.items()}
    classifier: Any = create_model("resnet18", [str(i) for i in range(1000)])
    folded[YARDSTICK], small = classifier.eval(), picture[:, :224, :224].contiguous()
    times: dict[str, list[float]] = {name: [] for name in folded}
    load = os.getloadavg()[0]
    with torch.inference_mode():
        for turn in range(rounds + 5):
            for name, model in folded.items():
                began = time.perf_counter()
                model([small if name == YARDSTICK else picture])
                if turn >= 5:
                    times[name].append(1e3 * (time.perf_counter() - began))
    rows = {}
    for name, spent in times.items():
        cost = gmac(folded[name], (224, 224) if name == YARDSTICK else (480, 640))
        rows[name] = {"median": statistics.median(spent), "min": min(spent), "gmac": cost}
    return {"threads": torch.get_num_threads(), "rows": rows, "load": round(load, 1), **machine()}


def gmac(model: Any, size: tuple[int, int] = (480, 640)) -> float:
    """Thousand millions of multiplications and additions of the network at this size (its own, if that is fixed)."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model([torch.zeros(3, *size)])
    return counter.get_total_flops() / 2e9


def machine() -> dict[str, str]:
    return {
        "machine": f"{cpu_name()}, {os.cpu_count()} cores",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, Sightline {sightline.__version__}",
    }


def write(file: Path, results: dict[str, Any]) -> None:
    file.write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(table(results))


def table(results: dict[str, Any]) -> str:
    lines = [
        "# Sightline's own detector",
        "",
        "Blood cells (BCCD), from random numbers: trained on train + val (292 photographs), measured on test (72)",
        "once, after the last step, with the moving average of the weights. Choices are made by runs on train (205)",
        "measured on val (87), with --choose. Made by `python benchmarks/sightline_detector.py`; three seeds of the",
        "whole length, beside other detectors, are in same_minutes.md.",
        "Minutes are the run's own budget. The strongest peer measured (24 minutes, 2 threads, 320 px, its best epoch",
        f"on test): AP50 {PEER['AP50']}, AP50:95 {PEER['AP']}; {PEER['ms']} ms at 480×640.",
        "",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in results["runs"]:
        key = (
            row["data"],
            row["size"],
            row["measured_on"],
            row["minutes"],
            row["epochs"],
            row["threads"],
            row["variant"],
        )
        groups.setdefault(key, []).append(row)
    lines += [
        "| variant | | measured on | px | budget | seeds | AP50:95 | AP50 | AP75 | epochs | trained on |",
        "|---|---|---|---:|---|---:|---:|---:|---:|---:|---|",
    ]
    for (data, size, where, minutes, epochs, _, name), rows in groups.items():
        budget = f"{minutes:g} min" if epochs is None else f"{epochs} epochs"
        figures = " | ".join(spread([r[k] for r in rows]) for k in ("AP", "AP50", "AP75"))
        done = statistics.mean(r["epochs_done"] for r in rows)
        lines.append(
            f"| {name} | {rows[0]['says']} | {data} {where} | {size} | {budget} | {len(rows)} | {figures} "
            f"| {done:.0f} | {rows[0].get('trained_on') or rows[0]['machine']} |"
        )
    for measured in results["latency"]:
        lines += [
            "",
            f"Latency, {measured['threads']} threads, load before {measured['load']}: folded, one picture of 480×640,",
            f"preprocessing and suppression included, the networks taking turns ({measured['machine']};",
            f"{measured['versions']}). Last column: in units of a ResNet-18's time at 224×224 in the same turns;",
            f"the peer's {PEER['ms']} ms were {PEER['ms'] / PEER['yardstick']:.2f} of the {PEER['yardstick']} there.",
            "",
            "| network | median ms | least ms | GMAC | ResNet-18s |",
            "|---|---:|---:|---:|---:|",
        ]
        unit = measured["rows"].get(YARDSTICK, {}).get("median", float("nan"))
        lines += [
            f"| {n} | {r['median']:.1f} | {r['min']:.1f} | {r['gmac']:.2f} | {r['median'] / unit:.2f} |"
            for n, r in measured["rows"].items()
        ]
    versions = sorted({row["versions"] for row in results["runs"]})
    return "\n".join([*lines, "", f"Trained with {' or '.join(versions)}.", ""])


def spread(values: list[float]) -> str:
    """Mean, and with several seeds the range about it."""
    mean = statistics.mean(values)
    return f"{mean:.3f}" if len(values) < 2 else f"{mean:.3f} ({min(values):.3f} … {max(values):.3f})"


if __name__ == "__main__":
    main()

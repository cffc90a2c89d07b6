"""Do explanations point at the object? The pointing game on rendered scenes and on photos, beside chance.

    python benchmarks/faithfulness.py train --model NAME …    # into runs/faithfulness/NAME; again: goes on if stopped
    python benchmarks/faithfulness.py score --model NAME …    # writes benchmarks/results/faithfulness.json and .md
    python benchmarks/faithfulness.py photos                  # the same files
    python benchmarks/faithfulness.py table

`train` gives every model of `MODELS` the scenes of one folder (400 to train on, 160 pixels) and the ImageNet weights of
MobileNet v2, if its backbone is that; `--epochs` overrides its epochs. `score` explains what the trained model finds in
100 other scenes, and what it answers itself after its weights were shuffled. The trained models should reach 0.85;
after shuffling, the pointing game must fall to chance, which is the fraction of the image that the objects cover.
`photos` explains the best class of MobileNet v2 in photos with one clear object, whose box was drawn by hand, and says
for each method whether its peak lies inside.
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
from sightline.data.scenes import write_scenes
from sightline.explain.explanation import explain_image
from sightline.explain.faithfulness import inside_box
from sightline.training.run import cpu_name
from sightline.verbs.explained import default_target
from sightline.verbs.faithfulness import score_explanations

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).resolve().parents[2] / "shared"
SMALL = {"min_size": 160, "max_size": 160}
SQUARE = {"image_size": 160}
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "mobilenet_v2": ({"image_size": 448}, 5),
    "faster_rcnn_mobilenet_v2_fpn": (SMALL, 6),
    "sightline_n": (SQUARE, 24),
    "retinanet_mobilenet_v2_fpn": (SMALL, 12),
    "ssdlite320_mobilenet_v2": ({"image_size": 320}, 12),
    "mask_rcnn_mobilenet_v2_fpn": (SMALL, 6),
}
"""Arguments and epochs of each model. The classifier and SSDlite see their images enlarged: the cells of their maps are
otherwise as large as the objects (SSDlite at 160 pixels: Layer-CAM points at 0.72 of 40 objects). The classifier learns
in batches of 8, which fit into memory."""
METHODS = ("grad_cam", "grad_cam_pp", "layer_cam", "occlusion", "integrated_gradients")
PHOTO_METHODS = ("cam", "grad_cam", "grad_cam_pp", "layer_cam", "score_cam", "occlusion", "rise", "lime")
PHOTO_METHODS += ("integrated_gradients",)
PHOTOS = {
    "cat": (136, 79, 900, 720),
    "parrot": (98, 103, 459, 899),
    "owl": (165, 14, 331, 357),
    "hot_dog": (93, 85, 482, 227),
    "bird": (39, 76, 482, 304),
    "dog_portrait": (141, 110, 429, 340),
}
"""Boxes (x1, y1, x2, y2) in pixels, drawn by hand, of the photos that show one object of an ImageNet class."""


def train(args: argparse.Namespace) -> None:
    for name in args.model or MODELS:
        arguments, epochs = MODELS[name]
        weights = None if name == "sightline_n" else args.weights
        settings: dict[str, Any] = {"epochs": args.epochs or epochs, "workers": 0, "validate_every": 3}
        settings |= {"batch_size": 8} if name == "mobilenet_v2" else {}
        before, began, cpu = os.getloadavg()[0], time.perf_counter(), _cpu()
        data = one_object(args) if name == "mobilenet_v2" else scenes(args)
        validation = None
        if name == "mobilenet_v2":
            validation = sl.scenes(60, 160, seed=9, kind="class_scores", objects=(1, 1))
        run = sl.train(
            name, data, validation, arguments=arguments, weights=weights, name=name, runs=args.runs, report=False,
            device="cpu", resume=(args.runs / name).exists(), **settings,
        )  # fmt: skip
        if run.interrupted:
            raise SystemExit("stopped: the same command goes on")
        facts = {"seconds": round(time.perf_counter() - began)}
        facts |= {"cpu_seconds": round(_cpu() - cpu), "load": [round(before, 1), round(os.getloadavg()[0], 1)]}
        facts |= {"epochs": len(run.metrics), "metric": run.metric, "best": run.best.get(str(run.metric))}
        (run.folder / "benchmark.json").write_text(json.dumps(facts))


def scenes(args: argparse.Namespace) -> Path:
    """The folder of scenes for detectors."""
    folder: Path = args.runs / "scenes"
    if not folder.exists():
        args.runs.mkdir(parents=True, exist_ok=True)
        write_scenes(folder, train=400, val=60, test=100, size=160, seed=3, objects=(1, 4), progress=False)
    return folder


def one_object(args: argparse.Namespace) -> sl.Dataset:
    """Scenes of one object with the class of the image."""
    return sl.scenes(400, 160, seed=3, kind="class_scores", objects=(1, 1))


def score(args: argparse.Namespace) -> None:
    for name in args.model or MODELS:
        folder = args.runs / name
        began = time.perf_counter()
        if name == "mobilenet_v2":  # the boxes say where the object is
            data, split = sl.scenes(args.cases, 160, seed=args.seed, objects=(1, 1))[:], None
        else:
            data, split = scenes(args), "test"
        found = score_explanations(
            folder, data, split, methods=args.method or METHODS, layer=args.layer, cases=args.cases, steps=10,
            device="cpu",
        )  # fmt: skip
        print(found)
        row = found.to_dict() | {"training": json.loads((folder / "benchmark.json").read_text())}
        row |= {"seconds": round(time.perf_counter() - began), "load": round(os.getloadavg()[0], 1), "cpu": cpu_name()}
        _record("scenes", name if args.layer is None else f"{name}, layer {args.layer}", row)
    table()


def photos(args: argparse.Namespace) -> None:
    weights = args.weights or SHARED / "weights" / "mobilenet_v2_imagenet.pth"
    model = sl.create_model("mobilenet_v2", weights=weights).eval()
    for name, box in PHOTOS.items():
        image = sl.read_image(SHARED / "data" / "photos" / f"{name}.jpg")
        size = (int(image.shape[-2]), int(image.shape[-1]))
        inside, target = inside_box(box, size), default_target(model, image)
        row: dict[str, Any] = {"class": target.describe(model), "chance": round(float(inside.float().mean()), 3)}
        for method in args.method or PHOTO_METHODS:
            y, x = explain_image(model, image, method, target).peak
            row[method] = bool(inside[y, x])
        print(name, row, flush=True)
        _record("photos", name, row)
    table()


def table() -> None:
    """Write the Markdown table of what has been recorded."""
    known = json.loads((RESULTS / "faithfulness.json").read_text())
    lines = [
        "# Do explanations point at the object?",
        "",
        f"{os.cpu_count()} cores, torch {torch.__version__}; `benchmarks/faithfulness.py`. n: detections that find an "
        "object (or right classes) in scenes that were not trained on. “Shuffled”: pointing of what the model answers "
        "itself after its weights were shuffled; “same box” that of the trained model's box in that model, a local "
        "target that says little. Empty: not measured. The rows of the Intel Xeon were measured before heat maps were "
        "drawn where their cells lie.",
        "",
        "| model | trained | CPU | method | n | pointing [95 %] | shuffled | same box | chance | energy | insertion "
        "| deletion |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in known.get("scenes", {}).items():
        best = row["training"]["best"]
        trained = f"{row['training']['epochs']} epochs, {row['training']['metric']} {best or 0:.2f}"
        for own in row["rows"]:
            low, high = own["pointing_interval"] or (0, 0)
            cells = [
                name,
                trained,
                row["cpu"],
                own["method"],
                str(own["cases"]),
                f"{own['pointing'] or 0:.2f} [{low:.2f}, {high:.2f}]",
            ]
            cells += [_cell(own["random_pointing"]), _cell(own.get("random_pointing_same_box")), f"{row['chance']:.2f}"]
            cells += [_cell(own[key]) for key in ("energy", "insertion", "deletion")]
            lines.append("| " + " | ".join(cells) + " |")
    seen = known.get("photos", {})
    if seen:
        methods = [key for key in next(iter(seen.values())) if key not in ("class", "chance")]
        lines += ["", "## Photos: does the peak lie inside the box?", ""]
        lines += [
            "| photo | class | box covers | " + " | ".join(methods) + " |",
            "|---|---|---:|" + "---|" * len(methods),
        ]
        for name, row in seen.items():
            marks = ["yes" if row.get(method) else "no" for method in methods]
            lines.append("| " + " | ".join([name, row["class"], f"{row['chance']:.2f}", *marks]) + " |")
    (RESULTS / "faithfulness.md").write_text("\n".join([*lines, ""]))


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _record(part: str, name: str, row: dict[str, Any]) -> None:
    path = RESULTS / "faithfulness.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known.setdefault(part, {})[name] = row
    path.write_text(json.dumps(known, indent=1) + "\n")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("train", "score", "photos", "table"))
    parser.add_argument("--model", nargs="+", choices=list(MODELS))
    parser.add_argument("--method", nargs="+")
    parser.add_argument("--layer", help="path of the explained layer; by default the model's own")
    parser.add_argument("--runs", type=Path, default=Path("runs/faithfulness"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=77, help="of the scenes that the classifier is measured on")
    parser.add_argument("--weights", type=Path, default=SHARED / "weights" / "mobilenet_v2_imagenet.pth")
    args = parser.parse_args()
    if args.work == "table":
        table()
    else:
        {"train": train, "score": score, "photos": photos}[args.work](args)


if __name__ == "__main__":
    main()

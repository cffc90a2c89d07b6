"""The dense detectors on rendered scenes: every system trained through the command line, measured beside the others.

    python benchmarks/dense.py train [--weights FILE] [--only NAME …] [--device cuda]
    python benchmarks/dense.py measure [--only NAME …]

The scenes are those of benchmarks/regions.py. `train` gives each system the same epochs and tests it; `measure` counts
the operations of one image and times it on the processor with all cores. Writes benchmarks/results/dense.md and
dense.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import regions
import scene_runs
import sightline as sl

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
    "sightline_m (scratch)": ("sightline_m", SQUARE),
    "SSD300, VGG-16 (scratch)": ("ssd300_vgg16", []),
    "YOLO v1, 24 layers (scratch)": ("yolo_v1", []),
    "YOLO v2, Darknet-19 (scratch)": ("yolo_v2_darknet19", SQUARE),
    "RetinaNet, ResNet-50 (scratch)": ("retinanet_resnet50_fpn", SMALL),
    "FCOS, ResNet-50 (scratch)": ("fcos_resnet50_fpn", SMALL),
    "PP-YOLO, ResNet-50-vd (scratch)": ("pp_yolo_resnet50_vd", SQUARE),
}
"""On MobileNet v2 unless told. Named "scratch": no classifier's weights of that backbone were at hand."""

COMMON = ["--batch-size", "8", "--set", "precision=bf16", "--set", "validate_every=1000", "--set", "workers=0"]
COMMON += ["--no-report"]


def train(args: argparse.Namespace) -> None:
    data = regions.scenes_of("", args)
    for name in args.only or SYSTEMS:
        catalog, own = SYSTEMS[name]
        options = ["--model", catalog, *own, *COMMON, "--epochs", str(args.epochs)]
        folder = args.runs / regions.run_folder(name)
        if folder.exists():
            print(f"{folder} exists: skipped")
            continue
        weights = [] if "scratch" in name else ["--weights", str(args.weights)]
        words = [str(data), *options, *weights]
        scene_runs.train(words, folder, options, {"OMP_NUM_THREADS": "1"}, (data, "test"), args.device)


def measure(args: argparse.Namespace) -> None:
    file = RESULTS / "dense.json"
    data = sl.open_dataset(regions.scenes_of("", args))["test"]
    for name in args.only or SYSTEMS:
        folder, catalog = args.runs / regions.run_folder(name), SYSTEMS[name][0]
        if not (folder / "benchmark.json").exists():
            print(f"{name}: not trained")
            continue
        told = json.loads((folder / "benchmark.json").read_text())
        row = {"model": catalog, **told, **scene_runs.cost(folder, catalog, told["options"], data, args.images)}
        results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        results[name] = row
        ordered = {n: results[n] for n in SYSTEMS if n in results}
        file.write_text(json.dumps(ordered, indent=1) + "\n")
        (RESULTS / "dense.md").write_text(table(ordered))
        print(name, f"{row['ms']:.1f} ms", flush=True)


def table(results: dict[str, Any]) -> str:
    one = next(iter(results.values()))
    lines = [
        "# The dense detectors on rendered scenes",
        "",
        "400 scenes of 160×160 pixels to train on, 100 to test, five classes; MobileNet v2 from its ImageNet weights,",
        "the others, named scratch, from random numbers. Made by `python benchmarks/dense.py train` and `… measure`.",
        "YOLO v1 with 24 layers and YOLO v2 on Darknet-19 are trained as their papers say, 64 images a step: 72 steps.",
        "So few epochs that who learns slowly from scratch looks weak; training seconds beside other trainings.",
        "Operations: two a multiply-add, of one image, at the size the network sees. Time: median of one image on the",
        "processor with preprocessing and suppression, not fused; load of the machine in brackets. With a star: timed",
        f"with random weights, which find little. Times: {one['machine']}; {one['versions']}.",
        "",
        "| system | parameters | GFLOP | AP50 | AP | epochs | trained on | training s | test ms (load) |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for name, r in results.items():
        m, star = r["metrics"], "" if r.get("timed_as_trained", True) else "*"
        epochs = r["options"][r["options"].index("--epochs") + 1]
        lines.append(
            f"| {name} | {r['parameters'] / 1e6:.2f} M | {r['gflops']:.2f} | {m['AP50']:.3f} | {m['AP']:.3f} "
            f"| {epochs} | {r['trained_on']} | {r['train_seconds']} | {r['ms']:.1f}{star} ({r['measured_load']}) |"
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
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--device", default=None, help="to train and test on; by default the best there is")
    parser.add_argument("--images", type=int, default=40, help="timed one by one")
    parser.add_argument("--only", nargs="*", choices=list(SYSTEMS), default=[])
    args = parser.parse_args()
    train(args) if args.what == "train" else measure(args)


if __name__ == "__main__":
    main()

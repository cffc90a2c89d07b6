"""The region lineage on rendered scenes: every system trained through the command line, measured beside the others.

    python benchmarks/regions.py train --weights ../shared/weights/mobilenet_v2_imagenet.pth [--only NAME …]
    python benchmarks/regions.py measure [--only NAME …]

`train` gives each system the same scenes, backbone, weights, epochs and one thread (R-CNN, which has further stages,
and windows, whose epochs are long, a third of the epochs; four steps a quarter each; the localiser, whose epochs are
short, four times as many). `measure` runs each trained model
on the test scenes one by one, in a process of its own. Writes benchmarks/results/regions.md and regions.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import sightline as sl
from sightline.data.scenes import write_scenes
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results"
SMALL = ["--arg", "min_size=160", "--arg", "max_size=160"]
WINDOWS = ["--arg", "windows.sizes=[24, 40, 64, 96]", "--arg", "windows.crop=48", "--arg", "windows.samples=16"]
GRID = ["--arg", "grid.cells=6", "--arg", "grid.regions=[1, 2, 3]", "--arg", "grid.crop=48"]
CROPS = ["--arg", "regions.crop=64", "--arg", "regions.samples=16", "--arg", "regions.proposals=500"]
SYSTEMS: dict[str, tuple[str, list[str]]] = {
    "localiser (one object)": ("localiser_mobilenet_v2", ["--arg", "image_size=160", "--arg", "box_weight=4"]),
    "sliding window": ("sliding_window_mobilenet_v2", [*SMALL, *WINDOWS]),
    "grid sliding": ("grid_sliding_mobilenet_v2", [*SMALL, *GRID]),
    "OverFeat": ("overfeat_mobilenet_v2", SMALL),
    "R-CNN": ("r_cnn_mobilenet_v2", CROPS),
    "R-CNN, softmax": ("r_cnn_mobilenet_v2", [*CROPS, "--arg", "head=softmax"]),
    "Fast R-CNN, selective search": ("fast_rcnn_mobilenet_v2", [*SMALL, "--arg", "proposer=selective_search"]),
    "Fast R-CNN, windows": ("fast_rcnn_mobilenet_v2", SMALL),
    "proposals alone (RPN)": ("region_proposal_network_mobilenet_v2", SMALL),
    "Faster R-CNN": ("faster_rcnn_mobilenet_v2", SMALL),
    "Faster R-CNN, four steps": ("faster_rcnn_mobilenet_v2", [*SMALL, "--alternating"]),
    "R-FCN": ("r_fcn_mobilenet_v2", SMALL),
    "Light-Head R-CNN": ("light_head_rcnn_mobilenet_v2", SMALL),
    "Faster R-CNN, pyramid": ("faster_rcnn_mobilenet_v2_fpn", SMALL),
    "Mask R-CNN": ("mask_rcnn_mobilenet_v2_fpn", SMALL),
    "Keypoint R-CNN": ("keypoint_rcnn_mobilenet_v2_fpn", SMALL),
}


def scenes_of(name: str, args: argparse.Namespace) -> Path:
    """The system's scenes, made where they are not there: 2 to 7 objects, and 1 for the system that finds one."""
    objects = (1, 1) if "one object" in name else (2, 7)
    folder = args.data.with_name(f"{args.data.name}_one") if objects == (1, 1) else args.data
    if not folder.exists():
        write_scenes(folder, 400, 60, 100, 160, seed=11, objects=objects, progress=False)
    return folder


def run_folder(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name.lower())


def options_of(name: str, args: argparse.Namespace) -> list[str]:
    """The command's options for one system."""
    catalog, own = SYSTEMS[name]
    epochs = args.epochs
    if catalog.startswith(("sliding", "grid")):  # an epoch costs many times another system's
        epochs = max(1, epochs // 3)
    if catalog.startswith("localiser"):  # a short one, of one object an image
        epochs = 4 * epochs
    if catalog.startswith("r_cnn"):  # its time goes into the stages after the gradient steps
        epochs = max(1, epochs // 3)
    elif "--alternating" in own:
        epochs = max(1, epochs // 4)  # four times
    points = []
    if catalog.startswith("keypoint"):
        data = sl.open_dataset(scenes_of(name, args))["train"].with_fields("keypoints")
        points = ["--arg", f"num_keypoints={data.target(0).keypoints.shape[1]}"]
    return [
        *("--model", catalog, *own, *points),
        *("--epochs", str(epochs), "--set", "validate_every=1000", "--set", "workers=0"),
        *("--lr", "1e-3"),
    ]


def train(args: argparse.Namespace) -> None:
    for name in args.only or SYSTEMS:
        options = options_of(name, args)
        folder = args.runs / run_folder(name)
        if folder.exists():
            print(f"{folder} exists: skipped")
            continue
        command = ["-m", "sightline", "train", str(scenes_of(name, args)), *options, "--weights", str(args.weights)]
        before, began = os.getloadavg()[0], time.perf_counter()
        subprocess.run(
            [sys.executable, *command, "--name", folder.name, "--runs", str(args.runs), "--no-report"],
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        seconds = time.perf_counter() - began
        (folder / "benchmark.json").write_text(
            json.dumps(
                {
                    "options": options,
                    "train_seconds": round(seconds),
                    "load": [round(before, 1), round(os.getloadavg()[0], 1)],
                }
            )
        )


def measure_one(args: argparse.Namespace) -> None:
    """One trained model on the test scenes, printed as JSON: AP, time an image, share of proposals, memory."""
    torch.set_num_threads(1)
    data = sl.open_dataset(scenes_of(args.one, args))["test"]
    model: Any = sl.load(args.runs / run_folder(args.one))
    model.eval()
    spent = [0.0]
    watch(model, spent)
    images = [data[i][0] for i in range(len(data))]
    with torch.inference_mode():
        model(images[:1])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times, shares = [], []
        for image in images[: args.images]:
            spent[0] = 0.0
            began = time.process_time()
            model([image])
            times.append(time.process_time() - began)
            shares.append(spent[0] / times[-1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    metrics = sl.evaluate(model, data, batch_size=1, progress=False).to_dict()["metrics"]
    order = sorted(range(len(times)), key=times.__getitem__)
    print(
        json.dumps(
            {
                "parameters": sum(p.numel() for p in model.parameters()),
                "ms": 1000 * times[order[len(order) // 2]],
                "proposal_share": sorted(shares)[len(shares) // 2],
                "memory_mb": (peak - before) / 1024,
                "process_mb": peak / 1024,
                "metrics": metrics,
            }
        )
    )


def watch(model: Any, spent: list[float]) -> None:
    """Add the seconds that proposals take to `spent`."""

    def timed(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            result = function(*args, **kwargs)
            spent[0] += time.process_time() - began
            return result

        return call

    if hasattr(model, "propose"):  # R-CNN
        model.propose = timed(model.propose)
    elif hasattr(model, "proposer"):  # Fast R-CNN
        if hasattr(model.proposer, "proposer"):  # not what it remembers
            model.proposer = model.proposer.proposer
        model.proposer = timed(model.proposer)
    elif hasattr(model, "rpn"):
        model.rpn.forward = timed(model.rpn.forward)


def measure(args: argparse.Namespace) -> None:
    file = RESULTS / "regions.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for name in args.only or SYSTEMS:
        folder = args.runs / run_folder(name)
        if not (folder / "benchmark.json").exists():
            print(f"{name}: not trained")
            continue
        command = [__file__, "measure", "--one", name, "--data", str(args.data), "--runs", str(args.runs)]
        ran = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True)
        results[name] = {
            "model": SYSTEMS[name][0],
            **json.loads((folder / "benchmark.json").read_text()),
            **json.loads(ran.stdout),
            "measured_load": round(os.getloadavg()[0], 1),
            "machine": f"{cpu_name()}, {os.cpu_count()} cores, 1 thread",
            "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        }
        file.write_text(json.dumps({n: results[n] for n in SYSTEMS if n in results}, indent=1) + "\n")
        (RESULTS / "regions.md").write_text(table({n: results[n] for n in SYSTEMS if n in results}))
        print(name, f"{results[name]['ms']:.1f} ms", flush=True)


def table(results: dict[str, Any]) -> str:
    one = next(iter(results.values()))
    lines = [
        "# The region lineage on rendered scenes",
        "",
        "400 scenes of 160×160 pixels to train on, 100 to test, 2 to 7 objects of five classes in each (for",
        "the localiser one: its figures are of other scenes); every system on MobileNet v2 from its",
        f"ImageNet weights, AdamW at 1e-3, one thread each. {one['machine']}; {one['versions']}. Made by",
        "`python benchmarks/regions.py train` and `… measure`.",
        "",
        "Seconds: the whole training command; load: of the machine before and after it (2 cores), which slows it.",
        "Test: median ms of the processor an image, one by one, one thread, proposals found anew. Proposals: their",
        "share of it. Windows are hundreds of passes an image; their number and R-CNN's regions were kept small, as",
        "the commands tell, to train in minutes. The localiser's epochs were 24, those of windows and R-CNN 2, of each",
        "of the four steps 1, all others' 6: who learns fast looks strong here. Memory: what the process",
        "needs more than after the first image, and in all. Recall: of the first 100 boxes at IoU 0.5 … 0.95.",
        "",
        "| system | parameters | AP50 | AP | further | training s (load) | test ms | proposals | more MB (all) |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for name, r in results.items():
        m = r["metrics"]
        further = [f"{k} {m[k]:.3f}" for k in ("mask/AP50", "keypoint/AP50", "AR@100", "AR100") if m.get(k) is not None]
        ap = [f"{m[k]:.3f}" if m.get(k) is not None else "n/a" for k in ("AP50", "AP")]
        lines.append(
            f"| {name} | {r['parameters'] / 1e6:.2f} M | {ap[0]} | {ap[1]} | {', '.join(further)} "
            f"| {r['train_seconds']} ({r['load'][0]}–{r['load'][1]}) | {r['ms']:.1f} | {r['proposal_share']:.0%} "
            f"| {r['memory_mb']:.0f} ({r['process_mb']:.0f}) |"
        )
    lines += ["", "Commands (`sightline train SCENES` …):", ""]
    lines += [f"- {name}: `{' '.join(r['options'])}`" for name, r in results.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "measure"])
    parser.add_argument("--data", type=Path, default=Path("runs/regions/scenes"))
    parser.add_argument("--runs", type=Path, default=Path("runs/regions/runs"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2_imagenet.pth"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=40, help="timed one by one")
    parser.add_argument("--only", nargs="*", choices=list(SYSTEMS), default=[])
    parser.add_argument("--one", choices=list(SYSTEMS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure_one(args)
    elif args.what == "train":
        train(args)
    else:
        measure(args)


if __name__ == "__main__":
    main()

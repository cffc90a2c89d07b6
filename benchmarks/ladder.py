"""The ladder R-CNN → Fast R-CNN → Faster R-CNN: one backbone, one set of photographs, one machine.

    python benchmarks/ladder.py proposals    # selective search of every image, once, kept on disk
    python benchmarks/ladder.py run          # trains and tests the three

MobileNet v2 from its ImageNet weights; blood cells (BCCD): photographs of its train split to learn from, of its test
split to test on. R-CNN and Fast R-CNN see the same first 2000 boxes of selective search in quality mode. All three see
the same images as often, in the same batches, as they are. R-CNN's training counts all its stages: fine-tuning, the
features of every region, SVMs and regressions. Writes benchmarks/results/ladder.md and ladder.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

import torch

import sightline as sl
from sightline.ops.proposals import CachedProposals, SelectiveSearch
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results"
SEARCH = SelectiveSearch("quality", limit=2000)
SIZE = {"min_size": 320, "max_size": 640}


def photographs(args: argparse.Namespace) -> tuple[Any, Any]:
    data = sl.open_dataset(args.data)
    return data["train"][: args.train], data["test"][: args.test]


def proposals(args: argparse.Namespace) -> None:
    """Search every image; the seconds of those not searched before are added to a file."""
    file = args.work / "search_seconds.json"
    args.work.mkdir(parents=True, exist_ok=True)
    seconds: list[float] = json.loads(file.read_text()) if file.exists() else []
    kept = CachedProposals(SEARCH, args.work / "proposals")
    for part in photographs(args):
        for i in range(len(part)):
            image = part[i][0]
            began = time.process_time()
            kept(image)
            spent = time.process_time() - began
            if spent > 0.5:  # not found on the disk
                seconds.append(spent)
            file.write_text(json.dumps(seconds))
    print(f"{len(seconds)} images searched, {sum(seconds) / len(seconds):.2f} s each")


def build(name: str, classes: Any, args: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    if name == "R-CNN":
        model = sl.create_model("r_cnn_mobilenet_v2", classes, args.weights, search="quality")
        model.proposals = CachedProposals(SEARCH, args.work / "proposals")
    elif name == "Fast R-CNN":
        model = sl.create_model("fast_rcnn_mobilenet_v2", classes, args.weights, **SIZE)
        model.proposer = CachedProposals(SEARCH, args.work / "proposals")
    else:
        model = sl.create_model("faster_rcnn_mobilenet_v2", classes, args.weights, **SIZE)
    return model


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    learn, test = photographs(args)
    searched = json.loads((args.work / "search_seconds.json").read_text())
    results: dict[str, Any] = {
        "about": {
            "machine": f"{cpu_name()}, {os.cpu_count()} cores, {args.threads} thread(s)",
            "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
            "train": len(learn),
            "test": len(test),
            "epochs": args.epochs,
            "search_seconds": sum(searched) / len(searched),
        }
    }
    for name in ("Fast R-CNN", "Faster R-CNN", "R-CNN"):
        results[name] = one(name, learn, test, args)
        print(name, results[name], flush=True)
        if name == "R-CNN":
            (RESULTS / "ladder.json").write_text(json.dumps(results, indent=1) + "\n")
            (RESULTS / "ladder.md").write_text(table(results))
    print(table(results))


def one(name: str, learn: Any, test: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Train and test one system; processor time beside the clock's, for a machine that does other things, too."""
    model = build(name, learn.classes, args)
    runs = args.work / "runs"
    shutil.rmtree(runs / model.name, ignore_errors=True)
    load, began, clock = os.getloadavg()[0], time.process_time(), time.perf_counter()
    trained = sl.train(
        model,
        learn,
        name=model.name,
        runs=runs,
        epochs=args.epochs,
        batch_size=2,
        lr=5e-4,
        augmentation="none",
        workers=0,
        ema=None,
        progress=False,
        report=False,
        checked=True,
        device="cpu",
    )
    train_seconds, train_clock = time.process_time() - began, time.perf_counter() - clock
    stages = {}
    if name == "R-CNN":
        stages = rcnn_stages(trained.folder, train_seconds)
    times = []
    with torch.inference_mode():
        for i in range(len(test)):
            image = test[i][0]
            began = time.process_time()
            trained.model([image])
            times.append(time.process_time() - began)
    metrics = sl.evaluate(trained.model, test, batch_size=1, progress=False).to_dict()["metrics"]
    return {
        "train_seconds": train_seconds,
        "train_clock": train_clock,
        **stages,
        "test_seconds": sorted(times)[len(times) // 2],
        "AP50": metrics["AP50"],
        "AP": metrics["AP"],
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }


def rcnn_stages(folder: Path, whole: float) -> dict[str, float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {"fine_tuning_clock": sum(row["seconds"] for row in rows)}


def table(results: dict[str, Any]) -> str:
    about = results["about"]
    r, fast, faster = (results[n] for n in ("R-CNN", "Fast R-CNN", "Faster R-CNN"))
    search = about["search_seconds"]
    lines = [
        "# The ladder: R-CNN, Fast R-CNN, Faster R-CNN",
        "",
        f"MobileNet v2 from ImageNet weights; {about['train']} photographs of blood cells (BCCD, 640×480) to train",
        f"on, {about['test']} to test on; {about['epochs']} epochs in batches of 2, the images as they are. R-CNN and",
        "Fast R-CNN look at the first 2000 boxes of selective search in quality mode; R-CNN warps them to 112×112, the",
        f"other two see the image at 320 pixels. {about['machine']}; {about['versions']}. Seconds are of the",
        "processor (the clock's in brackets), so that other work on the machine counts little. Proposals are found",
        f"before the training and not counted in it; one search takes {search:.2f} s. Made by",
        "`python benchmarks/ladder.py`.",
        "",
        "| system | training s (clock) | AP50 | AP | test s an image | with proposals | share of proposals | load |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name in ("R-CNN", "Fast R-CNN", "Faster R-CNN"):
        s = results[name]
        whole = s["test_seconds"] + (0 if name == "Faster R-CNN" else search)
        share = "within" if name == "Faster R-CNN" else f"{search / whole:.0%}"
        lines.append(
            f"| {name} | {s['train_seconds']:.0f} ({s['train_clock']:.0f}) | {s['AP50']:.3f} | {s['AP']:.3f} "
            f"| {s['test_seconds']:.3f} | {whole:.3f} | {share} | {s['load'][0]} → {s['load'][1]} |"
        )
    stages = r["train_clock"] - r["fine_tuning_clock"]
    training = r["train_seconds"] / fast["train_seconds"]
    test = r["test_seconds"] / fast["test_seconds"]
    whole = (fast["test_seconds"] + search) / faster["test_seconds"]
    lines += [
        "",
        f"- Fast R-CNN trains {training:.1f}× as fast as R-CNN (paper: 9×). Of R-CNN's {r['train_clock']:.0f} s by the",
        f"  clock, fine-tuning took {r['fine_tuning_clock']:.0f} s, features, SVMs and regressions {stages:.0f} s.",
        f"- It tests {test:.1f}× as fast without proposals (paper: 146×, and 213× with truncated SVD, on VGG-16).",
        f"- With proposals, Faster R-CNN tests {whole:.1f}× as fast as Fast R-CNN (paper: 10×).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["proposals", "run"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bccd"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2_imagenet.pth"))
    parser.add_argument("--work", type=Path, default=Path("runs/ladder"))
    parser.add_argument("--train", type=int, default=40)
    parser.add_argument("--test", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    proposals(args) if args.what == "proposals" else run(args)


if __name__ == "__main__":
    main()

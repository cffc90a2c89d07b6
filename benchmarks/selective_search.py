"""Recall and time of selective search on photographs, beside OpenCV's.

    python benchmarks/selective_search.py [--peer fast=FILE] [--peer quality=FILE] [--out FILE without ending]

Photographs with labels: 79 of COCO and 40 of blood cells (BCCD), in ../shared; in quality mode every fourth. The
peer's files are written by selective_search_peer.py. Times are processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sightline.data.formats import open_dataset
from sightline.data.images import read_image
from sightline.ops.boxes import box_iou
from sightline.ops.proposals import SelectiveSearch
from sightline.training.run import cpu_name

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
COUNTS = (100, 500, 1000, 2000)
EVERY = {"fast": 1, "quality": 4}


def labelled() -> dict[str, tuple[str, torch.Tensor]]:
    """Path → (name of the set, boxes [G, 4] that are no crowds)."""
    found = {}
    for name, limit in (("coco_mini", 79), ("bccd", 40)):
        data = open_dataset(SHARED / name)["val"]
        for i in range(min(limit, len(data))):
            target = data.target(i)
            found[str(data.path(i))] = name, target.boxes[~target.crowd].float()
    return found


def ours(path: str, mode: str, max_size: int | None) -> tuple[torch.Tensor, float]:
    image = read_image(Path(path))
    began = time.process_time()
    boxes = SelectiveSearch(mode, max_size=max_size)(image)  # type: ignore[arg-type]
    return boxes, time.process_time() - began


def summary(rows: list[tuple[torch.Tensor, torch.Tensor, float]]) -> dict[str, Any]:
    """Of (labels, boxes, seconds) an image: recall at IoU 0.5 of the first boxes, mean count and seconds."""
    objects = sum(len(truth) for truth, _, _ in rows)
    hits = dict.fromkeys(COUNTS, 0)
    for truth, boxes, _ in rows:
        iou = box_iou(truth, boxes)
        for n in COUNTS:
            hits[n] += int((iou[:, :n].amax(1) >= 0.5).sum()) if len(truth) else 0
    return {
        "images": len(rows),
        "objects": objects,
        "recall": {n: round(hits[n] / objects, 4) for n in COUNTS},
        "boxes": round(sum(len(b) for _, b, _ in rows) / len(rows)),
        "seconds": round(sum(s for _, _, s in rows) / len(rows), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", type=Path, help="write the images' paths here, for the peer, and stop")
    parser.add_argument("--peer", action="append", default=[], help="MODE=FILE of selective_search_peer.py")
    parser.add_argument("--modes", nargs="+", default=["fast", "quality"])
    parser.add_argument("--every", type=int, default=1, help="take every n-th of these images only")
    parser.add_argument("--no-full-size", action="store_true", help="leave out the search of images at full size")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "selective_search")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = labelled()
    chosen = {mode: list(images)[:: EVERY[mode] * options.every] for mode in options.modes}
    if options.list:
        options.list.write_text(json.dumps({m: list(images)[:: EVERY[m]] for m in EVERY}), encoding="utf-8")
        return
    peers = {m: json.loads(Path(f).read_text(encoding="utf-8")) for m, _, f in (p.partition("=") for p in options.peer)}
    rows: list[dict[str, Any]] = []
    for mode, paths in chosen.items():
        by: dict[str, dict[str, tuple[torch.Tensor, float]]] = {}
        by["Sightline"] = {path: ours(path, mode, 500) for path in paths}
        if mode == "fast" and not options.no_full_size:
            by["Sightline, full size"] = {path: ours(path, mode, None) for path in paths}
        if mode in peers:
            entries = peers[mode]["images"]
            given = {p: (torch.tensor(entries[p]["boxes"]).float(), entries[p]["seconds"]) for p in paths}
            by[f"OpenCV {peers[mode]['version']}, full size"] = given
        for name in ("coco_mini", "bccd"):
            own = [p for p in paths if images[p][0] == name]
            for who, found in by.items():
                rows.append({"mode": mode, "set": name, "by": who} | summary([(images[p][1], *found[p]) for p in own]))
    about = {
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("sightline", "numpy", "scikit-image", "scipy", "torch")},
        "threads": 1,
        "load": os.getloadavg(),
    }
    text = json.dumps({"about": about, "rows": rows}, indent=1) + "\n"
    options.out.with_suffix(".json").write_text(text, encoding="utf-8")
    options.out.with_suffix(".md").write_text(table(about, rows), encoding="utf-8")
    print(table(about, rows))


def table(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    versions = ", ".join(f"{n} {v}" for n, v in about["versions"].items())
    lines = [
        "# Selective search on photographs",
        "",
        f"{about['cpu']}, one thread; Python {about['python']}, {versions}.",
        "Recall: share of the labelled objects with a box of IoU ≥ 0.5 among the first 100, 500, 1000, 2000.",
        f"Seconds: of the processor, mean of the images; the load at the end was {about['load'][0]:.1f} on",
        f"{os.cpu_count()} cores, and above their number it slows all alike: compare then, do not quote.",
        "Most images are 640 × 480; Sightline searches them at 500 × 375 unless",
        "told otherwise (full size). Written by benchmarks/selective_search.py.",
        "",
        "| mode | photographs | images | objects | by | @100 | @500 | @1000 | @2000 | boxes | seconds |",
        "|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        recall = " | ".join(f"{row['recall'][n]:.3f}" for n in COUNTS)
        lines.append(
            f"| {row['mode']} | {row['set']} | {row['images']} | {row['objects']} | {row['by']} | {recall} "
            f"| {row['boxes']} | {row['seconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

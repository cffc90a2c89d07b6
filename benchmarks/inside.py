"""A published MobileNet v2 on real photographs: how faithful explanations are, what the latent space keeps apart.

    python benchmarks/inside.py faithful    # 50 ImageNet photographs: deletion and insertion curves of four methods
    python benchmarks/inside.py latent      # 300 photographs of five kinds of flowers, which it was not trained on
    python benchmarks/inside.py table

Both use the weights and images beside the project (../shared) and write results/inside.json; `table` writes inside.md.
In the latent space a point's neighbours are its five nearest ones; counted is the fraction that has the point's class.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

import sightline as sl
from scene_runs import machine

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).resolve().parents[2] / "shared"
METHODS = ("cam", "grad_cam", "layer_cam", "lime")
NEIGHBOURS = 5


def published() -> sl.Model:
    return sl.create_model("mobilenet_v2", weights=SHARED / "weights" / "mobilenet_v2_imagenet.pth").eval()


def faithful(args: argparse.Namespace) -> dict[str, Any]:
    model = published()
    folder = SHARED / "data" / "imagenet50"
    with (folder / "labels.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    data = sl.Dataset.from_labels([folder / r["file"] for r in rows], [int(r["index"]) for r in rows], model.classes)
    found = sl.score_explanations(model, data, methods=METHODS, cases=args.cases, samples=args.samples, progress=False)
    return {"cases": found.cases, "samples": args.samples, "cells": found.cells(), "reading": found.reading}


def latent(args: argparse.Namespace) -> dict[str, Any]:
    model = published()
    rows: dict[str, Any] = {}
    for method in ("pca", "tsne"):
        space = sl.latent_space(
            model, SHARED / "data" / "flowers", split="val", method=method, limit=args.images, progress=False
        )
        labels = torch.from_numpy(space.labels)
        if method == "pca":
            rows["features"] = {
                "dimensions": space.features.shape[1],
                "same": same(torch.tensor(space.features), labels),
            }
            shares = torch.bincount(labels).double() / len(labels)
            rows["chance"] = {"same": float(shares.square().sum())}
        rows[method] = {"dimensions": 2, "same": same(torch.tensor(space.points), labels)}
        if space.explained is not None:
            rows[method]["explained"] = [float(share) for share in space.explained]
    return {"images": len(labels), "layer": space.layer, "rows": rows}


def same(points: torch.Tensor, labels: torch.Tensor) -> float:
    """The fraction of the five nearest points of each point that have its class."""
    apart = torch.cdist(points.double(), points.double()).fill_diagonal_(float("inf"))
    return float((labels[apart.topk(NEIGHBOURS, largest=False).indices] == labels[:, None]).double().mean())


def table(stored: dict[str, Any]) -> str:
    lines = ["# A published MobileNet v2 on real photographs", "", "Made by `python benchmarks/inside.py`."]
    if "faithful" in stored:
        part = stored["faithful"]
        heads, *rows = part["cells"]
        lines += [
            *("", "## Faithfulness of explanations", ""),
            f"{part['cases']} of 50 ImageNet photographs (one per class) that it names rightly; {part['samples']} "
            f"samples for LIME. Insertion: higher is better; deletion: lower is better; pointing and energy are "
            f"unknown, since no label says where the objects are. `{part['command']}`; "
            f"{part['machine']}; load {part['load']}; {part['cpu_s']} CPU s.",
            "",
            "| " + " | ".join(heads) + " |",
            "|---|" + "---:|" * (len(heads) - 1),
            *("| " + " | ".join(row) + " |" for row in rows),
        ]
    if "latent" in stored:
        part = stored["latent"]
        names = {
            "features": "the features themselves",
            "pca": "principal components",
            "tsne": "t-SNE",
            "chance": "chance",
        }
        lines += [
            *("", "## Latent space", ""),
            f"Layer `{part['layer']}`, {part['images']} photographs of five kinds of flowers, which it was not trained "
            f"on. `{part['command']}`; {part['machine']}; load {part['load']}; {part['cpu_s']} CPU s.",
            "",
            f"| space | dimensions | {NEIGHBOURS} nearest of the same class | variance along the axes |",
            "|---|---:|---:|---|",
        ]
        for key, name in names.items():
            row = part["rows"][key]
            explained = " and ".join(f"{share:.2f}" for share in row.get("explained", ()))
            lines.append(f"| {name} | {row.get('dimensions', '')} | {row['same']:.3f} | {explained} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["faithful", "latent", "table"])
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--images", type=int, default=300)
    args = parser.parse_args()
    file = RESULTS / "inside.json"
    stored = json.loads(file.read_text()) if file.is_file() else {}
    if args.what != "table":
        before, began = os.getloadavg()[0], time.process_time()
        found = {"faithful": faithful, "latent": latent}[args.what](args)
        options = {
            "faithful": f" --cases {args.cases} --samples {args.samples}",
            "latent": f" --images {args.images}",
        }[args.what]
        stored[args.what] = found | {
            "command": f"python benchmarks/inside.py {args.what}{options}",
            "machine": "; ".join(machine().values()),
            "load": f"{before:.1f} → {os.getloadavg()[0]:.1f}",
            "cpu_s": round(time.process_time() - began),
        }
        file.write_text(json.dumps(stored, indent=1))
    (RESULTS / "inside.md").write_text(table(stored))


if __name__ == "__main__":
    main()

"""Mask R-CNN on photographs of cell nuclei (164 to train on, 52 to measure) from a classifier's weights.

    python benchmarks/masks.py [--measure-only]

MobileNet v2 with a pyramid, one thread, through the command line. The 52 images also choose the epoch: there is no
third part. Writes benchmarks/results/masks.md and masks.json, and pictures into the run's folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results"
OPTIONS = [
    *("--model", "mask_rcnn_mobilenet_v2_fpn", "--arg", "min_size=320", "--arg", "max_size=512"),
    *("--batch-size", "2", "--minutes", "40", "--lr", "5e-4"),
    *("--set", "precision=bf16", "--set", "validate_every=6", "--set", "workers=0"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nuclei"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2_imagenet.pth"))
    parser.add_argument("--runs", type=Path, default=Path("runs/masks"))
    parser.add_argument("--measure-only", action="store_true", help="the run is there already")
    args = parser.parse_args()

    folder = args.runs / "nuclei"
    if not args.measure_only:
        began = time.perf_counter()
        command = ["train", str(args.data), *OPTIONS, "--weights", str(args.weights)]
        subprocess.run(
            [sys.executable, "-m", "sightline", *command, "--name", "nuclei", "--runs", str(args.runs)],
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        print(f"{(time.perf_counter() - began) / 60:.1f} minutes")
    measure = ["evaluate", str(folder), str(args.data), "--split", "val", "--json", "-", "-q"]
    ran = subprocess.run([sys.executable, "-m", "sightline", *measure], check=True, capture_output=True, text=True)
    metrics = json.loads(ran.stdout)["metrics"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    minutes = sum(row["seconds"] for row in rows) / 60
    told = {"minutes": minutes, "epochs": len(rows), "metrics": metrics, "torch": torch.__version__}
    (RESULTS / "masks.json").write_text(json.dumps(told, indent=1) + "\n")
    columns = ("AP", "AP50", "AP75", "mask/AP", "mask/AP50", "mask/AP75")
    lines = [
        "# Mask R-CNN on cell nuclei",
        "",
        f"164 images to train on, 52 to choose the epoch and to measure. {cpu_name()}, one of {os.cpu_count()} cores,",
        f"Python {platform.python_version()}, torch {torch.__version__}. Made by `python benchmarks/masks.py`; the",
        "weights are of a MobileNet v2 trained on ImageNet. COCO numbers, at most 100 objects an image.",
        "",
        "| minutes | epochs | " + " | ".join(columns) + " |",
        "|---:|---:|" + "---:|" * len(columns),
        f"| {minutes:.1f} | {len(rows)} | " + " | ".join(f"{metrics[c]:.3f}" for c in columns) + " |",
        "",
        "```",
        f"sightline train NUCLEI {' '.join(OPTIONS)} --weights mobilenet_v2_imagenet.pth",
        "```",
    ]
    (RESULTS / "masks.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

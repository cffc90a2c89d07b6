"""Do exported files give the results of trained models? ONNX Runtime beside PyTorch, on images of a dataset.

    python benchmarks/exported.py RUN … --data DATA --split test    # writes benchmarks/results/exported.md

Each run's model is exported, and both predict the first images of the split, one by one and three at a time, at their
own size, at 0.6 and at 1.5 of it. Objects below a score of 0.05 are not compared.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from pathlib import Path

import torch
from torch.nn import functional

import sightline as sl
from sightline.deploy.differences import compare
from sightline.deploy.runtimes import open_exported
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results" / "exported.md"
SCALES = (1.0, 0.6, 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=12)
    args = parser.parse_args()
    data = sl.open_dataset(args.data)[args.split]
    images = [data[i][0] for i in range(args.images)]
    lines = [
        "# Exported files beside the trained models that they were made from",
        "",
        f"`benchmarks/exported.py` on {args.images} rendered scenes that were not trained on, at {len(SCALES)} sizes, "
        "singly and in threes. The largest differences; boxes in pixels of the image. Allowed are 0.001 and 0.5.",
        "",
        "| model | objects | scores | boxes | labels | found by one alone |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for run in args.runs:
        model = sl.load(run)
        with tempfile.TemporaryDirectory() as folder:
            sl.export(model, Path(folder) / "model.onnx", check=False)
            opened = open_exported(Path(folder) / "model.onnx")
            found = [
                compare(model, opened, [resized(image, scale) for image in images[i : i + count]])
                for scale in SCALES
                for count in (1, 3)
                for i in range(0, len(images), count)
            ]
        lines.append(
            f"| {model.name} | {sum(f.objects for f in found)} | {max(f.scores for f in found):.1e} | "
            f"{max(f.pixels for f in found):.3f} | {max(f.labels for f in found):.1e} | {sum(f.alone for f in found)} |"
        )
        print(lines[-1], flush=True)
    lines += ["", f"{cpu_name()}, Python {platform.python_version()}, torch {torch.__version__}", ""]
    RESULTS.write_text("\n".join(lines))


def resized(image: torch.Tensor, scale: float) -> torch.Tensor:
    """An image [C, H, W] uint8 at another size."""
    if scale == 1:
        return image
    large = functional.interpolate(image[None].float(), scale_factor=scale, mode="bilinear", antialias=True)[0]
    return large.round().clamp(0, 255).to(torch.uint8)


if __name__ == "__main__":
    main()

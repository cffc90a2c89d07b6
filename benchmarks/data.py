"""What a large COCO file costs: memory held after opening it, memory two loader workers add, and times.

    python benchmarks/data.py [--images 100000] [--boxes 1000000] [--out benchmarks/results/data.md]

The file is generated in a temporary folder. Each measurement is a process of its own that imports the library, opens a
small file of the same kind to have every module loaded, and only then the large one. Linux only: sizes are from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def generate(path: Path, images: int, boxes: int, polygons: bool, seed: int = 0) -> None:
    """A COCO file of random boxes on 640×480 images, annotations in random order, as COCO's own are."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 400, (boxes, 2)).round(2)
    sides = generator.uniform(4, 80, (boxes, 2)).round(2)
    of, labels = generator.integers(1, images + 1, boxes).tolist(), generator.integers(1, 81, boxes).tolist()
    with open(path, "w", encoding="utf-8") as file:
        categories = [{"id": k, "name": f"class {k}", "supercategory": "things"} for k in range(1, 81)]
        entries = [{"id": i, "file_name": f"{i:012d}.jpg", "height": 480, "width": 640} for i in range(1, images + 1)]
        head = json.dumps({"info": {"year": 2017}, "categories": categories, "images": entries})
        file.write(head[:-1] + ', "annotations": [')
        for k, ((x, y), (w, h)) in enumerate(zip(corners.tolist(), sides.tolist(), strict=True)):
            outline = [[x, y, round(x + w, 2), y, round(x + w, 2), round(y + h, 2), x, round(y + h, 2)]]
            entry = {
                "segmentation": outline if polygons else [],
                "area": round(w * h, 4),
                "iscrowd": 0,
                "image_id": of[k],
                "bbox": [x, y, w, h],
                "category_id": labels[k],
                "id": k + 1,
            }
            file.write((", " if k else "") + json.dumps(entry))
        file.write("]}")


def memory(name: str, file: str = "status") -> float:
    """A line of /proc/self/status or smaps_rollup, in MB."""
    for line in Path("/proc/self", file).read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


class Reader:
    """Reads targets in turn and, from time to time, measures the process that does: a dataset for a loader."""

    def __init__(self, dataset: Any, length: int):
        self.dataset, self.length = dataset, length
        self.every = max(2, length // 40 * 2)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> tuple[int, int, float]:
        own = memory("Private_Dirty", "smaps_rollup") if i % self.every < 2 else 0.0
        return os.getpid(), len(self.dataset.target(i % len(self.dataset))), own


def workers(dataset: Any, length: int) -> tuple[int, float]:
    """Read `length` targets with two forked workers: the objects read, and the most a worker came to own, in MB."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        Reader(dataset, length), batch_size=64, num_workers=2, collate_fn=list, multiprocessing_context="fork"
    )
    objects, most = 0, 0.0
    for batch in loader:
        for _, count, own in batch:
            objects += count
            most = max(most, own)
    return objects, most


def measure(large: Path, small: Path) -> dict[str, Any]:
    """Open `large` in this process and read it with two workers."""
    from sightline.data.formats import open_dataset

    few = open_dataset(small)
    few.target(0)
    before = memory("VmRSS")
    start = time.perf_counter()
    dataset = open_dataset(large)
    seconds = time.perf_counter() - start
    held, peak = memory("VmRSS"), memory("VmHWM")
    start = time.perf_counter()
    for i in range(min(2000, len(dataset))):
        dataset.target(i)
    target = (time.perf_counter() - start) / min(2000, len(dataset))
    objects, worker = workers(dataset, len(dataset))
    _, plain = workers(few, len(dataset))
    return {
        "seconds": seconds,
        "before": before,
        "held": held - before,
        "total": held,
        "peak": peak - before,
        "columns": dataset.columns.nbytes / 2**20,
        "target": target * 1e6,
        "objects": objects,
        "worker": worker,
        "plain": plain,
    }


def run(images: int, boxes: int, polygons: bool, runs: int = 1) -> list[dict[str, Any]]:
    """Generate a file and measure it in fresh processes."""
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "instances_train2017.json"), Path(folder, "instances_val2017.json")
        generate(large, images, boxes, polygons)
        generate(small, 2, 4, polygons)
        size = large.stat().st_size / 2**20
        command = [sys.executable, __file__, "--measure", str(large), str(small)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        outputs = [subprocess.run(command, capture_output=True, text=True, env=environment) for _ in range(runs)]
        for output in outputs:
            if output.returncode:
                raise RuntimeError(output.stderr)
        return [json.loads(output.stdout) | {"file": size} for output in outputs]


def image_times(count: int = 30) -> list[tuple[str, float]]:
    """Milliseconds to read an image of 500×375, the least of several rounds."""
    from PIL import Image

    from sightline.data.images import image_size, read_image

    with tempfile.TemporaryDirectory() as folder:
        path, png = Path(folder, "a.jpg"), Path(folder, "a.png")
        noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC)
        picture.save(path, quality=90)
        picture.save(png)

        def least(action: Any) -> float:
            times = []
            for _ in range(count):
                start = time.perf_counter()
                action()
                times.append(time.perf_counter() - start)
            return min(times) * 1e3

        return [
            ("Pillow alone, JPEG to array", least(lambda: np.asarray(Image.open(path)))),
            ("`read_image`, JPEG", least(lambda: read_image(path))),
            ("`read_image`, JPEG, draft to half", least(lambda: read_image(path, draft=(187, 250)))),
            ("`read_image`, PNG", least(lambda: read_image(png))),
            ("`image_size`, JPEG", least(lambda: image_size(path))),
        ]


def report(arguments: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "pillow"))
    lines = [
        "# Data",
        "",
        f"`python benchmarks/data.py --images {arguments.images} --boxes {arguments.boxes}`",
        "",
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}; {versions}; load average before {os.getloadavg()[0]:.1f}. "
        "Method: a fresh process each; memory in MB (2²⁰ bytes) from /proc/self, beyond what the process held with the "
        "library loaded and a small file opened; "
        f"the least of {arguments.runs} runs for times, the most for memory.",
        "",
        f"## A COCO JSON of {arguments.boxes} boxes on {arguments.images} images, annotations in random order",
        "",
        "| | boxes alone | boxes and polygons of 4 points |",
        "|---|---:|---:|",
    ]
    results = [run(arguments.images, arguments.boxes, polygons, arguments.runs) for polygons in (False, True)]

    def row(name: str, value: Any) -> None:
        lines.append(f"| {name} | " + " | ".join(value(several) for several in results) + " |")

    row("the file", lambda r: f"{r[0]['file']:.0f}")
    row("columns", lambda r: f"{r[0]['columns']:.0f}")
    row("**held after opening**", lambda r: f"**{max(one['held'] for one in r):.0f}**")
    row("the whole process then (interpreter, torch and all)", lambda r: f"{max(one['total'] for one in r):.0f}")
    row("peak while opening", lambda r: f"{max(one['peak'] for one in r):.0f}")
    row("seconds to open", lambda r: f"{min(one['seconds'] for one in r):.1f}")
    row("µs a `target(i)`", lambda r: f"{min(one['target'] for one in r):.0f}")
    row("a worker's own memory at most, reading all targets", lambda r: f"{max(one['worker'] for one in r):.1f}")
    row("the same, reading the small file's as often", lambda r: f"{max(one['plain'] for one in r):.1f}")
    lines += [
        "",
        "A worker's own memory is Private_Dirty of a process forked by `torch.utils.data.DataLoader` (2 workers,",
        "measured 40 times): pages that it no longer shares with its parent. What it owns is what Python and torch",
        "touch in any worker; a copy of the columns would show as their size.",
        "",
        "## Reading an image of 500×375, one thread",
        "",
        "| | ms |",
        "|---|---:|",
        *(f"| {name} | {value:.2f} |" for name, value in image_times()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--boxes", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="the report's file; printed if not given")
    parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    text = report(arguments)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

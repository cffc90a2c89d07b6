"""Speed of the operators: suppression, region features, IoU.

    python benchmarks/ops.py --threads 1 --runs 31

All rows are measured in one run. After a warm-up, the rows take turns: one call of each, `runs` times over, so that a
disturbance of the machine falls on all of them. Reported are the median and the quickest call in milliseconds, the
least processor time of a call (on a busy machine the nearest to what a free one would take, with one thread), and what
other processes used of the machine meanwhile (100 = one core). Writes `results/ops.md` and `results/ops.json`.

The peer is torchvision 0.27.1, whose operators are compiled, measured with 2 torch threads on the same kind of machine;
its figures are copied here, since it cannot be installed beside this library's own PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import sightline
from sightline.ops.boxes import box_iou
from sightline.ops.regions import multiscale_roi_align, roi_align, roi_pool
from sightline.ops.suppression import batched_nms, nms, soft_nms

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """One thing measured.

    Attributes:
        name: what it is.
        call: does it once.
        target: milliseconds it may take on one thread, where a target is set.
        peer: torchvision's median in milliseconds, where it is known.
        note: sizes, counts.
    """

    name: str
    call: Callable[[], object]
    target: float | None = None
    peer: float | None = None
    note: str = ""


def uniform_boxes(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Corners uniform on 800×800, sides uniform in [1, 120], random scores."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 800
    sides = 1 + torch.rand(count, 2, generator=generator) * 119
    return torch.cat([corner, corner + sides], 1), torch.rand(count, generator=generator)


def clustered_boxes(count: int, clusters: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes around `clusters` uniform ones of sides in [41, 160], each coordinate moved by a few pixels."""
    generator = torch.Generator().manual_seed(seed)
    centres = uniform_boxes(clusters, seed + 1)[0] + torch.tensor([0.0, 0, 40, 40])
    moved = torch.randn(count, 4, generator=generator) * 3
    return centres[torch.randint(clusters, (count,), generator=generator)] + moved, torch.rand(
        count, generator=generator
    )


def regions(count: int, seed: int = 0) -> Tensor:
    """[K, 4] boxes with sides of 16 to 316 pixels on an image of 800×1088, as proposals of a detector are."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([870.0, 640.0])
    sides = 16 + torch.rand(count, 2, generator=generator) * 300
    boxes = torch.cat([corner, corner + sides], 1)
    return torch.minimum(boxes, torch.tensor([1088.0, 800, 1088, 800]))


def grid_sample_roi_align(maps: Tensor, boxes: Tensor) -> Tensor:
    """7×7 bins of 2×2 samples in the obvious way, for comparison."""
    start, extent = boxes[:, :2] / 8, ((boxes[:, 2:] - boxes[:, :2]) / 8).clamp(min=1)
    steps = (torch.arange(14) + 0.5) / 14
    x, y = (start[:, axis, None] + extent[:, axis, None] * steps for axis in (0, 1))
    height, width = maps.shape[2:]
    grid = torch.stack(
        [
            (2 * x / (width - 1) - 1)[:, None].expand(-1, 14, -1),
            (2 * y / (height - 1) - 1)[:, :, None].expand(-1, -1, 14),
        ],
        -1,
    )
    samples = F.grid_sample(maps, grid.reshape(1, -1, 14, 2), padding_mode="border", align_corners=True)
    return F.avg_pool2d(samples.view(maps.shape[1], -1, 14, 14).transpose(0, 1), 2)


def rows() -> list[Row]:
    few, many = uniform_boxes(1000), uniform_boxes(10_000)
    few_close, many_close = clustered_boxes(1000, 40), clustered_boxes(10_000, 900)
    few_labels, many_labels = (
        torch.randint(80, (count,), generator=torch.Generator().manual_seed(3)) for count in (1000, 10_000)
    )
    generator = torch.Generator().manual_seed(4)
    maps = torch.randn(1, 256, 100, 136, generator=generator)
    tracked = maps.clone().requires_grad_()
    incoming = torch.randn(1000, 256, 7, 7, generator=generator)
    boxes, hundred = regions(1000), regions(100)
    pyramid = [torch.randn(1, 256, 200 >> level, 272 >> level, generator=generator) for level in range(4)]

    def gradient(result: Tensor) -> Tensor:
        return torch.autograd.grad(result, tracked, incoming)[0]

    def kept(result: Tensor) -> str:
        return f"{len(result)} kept"

    return [
        Row("nms 1000 uniform boxes", lambda: nms(*few, 0.5), 4, 2.18, kept(nms(*few, 0.5)) + " (peer's boxes: 896)"),
        Row("nms 10000 uniform boxes", lambda: nms(*many, 0.5), 150, 196.052, kept(nms(*many, 0.5)) + " (6144)"),
        Row(
            "nms 1000 clustered boxes", lambda: nms(*few_close, 0.5), None, 0.102, kept(nms(*few_close, 0.5)) + " (39)"
        ),
        Row(
            "nms 10000 clustered boxes",
            lambda: nms(*many_close, 0.5),
            None,
            14.789,
            kept(nms(*many_close, 0.5)) + " (689)",
        ),
        Row("batched_nms 1000 uniform boxes, 80 classes", lambda: batched_nms(*few, few_labels, 0.5), None, 0.818),
        Row("batched_nms 10000 uniform boxes, 80 classes", lambda: batched_nms(*many, many_labels, 0.5), None, 7.137),
        Row("soft_nms 1000 uniform boxes", lambda: soft_nms(*few)),
        Row(
            "roi_align 1000 boxes → 7×7",
            lambda: roi_align(maps, [boxes], 7, 1 / 8, 2),
            45,
            131.015,
            "256×100×136, 2×2 samples",
        ),
        Row("roi_align 100 boxes → 14×14", lambda: roi_align(maps, [hundred], 14, 1 / 8, 2), None, 44.088, "the same"),
        Row(
            "roi_align 1000 boxes → 7×7, forward + backward",
            lambda: gradient(roi_align(tracked, [boxes], 7, 1 / 8, 2)),
            200,
            643.253,
            "the same",
        ),
        Row("roi_align 1000 boxes → 7×7, adaptive", lambda: roi_align(maps, [boxes], 7, 1 / 8), note="the same map"),
        Row(
            "roi_align 1000 boxes → 7×7, largest sample",
            lambda: roi_align(maps, [boxes], 7, 1 / 8, 2, mode="max"),
            note="the same map",
        ),
        Row("roi_pool 1000 boxes → 7×7", lambda: roi_pool(maps, [boxes], 7, 1 / 8), 75, 150.449, "256×100×136"),
        Row(
            "roi_pool 1000 boxes → 7×7, forward + backward",
            lambda: gradient(roi_pool(tracked, [boxes], 7, 1 / 8)),
            note="the same",
        ),
        Row(
            "multiscale_roi_align 1000 boxes → 7×7",
            lambda: multiscale_roi_align(pyramid, [boxes], (800, 1088), 7),
            note="256 channels, 200×272 to 25×34",
        ),
        Row("box_iou 2000×2000", lambda: box_iou(many[0][:2000], many[0][2000:4000]), None, 13.104),
        Row(
            "for comparison: RoI align by grid_sample",
            lambda: grid_sample_roi_align(maps, boxes),
            note="1000 boxes → 7×7, 2×2 samples",
        ),
    ]


def busy_seconds() -> float | None:
    """Core seconds that all processes have used since the machine started, where the system tells."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def measure(what: list[Row], runs: int) -> tuple[list[list[tuple[float, float]]], float | None]:
    """Milliseconds by the clock and on the processor of each call of each row, and what others used meanwhile."""
    for row in what:
        row.call()
        row.call()
    times: list[list[tuple[float, float]]] = [[] for _ in what]
    busy, own, wall = busy_seconds(), time.process_time(), time.perf_counter()
    for _ in range(runs):
        for row, taken in zip(what, times, strict=True):
            start, start_cpu = time.perf_counter(), time.process_time()
            row.call()
            taken.append(((time.perf_counter() - start) * 1000, (time.process_time() - start_cpu) * 1000))
    own, wall = time.process_time() - own, time.perf_counter() - wall
    after = busy_seconds()
    others = None if busy is None or after is None else max(after - busy - own, 0) / wall * 100
    return times, others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--runs", type=int, default=31, help="calls of each row after the warm-up")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder to write to")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    what = rows()
    times, others = measure(what, arguments.runs)

    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sightline": sightline.__version__,
        "torch_threads": arguments.threads,
        "runs": arguments.runs,
        "other_processes_cpu_percent": None if others is None else round(others, 1),
    }
    figures = []
    for row, taken in zip(what, times, strict=True):
        clock, processor_time = zip(*taken, strict=True)
        figures.append(
            {"name": row.name, "target": row.target, "peer": row.peer, "note": row.note}
            | {"median_ms": statistics.median(clock), "min_ms": min(clock), "max_ms": max(clock)}
            | {"min_processor_ms": min(processor_time)}
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "ops.json").write_text(json.dumps({"machine": machine, "rows": figures}, indent=1) + "\n")
    text = report(machine, figures, arguments)
    (arguments.out / "ops.md").write_text(text)
    print(text)


def report(machine: dict[str, object], figures: list[dict[str, object]], arguments: argparse.Namespace) -> str:
    def cell(value: object) -> str:
        return "" if value is None else f"{value:.2f}" if isinstance(value, float) and value < 100 else f"{value:.0f}"

    used = machine["other_processes_cpu_percent"]
    lines = [
        "# Speed of the operators",
        "",
        f"`python benchmarks/ops.py --threads {arguments.threads} --runs {arguments.runs}`",
        "",
        f"Machine: {machine['processor']} ({machine['capability']}), {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}, torch {machine['torch']}, sightline {machine['sightline']}; "
        f"{machine['torch_threads']} torch thread(s), no accelerator, plain PyTorch (no numba).",
        "",
        f"Method: two calls to warm up, then {machine['runs']} rounds of one call of each row in turn; median and "
        "minimum by the clock and minimum of processor time, in milliseconds. Other processes meanwhile used "
        f"{'an unknown part' if used is None else f'{used} %'} of a core; where that is much, the minima are the "
        "fairer figures.",
        "",
        "Peer: median of torchvision 0.27.1 (compiled operators, torch 2.12.1, 2 torch threads) on the same kind of "
        "machine, on boxes of its own draw.",
        "",
        "| what | median | min | processor | target | peer | note |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in figures:
        numbers = (cell(row[key]) for key in ("median_ms", "min_ms", "min_processor_ms", "target", "peer"))
        lines.append(f"| {row['name']} | {' | '.join(numbers)} | {row['note']} |")
    missed = [row["name"] for row in figures if row["target"] is not None and row["median_ms"] > row["target"]]  # type: ignore[operator]
    lines += ["", f"Targets missed by the median: {', '.join(map(str, missed)) or 'none'}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

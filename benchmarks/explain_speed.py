"""The time that each explanation method takes on one image, and that of Grad-CAM beside a forward and backward pass.

    python benchmarks/explain_speed.py [--threads 2]

One box of `sightline_n` at 320 pixels, with random weights (their values do not change the time). LIME has 1000
samples, RISE and D-RISE 1000 masks. Times are wall time and CPU time of one explanation after one small one for warming
up; for the CAM family and for the plain passes the median of nine. Writes benchmarks/results/explain_speed.md and
explain_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import sightline as sl
from sightline.explain.explanation import explain_image
from sightline.explain.method import Method
from sightline.explain.methods import METHODS, method_named, settings_of
from sightline.explain.target import prepared
from sightline.explain.targets import candidate_box
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results"
SIDE = 320
LIMIT = 60.0
"""Seconds that LIME and D-RISE may take."""


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Wall and CPU seconds of one call, medians over the repeats."""
    walls, clocks = [], []
    for _ in range(repeats):
        wall, clock = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        clocks.append(time.process_time() - clock)
    return statistics.median(walls), statistics.median(clocks)


def small(name: str) -> Method:
    settings = {"samples": 4, "window": SIDE, "stride": SIDE}
    return method_named(name, **{key: value for key, value in settings.items() if key in settings_of(METHODS[name])})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = sl.create_model("sightline_n", classes=[f"class {i}" for i in range(20)], image_size=SIDE).eval()
    image = torch.rand(3, SIDE, SIDE)
    target = candidate_box(model, image)

    def passes() -> None:
        """A forward and backward pass of the whole network, with gradients of all parameters."""
        target.score(model, prepared(model, image)).sum().backward()

    passes()
    plain = timed(passes, 9)
    model.zero_grad()
    rows: dict[str, tuple[float, float]] = {}
    for name, method in METHODS.items():
        if name == "cam":  # a detector does not end in global average pooling
            continue
        explain_image(model, image, small(name), target)
        quick = method.needs_layer and name != "score_cam"
        rows[name] = timed(lambda name=name: explain_image(model, image, name, target), 9 if quick else 1)
        print(f"{name}: {rows[name][0]:.2f} s ({rows[name][1]:.2f} s CPU)", flush=True)
    write(rows, plain, args.threads, os.getloadavg()[0])


def write(rows: dict[str, tuple[float, float]], plain: tuple[float, float], threads: int, load: float) -> None:
    lines = [
        "# Time of explanations",
        "",
        f"{cpu_name()}, {threads} threads, torch {torch.__version__}, load {load:.1f}; one box of `sightline_n` "
        f"with 20 classes at {SIDE}×{SIDE} pixels; `python benchmarks/explain_speed.py`.",
        "",
        "| method | evaluations | wall time, s | CPU time, s |",
        "|---|---:|---:|---:|",
    ]
    for name, (wall, clock) in rows.items():
        count = getattr(METHODS[name](), "samples", None)
        lines.append(f"| {name} | {count or ''} | {wall:.2f} | {clock:.2f} |")
    ratio = rows["grad_cam"][1] / plain[1]
    walls, clocks = zip(*(rows[name] for name in ("lime", "d_rise")), strict=True)
    met = "within" if max(walls) <= LIMIT else "not within"
    lines += [
        "",
        f"A forward and backward pass takes {plain[0]:.3f} s ({plain[1]:.3f} s CPU). Grad-CAM costs {ratio:.2f}× as "
        f"much CPU time. LIME and D-RISE are {met} {LIMIT:g} s of wall time at this load ({max(walls):.0f} s); they "
        f"take {max(clocks):.0f} s of CPU time.",
        "",
    ]
    (RESULTS / "explain_speed.md").write_text("\n".join(lines), encoding="utf-8")
    values = {"load": load, "threads": threads, "plain": plain, "methods": rows}
    (RESULTS / "explain_speed.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What a rendered scene costs, with all its ground truth, on one core.

    OMP_NUM_THREADS=1 python benchmarks/scenes.py [--scenes 100] [--runs 15] [--out benchmarks/results/scenes.md]

Each seed is rendered several times and its least time counts, as neighbours on the machine only ever add to it. The
passes go through all seeds, so that a busy second does not hit all runs of one.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.scenes import Scene, render, scenes, video


def with_everything(scene: Scene) -> Scene:
    """Also what is made only when asked for."""
    for _ in scene.masks, scene.keypoints, scene.cuboids, scene.boxes:
        pass
    for item in scene.objects:
        item.mesh()
    return scene


def least_times(make: Callable[[int], Any], seeds: Sequence[int], runs: int) -> np.ndarray:
    """Milliseconds [seeds], the least of `runs`."""
    best = np.full(len(seeds), np.inf)
    for _ in range(runs):
        for i, seed in enumerate(seeds):
            start = time.perf_counter()
            make(seed)
            best[i] = min(best[i], time.perf_counter() - start)
    return best * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    render(0)
    load = os.getloadavg()[0]
    seeds = range(options.scenes)
    rows = [
        ("`render`, 160×160", least_times(render, seeds, options.runs)),
        (
            "the same with masks and meshes made",
            least_times(lambda seed: with_everything(render(seed)), seeds, options.runs),
        ),
        ("the same, 320×320", least_times(lambda seed: with_everything(render(seed, 320)), seeds[:30], 5)),
        ("the same, 480×640", least_times(lambda seed: with_everything(render(seed, (480, 640))), seeds[:20], 3)),
        ("`video`, 16 frames at 160×160, a frame", least_times(lambda seed: video(seed, 16), seeds[:20], 3) / 16),
        ("`scenes(20)`, 160×160, a scene", least_times(lambda seed: scenes(20, seed=seed), seeds[:5], 3) / 20),
    ]
    lines = [
        "# Scenes",
        "",
        f"`OMP_NUM_THREADS=1 python benchmarks/scenes.py --scenes {options.scenes} --runs {options.runs}`",
        "",
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python "
        f"{platform.python_version()}, numpy {version('numpy')}; one thread; load average before {load:.1f}. "
        "Method: wall time of each seed, the least of several runs; then mean, median and so on over the seeds. "
        "A scene has 2 to 7 objects; boxes, cuboids, keypoints, captions, relations, depth, semantic and instance map "
        "are always made.",
        "",
        "| what | mean ms | median | 90 % | most | seeds |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for what, times in rows:
        lines.append(
            f"| {what} | {times.mean():.1f} | {np.median(times):.1f} | {np.quantile(times, 0.9):.1f} "
            f"| {times.max():.1f} | {len(times)} |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()

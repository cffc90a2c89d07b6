"""bf16 against float32 on a processor: single convolutions, and whole training steps with and without the guard.

    python benchmarks/half.py

What `sightline.training.half` keeps in float32, and what that brings. One thread; medians. Writes
benchmarks/results/half.md.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sightline as sl
from sightline.training.half import guarded
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
DEPTHWISE = [(96, 80, 3, 1), (96, 80, 3, 2), (240, 20, 3, 2), (120, 20, 5, 1), (72, 40, 5, 2), (672, 10, 5, 1)]
"""Channels, side, kernel, stride."""
MODELS = {
    "fcn32s_mobilenet_v2": "class_map",
    "unet_mobilenet_v2": "class_map",
    "lraspp_mobilenet_v3_large": "class_map",
    "ssdlite320_mobilenet_v2": "instances",
    "sightline_n": "instances",
}


def median_ms(call: Callable[[], Any], rounds: int = 7) -> float:
    """Milliseconds of the median call, after two that do not count."""
    spent = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        call()
        spent.append(1e3 * (time.perf_counter() - began))
    return statistics.median(spent[2:])


def convolution(channels: int, side: int, kernel: int, stride: int, dtype: torch.dtype) -> float:
    """Forward and backward pass of a depthwise convolution of 8 images, channels last."""
    conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False).to(dtype)
    x = torch.randn(8, channels, side, side).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()

    def both() -> None:
        y: Tensor = conv(x)
        y.backward(torch.ones_like(y))

    return median_ms(both)


def steps(model: Any, images: list[Tensor], targets: list[Any], rounds: int = 5) -> list[float]:
    """Training steps without the optimizer, in float32, in bf16 and in bf16 with the guard, in turns."""
    spent: list[list[float]] = [[], [], []]
    for turn in range(rounds + 1):
        for times, (half, guard) in zip(spent, ((False, False), (True, False), (True, True)), strict=True):
            began = time.perf_counter()
            with guarded(CPU, "bf16") if guard else nullcontext(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                losses = model(images, targets)
            sum(losses.values()).backward()
            if turn:
                times.append(1e3 * (time.perf_counter() - began))
    return [statistics.median(times) for times in spent]


def main() -> None:
    torch.set_num_threads(1)
    load = round(os.getloadavg()[0], 1)
    lines = [
        "# bf16 on a processor",
        "",
        f"{cpu_name()}, 1 thread of {os.cpu_count()} cores, load before {load}; Python {platform.python_version()},",
        f"torch {torch.__version__}. Medians, ms. Made by `python benchmarks/half.py`.",
        "",
        "Depthwise convolutions of 8 images, channels last, forward and backward:",
        "",
        "| channels | side | kernel | stride | float32 | bf16 |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for shape in DEPTHWISE:
        full, half = (convolution(*shape, dtype) for dtype in (torch.float32, torch.bfloat16))
        lines.append(f"| {' | '.join(map(str, shape))} | {full:.1f} | {half:.1f} |")
        print(lines[-1], flush=True)
    lines += [
        "",
        "Training steps of 8 scenes (losses and gradients), 160×160 pixels or the model's own size; guarded: what is",
        "wrong or slow in bf16 stays in float32, as in every training here. Unguarded, some do not learn:",
        "",
        "| model | float32 | bf16, unguarded | bf16, guarded |",
        "|---|---:|---:|---:|",
    ]
    for name, kind in MODELS.items():
        data = sl.scenes(8, 160, seed=0, kind=kind)
        images, targets = map(list, zip(*(data[i] for i in range(8)), strict=True))
        torch.manual_seed(0)
        times = steps(sl.create_model(name, data.classes).train(), images, targets)
        lines.append(f"| {name} | {' | '.join(f'{t:.0f}' for t in times)} |")
        print(lines[-1], flush=True)
    (RESULTS / "half.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

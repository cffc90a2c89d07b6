"""Truncated SVD of Fast R-CNN's dense layers (Girshick 2015, sections 3.1 and 4.4): seconds of the head of VGG-16.

    python benchmarks/svd.py

fc6 keeps 1024 singular values, fc7 256, as in the paper. The weights are random, which changes no time. One thread;
median of the runs, of the processor's seconds. Prints a line for benchmarks/results/svd.md.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

import sightline as sl
from sightline.nn.layers.svd import compress_dense
from sightline.training.run import cpu_name


def seconds(head: torch.nn.Module, regions: torch.Tensor, runs: int = 5) -> float:
    spent = []
    with torch.inference_mode():
        for _ in range(runs + 1):
            began = time.process_time()
            for part in regions.split(500):
                head(part)
            spent.append(time.process_time() - began)
    return sorted(spent[1:])[runs // 2]


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = sl.create_model("fast_rcnn_vgg16", [str(i) for i in range(20)])
    head = model.roi_heads.box_head.eval()  # type: ignore[union-attr]
    regions = torch.randn(2000, 512, 7, 7)
    whole = seconds(head, regions)
    count = sum(p.numel() for p in head.parameters())
    compress_dense(head, {"fc6": 1024, "fc7": 256})
    small = seconds(head, regions)
    left = sum(p.numel() for p in head.parameters())
    text = (
        "# Truncated SVD of VGG-16's dense layers in Fast R-CNN\n\n"
        f"{cpu_name()}, one thread, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}; "
        "`python benchmarks/svd.py`. Seconds of the processor for fc6 and fc7 alone.\n\n"
        "| fc6, fc7 | parameters | s for 2000 regions |\n|---|---:|---:|\n"
        f"| whole | {count / 1e6:.1f} M | {whole:.2f} |\n"
        f"| 1024 and 256 singular values | {left / 1e6:.1f} M | {small:.2f} |\n\n"
        f"{whole / small:.1f}× as fast (paper: an image's whole time falls by over 30 %).\n"
    )
    print(text)
    (Path(__file__).parent / "results" / "svd.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

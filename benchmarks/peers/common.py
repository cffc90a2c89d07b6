"""What the peers' scripts share: their options, the time budget, COCO files, and the facts that they leave.

These scripts are run by the interpreter of an environment that has the peer, and import nothing of Sightline. They read
the folders of benchmarks/suite_sets.py and leave predictions of the test images and facts.json in --out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def parser(description: str) -> argparse.ArgumentParser:
    """The options of every peer."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--model", required=True)
    made.add_argument(
        "--weights", type=Path, default=None, help="MobileNet v2's ImageNet weights, in torchvision's keys"
    )
    made.add_argument("--learn", type=Path, required=True, help="folder of a set, to train on")
    made.add_argument("--test", type=Path, required=True, help="folder of a set, to predict")
    made.add_argument("--out", type=Path, required=True, help="an existing folder for predictions and facts.json")
    made.add_argument("--seconds", type=float, required=True, help="time budget of the training")
    made.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="what the seconds are counted in")
    made.add_argument("--seed", type=int, default=0)
    return made


def clock_of(name: str) -> Any:
    """The function that returns seconds: of the wall clock, or of this process' CPU time."""
    return time.process_time if name == "cpu" else time.monotonic


def workers_of(name: str) -> int:
    """Processes that read images: none by CPU time, which counts this process only; else one beside the training."""
    return 0 if name == "cpu" else 1


class Budget:
    """A time budget, and the learning rate schedule that follows it: a linear warm-up and a cosine to zero.

    Args:
        seconds: of the whole training.
        clock: "wall" or "cpu".
        warmup: steps of the warm-up, which takes at most a tenth of the time.
    """

    def __init__(self, seconds: float, clock: str, warmup: int = 100):
        self.seconds, self.warmup = seconds, warmup
        self._clock = clock_of(clock)
        self._began = self._clock()

    @property
    def share(self) -> float:
        """The share of the time that is used up, from 0; 1 or more at the end."""
        return float((self._clock() - self._began) / self.seconds)

    def set_rate(self, optimizer: torch.optim.Optimizer, rate: float, step: int) -> None:
        """Set the learning rate before a step."""
        share = min(self.share, 1.0)
        warm = min(1.0, max((step + 1) / self.warmup, 10 * share))
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * share))


def read_coco(
    folder: Path, split: str
) -> tuple[list[dict[str, Any]], dict[int, list[dict[str, Any]]], list[dict[str, Any]]]:
    """The images of a split (with "path"), their annotations by image id, and the categories; crowds are left out."""
    content = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
    by_image = defaultdict(list)
    for row in content["annotations"]:
        if not row.get("iscrowd") and row["bbox"][2] > 0 and row["bbox"][3] > 0:
            by_image[row["image_id"]].append(row)
    images = [image | {"path": folder / split / image["file_name"]} for image in content["images"]]
    return images, by_image, content["categories"]


def write_facts(out: Path, packages: list[str], epochs: float, settings: dict[str, Any]) -> None:
    """Write facts.json: epochs, settings, processor, threads and versions."""
    cpu = next(
        (line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.machine()
    )
    facts = {
        "epochs": round(epochs, 1),
        "trained": settings,
        "machine": f"{cpu}, {torch.get_num_threads()} threads",
        "versions": {name: metadata.version(name) for name in packages},
    }
    (out / "facts.json").write_text(json.dumps(facts))


def _cpu_lines() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if os.path.exists(file) else []

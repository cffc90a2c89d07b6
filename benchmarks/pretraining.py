"""Pretrain `sightline_n` on made-up images (benchmarks/clutter.py), with EfficientNet-Lite0 as the teacher of its maps.

    python benchmarks/pretraining.py OUT.safetensors [--minutes 20] [--images 5000] [--no-teacher]
    sightline train DATA --minutes 3 --model sightline_n --weights OUT.safetensors

The network learns to find and to name objects of 256 classes and, at the same time, the maps that the teacher, which
knows ImageNet, has of the same images at strides 8, 16 and 32: a 1×1 convolution per level, which is not kept, turns
its own maps into the teacher's, of which each channel is standardised over the batch. The minutes are CPU time of one
thread in float32 or, where the processor has it, bf16. Everything is drawn by a seed.

The file has weights in float16 and the default arguments of the model. Its copy in the package is named by the first
eight digits of its SHA-256, which are printed (`sightline.models.published`).
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import sightline as sl
from clutter import CLASSES, clutter
from sightline.structures import Instances
from sightline.training import half
from sightline.training.ema import Ema

SIZE, BATCH, RATE, WARMUP = 224, 16, 3e-3, 100
Sample = tuple[Tensor, Instances]


class Teacher(nn.Module):
    """The loss of a network's maps against those of EfficientNet-Lite0.

    Args:
        channels: numbers of channels of the maps that learn, of strides 8, 16 and 32.
    """

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        model: Any = sl.create_model("sightline_lite0", ["object"], weights="imagenet").eval().requires_grad_(False)
        self.body = model.backbone
        with torch.no_grad():
            known = [len(m[0]) for m in self.maps(torch.zeros(1, 3, 64, 64))]
        self.turn = nn.ModuleList(nn.Conv2d(own, its, 1) for own, its in zip(channels, known, strict=True))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The teacher's maps of a normalised batch."""
        return list(self.body(images).values())

    def forward(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """The mean squared error over all levels."""
        with torch.no_grad():
            wanted = [F.batch_norm(m.float(), None, None, training=True) for m in self.maps(images)]
        pairs = zip(self.turn, maps, wanted, strict=True)
        return torch.stack([F.mse_loss(turn(own).float(), its) for turn, own, its in pairs]).mean()


def turned(sample: Sample, draw: np.random.Generator) -> Sample:
    """A square image in one of its eight positions."""
    image, target = sample
    boxes, side = target.boxes, image.shape[-1]
    if draw.random() < 0.5:
        image = image.flip(-1)
        boxes = torch.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], 1)
    for _ in range(int(draw.integers(4))):
        image = image.rot90(1, (-2, -1))
        boxes = torch.stack([boxes[:, 1], side - boxes[:, 2], boxes[:, 3], side - boxes[:, 0]], 1)
    return image, Instances(target.image_size, classes=target.classes, boxes=boxes, labels=target.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20, help="of CPU time for training")
    parser.add_argument(
        "--images", type=int, default=5000, help="how many are rendered; each is seen in eight positions"
    )
    parser.add_argument("--no-teacher", action="store_true", help="learn boxes and classes alone")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model: Any = sl.create_model("sightline_n", CLASSES, weights="none", image_size=SIZE).train()
    pool = [clutter(np.random.default_rng((options.seed, i)), SIZE) for i in tqdm(range(options.images), "rendering")]
    teacher = None if options.no_teacher else Teacher(model.backbone.out_channels)
    save(train(model, pool, options.minutes * 60, teacher), options.out)


def save(model: sl.Model, out: Path) -> None:
    """Write a model for images of any size, with weights in float16, and print the start of the file's SHA-256."""
    plain = sl.create_model("sightline_n", model.classes, weights="none")
    plain.load_state_dict(model.state_dict())
    sl.save(plain.half(), out)
    print(f"{out}: {hashlib.sha256(out.read_bytes()).hexdigest()[:8]}")


def train(model: Any, pool: list[Sample], seconds: float, teacher: Teacher | None) -> sl.Model:
    """Train with AdamW and a cosine schedule over CPU seconds, and return the moving average of the model."""
    seen: dict[str, Sequence[Tensor]] = {}
    average = Ema(model, 0.999)
    model.backbone.register_forward_hook(lambda _, given, maps: seen.update(images=given, maps=maps))
    learned = nn.ModuleList([model, *([] if teacher is None else [teacher.turn])])
    optimizer = torch.optim.AdamW(learned.parameters(), RATE, weight_decay=0.05)
    draw = np.random.default_rng(1)
    precision = "bf16" if half.has_bf16() else "no"
    spent, step, shown = 0.0, 0, tqdm(total=round(seconds), desc="training", unit="s")
    while spent < seconds:
        began = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * spent / seconds))
        images, targets = zip(*(turned(pool[i], draw) for i in draw.integers(len(pool), size=BATCH)), strict=True)
        with half.guarded(torch.device("cpu"), precision), torch.autocast("cpu", enabled=precision == "bf16"):
            losses = model(images, targets)
            taught = torch.zeros(()) if teacher is None else teacher(seen["images"][0], seen["maps"])
        optimizer.zero_grad()
        (torch.stack(list(losses.values())).sum() + 3 * taught).backward()
        nn.utils.clip_grad_norm_(learned.parameters(), 10.0)
        optimizer.step()
        average.update(model)
        step += 1
        shown.update(round(spent + time.process_time() - began) - round(spent))
        spent += time.process_time() - began
        if step % 50 == 0:
            parts = {name.removeprefix("loss_"): f"{value.item():.2f}" for name, value in losses.items()}
            shown.set_postfix(steps=step, teacher=f"{taught.item():.3f}", **parts)
    return average.model


if __name__ == "__main__":
    main()

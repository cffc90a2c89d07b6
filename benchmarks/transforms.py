"""How long it takes to decode and augment one photo of 500×375 pixels, on one core.

    python benchmarks/transforms.py [--runs 200] [--out benchmarks/results/transforms.md]

Every run has a generator of its own, so that the mean is over what the recipe really draws. Time is that
of the processor, which other work on the machine disturbs less than the clock's. The peer is kornia, with boxes.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sightline.data.images import read_image
from sightline.data.transforms import (
    HSV,
    Augmentation,
    Colour,
    HorizontalFlip,
    IoUCrop,
    Kornia,
    PixelNoise,
    Rotate,
    SafeCrop,
    ScaleJitter,
    recipes,
)
from sightline.structures import Instances

SIZE = (375, 500)
PHOTOS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "coco_mini" / "train2017"


def photo() -> tuple[bytes, str]:
    """A JPEG of 500×375: a real photo where there is one, else smooth noise."""
    found = sorted(PHOTOS.glob("*.jpg"))
    if found:
        image, what = Image.open(found[0]).convert("RGB"), "a photo of COCO"
    else:
        noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        image, what = Image.fromarray(noise), "smooth noise"
    buffer = io.BytesIO()
    image.resize(SIZE[::-1], Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue(), what


def objects(count: int, masks: bool = False) -> Instances:
    """Random boxes, with elliptic masks where wanted."""
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 250, (count, 2))
    boxes = torch.from_numpy(np.concatenate([low, low + generator.uniform(20, 120, (count, 2))], axis=1)).float()
    fields = {}
    if masks:
        y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
        centre, radius = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        place = torch.stack([x, y], dim=-1) + 0.5
        fields["masks"] = (((place - centre[:, None, None]) / radius[:, None, None]) ** 2).sum(-1) <= 1
    return Instances(SIZE, boxes=boxes, labels=torch.zeros(count, dtype=torch.int64), **fields)


def timed(action: Callable[[np.random.Generator], object], runs: int) -> list[float]:
    """Milliseconds of processor time of each run, run i with seed i."""
    action(np.random.default_rng(0))
    times = []
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        start = time.process_time()
        action(generator)
        times.append(1000 * (time.process_time() - start))
    return times


def main() -> None:
    """Measure, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    content, what = photo()
    target, masked = objects(8), objects(8, masks=True)
    import kornia.augmentation as peer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        path.write_bytes(content)
        image = read_image(path)

        def augment(transform: Augmentation, to: Instances = target) -> Callable[[np.random.Generator], object]:
            return lambda generator: transform(image, to, generator)

        def both(transform: Augmentation) -> Callable[[np.random.Generator], object]:
            return lambda generator: transform(read_image(path), target, generator)

        cases = {
            "decode alone": lambda generator: read_image(path),
            "**decode + `recipes.detection()`**": both(recipes.detection()),
            "decode + `recipes.detection('light')`": both(recipes.detection("light")),
            "decode + `recipes.detection('strong')`": both(recipes.detection("strong")),
            "decode + `recipes.ssd()`": both(recipes.ssd()),
            "`recipes.detection()`": augment(recipes.detection()),
            "`recipes.detection()` with 8 masks": augment(recipes.detection(), masked),
            "`recipes.detection('strong')` with 8 masks": augment(recipes.detection("strong"), masked),
            "flip": augment(HorizontalFlip(1)),
            "`SafeCrop` (slice)": augment(SafeCrop(p=1)),
            "`IoUCrop` (slice)": augment(IoUCrop()),
            "`ScaleJitter` (resize of a box)": augment(ScaleJitter()),
            "`Rotate` (bilinear sampling)": augment(Rotate()),
            "`Colour` (one matrix)": augment(Colour(p=1)),
            "`HSV`": augment(HSV()),
            "`PixelNoise`": augment(PixelNoise(p=1)),
            "kornia: flip": augment(Kornia(peer.RandomHorizontalFlip(p=1.0))),
            "kornia: affine (turn, shift, scale)": augment(
                Kornia(peer.RandomAffine(10.0, (0.1, 0.1), (0.7, 1.4), p=1.0))
            ),
            "kornia: colour jiggle": augment(Kornia(peer.ColorJiggle(0.2, 0.2, 0.3, 0.02, p=1.0))),
        }
        rows = [(name, timed(action, arguments.runs)) for name, action in cases.items()]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "pillow", "kornia"))
    text = (
        f"# Augmentation\n\n`python benchmarks/transforms.py --runs {arguments.runs}`\n\n"
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}; {versions}; one thread; load average before {load:.1f}. "
        f"Method: processor time of {arguments.runs} runs after a first, each with a generator of its own; "
        f"{what} as JPEG of 500×375 at quality 90, 8 boxes.\n\n"
        "| what | mean ms | median ms | min ms |\n|---|---:|---:|---:|\n"
    )
    text += "".join(
        f"| {name} | {np.mean(times):.2f} | {np.median(times):.2f} | {np.min(times):.2f} |\n" for name, times in rows
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()

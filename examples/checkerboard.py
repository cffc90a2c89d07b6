"""The checkerboard of transposed convolutions, and what to do about it, in one picture.

    python examples/checkerboard.py [--out checkerboard.png]

A transposed convolution stamps its kernel, and stamps that overlap add. Where the kernel's side is no multiple of the
stride, some pixels lie under more stamps than their neighbours, so that even a flat map comes out as a checkerboard,
and learning has to fight it. Three ways up are shown, on a flat map with a kernel of ones and on a smooth map with a
random kernel:

- a transposed convolution, kernel 3, stride 2: pixels lie under 1, 2 or 4 stamps;
- kernel 4, stride 2: every pixel lies under 4, the amount is even, though a kernel may still put its own pattern there;
- enlarged by copies and then convolved: no pattern can arise, whatever the kernel.

Odena, Dumoulin, Olah, "Deconvolution and checkerboard artifacts", Distill 2016.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from sightline.ops.upsampling import upsample_nearest

SIDE, ZOOM, TEXT = 12, 11, 14  # cells of the map, screen pixels a pixel, height of a line of text


def transposed(x: Tensor, kernel: Tensor) -> Tensor:
    """Doubled by a transposed convolution: [1, 1, H, W] → about [1, 1, 2 H, 2 W]."""
    return F.conv_transpose2d(x, kernel, stride=2, padding=1)


def resized(x: Tensor, kernel: Tensor) -> Tensor:
    """Doubled by copies, then a convolution."""
    return F.conv2d(F.pad(upsample_nearest(x), (1, 1, 1, 1), mode="replicate"), kernel)


def ways() -> dict[str, list[Tensor]]:
    """Each way's answers to the flat and to the smooth map, without the border: [H, W] each."""
    flat = torch.ones(1, 1, SIDE, SIDE)
    ramp = torch.linspace(-1, 1, SIDE)
    smooth = torch.exp(-2 * (ramp[:, None] ** 2 + ramp**2))[None, None]
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[Tensor]] = {}
    for title, side, grow in (
        ("transposed, kernel 3, stride 2", 3, transposed),
        ("transposed, kernel 4, stride 2", 4, transposed),
        ("resize, then kernel 3", 3, resized),
    ):
        kernels = torch.ones(1, 1, side, side), torch.rand(1, 1, side, side, generator=generator)
        answers = [grow(x, kernel)[0, 0] for x, kernel in zip((flat, smooth), kernels, strict=True)]
        found[title] = [answer[3:-3, 3:-3] for answer in answers]
    return found


def unevenness(x: Tensor) -> float:
    """How much a map changes from each pixel to the next beyond a smooth change: mean second difference over mean."""
    across, down = x.diff(n=2, dim=1).abs().mean(), x.diff(n=2, dim=0).abs().mean()
    return float((across + down) / x.mean())


def main(out: str | Path = "checkerboard.png") -> dict[str, list[float]]:
    """Write the picture; gives each way's unevenness on the flat and on the smooth map."""
    found = ways()
    widths = [max(answer.shape[1] for answer in answers) * ZOOM for answers in found.values()]
    gap = 2 * TEXT
    height = max(answer.shape[0] for answers in found.values() for answer in answers) * ZOOM
    sheet = Image.new("RGB", (sum(widths) + gap * (len(widths) + 1), 2 * (height + 2 * gap)), "white")
    pen, left = ImageDraw.Draw(sheet), gap
    numbers = {}
    for (title, answers), width in zip(found.items(), widths, strict=True):
        numbers[title] = [unevenness(answer) for answer in answers]
        for row, (kind, answer) in enumerate(zip(("flat map", "smooth map"), answers, strict=True)):
            top = row * (height + 2 * gap) + gap + TEXT
            pen.text((left, top - 2 * TEXT - 4), f"{title}\n{kind}: uneven by {numbers[title][row]:.2f}", fill="black")
            grey = (answer / answer.max() * 220).round().to(torch.uint8)
            picture = Image.fromarray(grey.numpy()).resize(
                (answer.shape[1] * ZOOM, answer.shape[0] * ZOOM), Image.Resampling.NEAREST
            )
            sheet.paste(picture, (left, top))
        left += width + gap
        print(f"{title}: uneven by {numbers[title][0]:.3f} on the flat map, {numbers[title][1]:.3f} on the smooth one")
    sheet.save(out)
    print(f"{out}: written")
    return numbers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="checkerboard.png", help="the picture to write (default: %(default)s)")
    main(parser.parse_args().out)

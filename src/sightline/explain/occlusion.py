"""Occlusion sensitivity (Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014, section 4.2):
a square moves over the image; the heat of a pixel is the mean fall of the score over the squares that cover it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.explain.method import Frame, Function, Perturbation, image_size
from sightline.runtime.values import require_whole

_PART = 6
"""The default window is this part of the shorter side."""


@dataclass(frozen=True)
class Occlusion(Perturbation):
    """The fall of the score when a square is covered.

    Args:
        window: side of the square in pixels of the batch; by default a sixth of the shorter side of the image.
        stride: step of the square in pixels; by default half the window.
    """

    name = "occlusion"
    signed = True
    window: int | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window", "stride"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), 1, "image_side", "leave it out for the default")

    def explain(
        self, function: Function, inputs: Tensor, layer: nn.Module | None = None, frame: Frame | None = None
    ) -> Tensor:
        height, width = image_size(inputs)
        window = min(self.window or max(1, round(min(height, width) / _PART)), height, width)
        stride = self.stride or max(1, window // 2)
        places = [(y, x) for y in _starts(height, window, stride) for x in _starts(width, window, stride)]
        base = self.removed(inputs)

        def changed(start: int, stop: int) -> Tensor:
            copies = inputs.expand(stop - start, -1, -1, -1).clone()  # unlike repeat, keeps the memory format
            for copy, (y, x) in zip(copies, places[start:stop], strict=True):
                copy[:, y : y + window, x : x + window] = base[0, :, y : y + window, x : x + window]
            return copies

        with torch.no_grad():
            whole = function(inputs).float()
        falls = whole - self.scores(function, len(places), changed)
        total, covered = falls.new_zeros(height, width), falls.new_zeros(height, width)
        for fall, (y, x) in zip(falls, places, strict=True):
            total[y : y + window, x : x + window] += fall
            covered[y : y + window, x : x + window] += 1
        return total / covered.clamp(min=1)  # a stride above the window leaves gaps


def _starts(side: int, window: int, stride: int) -> list[int]:
    """The first pixels of the windows along a side; the last window ends at the edge."""
    steps = math.ceil((side - window) / stride)
    return [min(i * stride, side - window) for i in range(steps + 1)]

"""RISE (Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", 2018, section 3): the
heat of a pixel is the mean score of randomly masked images, weighted by the pixel's mask values.

Departure: the mean score is subtracted before the sum. That changes the expected heat only by a constant, and removes
the noise from how often each pixel happened to be visible; positive heat means that the score is above its mean while
the pixel is visible. The paper scores probabilities; here a target decides what its score is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.explain.method import Frame, Function, Perturbation, image_size
from sightline.runtime.values import require_number, require_whole
from sightline.structures import Size


@dataclass(frozen=True)
class RISE(Perturbation):
    """Random masks: the mean score of the masked images in which a pixel is visible.

    Args:
        samples: number of masks (the paper: 4000 to 8000).
        cells: cells of the random grid along each side of the image.
        keep: probability that a cell is visible.
    """

    name = "rise"
    signed = True
    samples: int = 1000
    cells: int = 7
    keep: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("samples", self.samples, 2, "count", "give 1000 masks if in doubt")
        require_whole("cells", self.cells, 1, 1000, "give 7 if in doubt")
        require_number("keep", self.keep, 0.01, 0.99, "give 0.5 if in doubt", "a probability")

    def explain(
        self, function: Function, inputs: Tensor, layer: nn.Module | None = None, frame: Frame | None = None
    ) -> Tensor:
        size, base = image_size(inputs), self.removed(inputs)
        generator = torch.Generator().manual_seed(self.seed)
        grids, shifts = self.grids(size, generator)
        grids = grids.to(inputs)

        def masks(start: int, stop: int) -> Tensor:
            return _masks(grids[start:stop], shifts[start:stop], size)

        def changed(start: int, stop: int) -> Tensor:
            return torch.lerp(base, inputs, masks(start, stop)[:, None])

        scores = self.scores(function, self.samples, changed)
        above = (scores - scores.mean()).to(inputs)
        heat = inputs.new_zeros(size)
        for start in range(0, self.samples, self.batch_size):  # masks are made again, since all would fill the memory
            stop = min(start + self.batch_size, self.samples)
            heat += torch.einsum("n,nhw->hw", above[start:stop], masks(start, stop))
        return heat.float() / (self.keep * self.samples)

    def grids(self, size: Size, generator: torch.Generator) -> tuple[Tensor, list[tuple[int, int]]]:
        """Random grids [samples, 1, cells + 1, cells + 1] of 0 and 1, and the shift (y, x) of each in pixels."""
        side = self.cells + 1  # one cell more, so that a shifted grid covers the image
        grids = (torch.rand((self.samples, 1, side, side), generator=generator) < self.keep).float()
        steps = [-(-s // self.cells) for s in size]
        shifts = [torch.randint(step, (self.samples,), generator=generator).tolist() for step in steps]
        return grids, list(zip(*shifts, strict=True))


def _masks(grids: Tensor, shifts: list[tuple[int, int]], size: Size) -> Tensor:
    """Grids [n, 1, s + 1, s + 1], enlarged bilinearly and cut at their shifts: masks [n, H, W] in [0, 1]."""
    height, width = size
    cells = grids.shape[-1] - 1
    large_size = ((cells + 1) * -(-height // cells), (cells + 1) * -(-width // cells))
    large = F.interpolate(grids, size=large_size, mode="bilinear", align_corners=False)[:, 0]
    cut = [own[y : y + height, x : x + width] for own, (y, x) in zip(large, shifts, strict=True)]
    return torch.stack(cut)

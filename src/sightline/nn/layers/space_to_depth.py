"""Space-to-depth: rearranges blocks of cells into channels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError


class SpaceToDepth(nn.Module):
    """[N, C, H, W] → [N, C·s², H / s, W / s]: each block of s × s cells is rearranged into channels.

    Channel c of the cell at row i and column j of its block becomes channel c·s² + i·s + j.

    Args:
        factor: block size s; H and W must be multiples of it.
    """

    def __init__(self, factor: int = 2):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        _check(x, self.factor)
        return F.pixel_unshuffle(x, self.factor)

    def extra_repr(self) -> str:
        return str(self.factor)


class DarknetReorg(SpaceToDepth):
    """[N, C, H, W] → [N, C·s², H / s, W / s] in the order of darknet's layer "reorg", for its published weights.

    Darknet interprets the memory of the map as a map of shape [C / s², H·s, W·s] and rearranges its blocks: channel
    (i·s + j)·C / s² + c of the result is channel c of that map at rows i, i + s, … and columns j, j + s, … The result
    is interpreted as [C·s², H / s, W / s]. So a cell of the output contains values of distant cells. Only use this
    layer for weights that were trained with it; otherwise use `SpaceToDepth`.

    C must be a multiple of s².
    """

    def forward(self, x: Tensor) -> Tensor:
        s = self.factor
        _check(x, s)
        n, c, h, w = x.shape
        if c % s**2:
            raise InputError(f"a map of {c} channels cannot be reordered by {s}: give a multiple of {s**2}")
        # [N, C/s², H·s, W·s] → blocks [N, C/s², H, i, W, j] → [N, i, j, C/s², H, W]
        blocks = x.reshape(n, c // s**2, h, s, w, s).permute(0, 3, 5, 1, 2, 4)
        return blocks.reshape(n, c * s**2, h // s, w // s)


def _check(x: Tensor, factor: int) -> None:
    if x.shape[-2] % factor or x.shape[-1] % factor:
        raise InputError(
            f"a map of {list(x.shape[-2:])} cells has no blocks of {factor} × {factor}; "
            f"give images whose map has sides that are multiples of {factor}"
        )

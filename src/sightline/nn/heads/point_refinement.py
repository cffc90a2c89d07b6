"""Move predicted positions by what a map shows at them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.ops.sampling import values_at


class PointRefinement(nn.Module):
    """A correction of P positions of each object, from a map's values at these positions.

    A point of a dense head guesses all positions from the values of its one cell. Here each position is corrected by
    the values where it was guessed, what the point knows of its object, and which of the P positions it is, through two
    layers. The last layer starts at zero, so that the guess is not changed at first.

    Args:
        channels: number of channels of the map, and of what is known of each object.
        positions: P.
        stride: of the map, in pixels of the batch.
        hidden: number of values in between.

    Source: the refinement of reference points in Zhu et al., "Deformable DETR", 2021, appendix A.4, with one sample
    per position, as in Xiao et al., "AdaptivePose", 2022, section 3.
    """

    def __init__(self, channels: int, positions: int, stride: int = 8, hidden: int = 64):
        super().__init__()
        self.stride = stride
        self.shown = nn.Conv2d(channels, hidden, 1)
        self.known = nn.Linear(channels, hidden, bias=False)
        self.kind = nn.Parameter(torch.randn(positions, hidden) * 0.1)
        self.between = nn.Linear(hidden, hidden)
        self.moves = nn.Linear(hidden, 2)
        nn.init.zeros_(self.moves.weight)
        nn.init.zeros_(self.moves.bias)

    def forward(self, finest: Tensor, images: Tensor, known: Tensor, positions: Tensor) -> Tensor:
        """The corrected positions.

        Args:
            finest: the map [N, C, H, W].
            images: [D] int64, image of each object.
            known: [D, C], what is known of each object.
            positions: [D, P, 2] x, y in pixels of the batch; they get no gradient from here.

        Returns:
            [D, P, 2] x, y in pixels of the batch.
        """
        start = positions.detach()
        values = values_at(self.shown(finest), images, start / self.stride)
        values = nn.functional.silu(values + self.known(known)[:, None] + self.kind)
        moves = self.moves(nn.functional.silu(self.between(values)))
        return start + moves.float() * self.stride

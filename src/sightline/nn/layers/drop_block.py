"""DropBlock: Ghiasi, Lin, Le, "DropBlock: a regularization method for convolutional networks", NeurIPS 2018."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError


class DropBlock(nn.Module):
    """In training, set square blocks of each channel to 0 and scale up the rest (algorithm 1); otherwise the identity.

    Neighbouring cells are correlated, so dropping single cells removes little information.

    Args:
        prob: approximate fraction of cells to drop; it may be changed between epochs (the paper's schedule).
        size: side of a block in cells; limited by the shorter side of the map.

    Each channel has its own blocks, which are completely inside the map (section 3).
    """

    def __init__(self, prob: float = 0.1, size: int = 3):
        super().__init__()
        if not 0 <= prob < 1 or size < 1:
            raise InputError(f"prob is {prob} and size {size}, but 0 ≤ prob < 1 and size ≥ 1 must hold")
        self.prob, self.size = prob, size

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        if not self.training or self.prob == 0:
            return x
        height, width = x.shape[-2:]
        size = min(self.size, height, width)
        places = (height - size + 1, width - size + 1)
        gamma = self.prob / size**2 * (height * width) / (places[0] * places[1])  # equation 1
        seeds = (torch.rand(*x.shape[:2], *places, device=x.device) < gamma).to(x.dtype)
        # each seed is the upper left cell of its block
        dropped = F.max_pool2d(F.pad(seeds, [size - 1] * 4), size, 1)
        kept = 1 - dropped
        share = kept.numel() / kept.sum(dtype=torch.float32).clamp(min=1)  # more cells than half precision counts
        return x * kept * share.to(x.dtype)

    def extra_repr(self) -> str:
        return f"prob={self.prob}, size={self.size}"

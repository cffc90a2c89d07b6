"""Stochastic depth: Huang, Sun, Liu, Sedra, Weinberger, "Deep networks with stochastic depth", ECCV 2016."""

from __future__ import annotations

from torch import Tensor, nn

from sightline.errors import InputError


class StochasticDepth(nn.Module):
    """In training, drop the residual branch for a random fraction of the images and scale it up for the others.

    In evaluation it is the identity (the paper scales the branch down in evaluation instead, equation 5).

    Args:
        prob: drop probability in [0, 1), which usually increases with the depth of a block (section 3, "linear decay").
    """

    def __init__(self, prob: float):
        super().__init__()
        if not 0 <= prob < 1:
            raise InputError(
                f"prob is {prob}, but 0 ≤ prob < 1 must hold: a branch that is always dropped learns nothing"
            )
        self.prob = prob

    def forward(self, x: Tensor) -> Tensor:
        """[N, ...] → the same shape, each image's part 0 or 1 / (1 − prob) times its own."""
        if not self.training or self.prob == 0:
            return x
        kept = 1 - self.prob
        return x * x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(kept).div_(kept)

    def extra_repr(self) -> str:
        return f"prob={self.prob:g}"

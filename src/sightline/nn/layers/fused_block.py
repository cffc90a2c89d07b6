"""A residual block in the form that `fuse` can fold."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class FusedBlock(nn.Module):
    """A residual block whose layers lie in a Sequential, where `fuse` folds them: [N, C, H, W] → [N, C', H', W'].

    Args:
        pairs: the convolutions and their norms. All but the last pair are followed by ReLU.
        attention: layer at the end of the branch, or None.
        shortcut: the projection shortcut, or None.
    """

    def __init__(
        self, pairs: Sequence[tuple[nn.Module, nn.Module]], attention: nn.Module | None, shortcut: nn.Module | None
    ):
        super().__init__()
        layers = [layer for pair in pairs for layer in (*pair, nn.ReLU(inplace=True))][:-1]
        self.branch = nn.Sequential(*layers, *([] if attention is None else [attention]))
        self.downsample = shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)

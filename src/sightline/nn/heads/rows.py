"""Helpers of convolutional heads: reshaping of their outputs, and weight initialisation."""

from __future__ import annotations

from torch import Tensor, nn


def map_rows(x: Tensor, width: int) -> Tensor:
    """[N, A·width, H, W] → [N, H·W·A, width]: row by row, cell by cell, anchor by anchor."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, width)


def init_focal(module: nn.Module) -> None:
    """Initialise weights from N(0, 0.01²) and biases to 0 (Lin et al. 2017, "Focal loss", section 4.1)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

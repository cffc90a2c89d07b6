"""Layers that transformers and networks in their manner share."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class Permute(nn.Module):
    """A tensor with its axes in another order, as a layer. `axes`: see `torch.permute`."""

    def __init__(self, *axes: int):
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.axes))


class MapNorm(nn.LayerNorm):
    """Layer normalisation (Ba et al. 2016) over the channels of each cell of a map [N, C, H, W], with ε = 1e-6.

    Args:
        channels: number of channels C.
        eps: ε, added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def feed_forward(channels: int) -> nn.Sequential:
    """Two linear layers with GELU between them, the inner one four times as wide: [..., C] → [..., C]."""
    layers = {"0": nn.Linear(channels, 4 * channels), "1": nn.GELU(), "3": nn.Linear(4 * channels, channels)}
    return nn.Sequential(OrderedDict(layers))  # numbered as in the published weights


def normal_start(module: nn.Module) -> None:
    """Start of a transformer's convolutions and linear layers: normal weights of deviation 0.02, no bias."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

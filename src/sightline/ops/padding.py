"""Reflection padding of any size."""

from __future__ import annotations

import torch
from torch import Tensor


def mirror_pad(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Reflection padding. Unlike PyTorch's, the padding may exceed the size of the map; a single row is repeated.

    Args:
        x: [..., H, W].
        top, bottom, left, right: padding at each border in pixels.

    Returns:
        [..., top + H + bottom, left + W + right].
    """
    rows = _mirrored(x.shape[-2], top, bottom, x.device)
    columns = _mirrored(x.shape[-1], left, right, x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def _mirrored(side: int, before: int, after: int, device: torch.device) -> Tensor:
    places = torch.arange(-before, side + after, device=device)
    if side == 1:
        return torch.zeros_like(places)
    period = torch.full((), 2 * (side - 1), device=device)  # there and back again; a tensor, as exporting needs
    places = places.remainder(period)
    return torch.minimum(places, period - places)

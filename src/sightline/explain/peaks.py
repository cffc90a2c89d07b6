"""The highest places of maps."""

from __future__ import annotations

import torch
from torch import Tensor


def peaks(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The highest cell of each map.

    Cells often share the maximum: the pixels of a superpixel, or the cells where ReLU6 is saturated. Of those, the one
    nearest to their common centre is returned, since the first one lies at their edge.

    Args:
        maps: [C, h, w].

    Returns:
        The maximum, the row and the column, [C] each.
    """
    value = maps.amax((1, 2))
    highest = maps == value[:, None, None]
    rows, columns = (torch.arange(side, device=maps.device, dtype=torch.float32) for side in maps.shape[1:])
    count = highest.sum((1, 2))
    centre_row = (highest.sum(2) * rows).sum(1) / count
    centre_column = (highest.sum(1) * columns).sum(1) / count
    away = (rows - centre_row[:, None])[:, :, None] ** 2 + (columns - centre_column[:, None])[:, None, :] ** 2
    at = away.masked_fill(~highest, torch.inf).flatten(1).argmin(1)
    return value, at // maps.shape[2], at % maps.shape[2]

"""Values of maps between their cells."""

from __future__ import annotations

import torch
from torch import Tensor


def values_at(maps: Tensor, images: Tensor, positions: Tensor) -> Tensor:
    """Bilinear values of maps at positions, those beyond the outermost centres at the nearest place inside.

    As `torch.nn.functional.grid_sample` with border padding, but each row of positions names its image.

    Args:
        maps: [N, C, H, W].
        images: [D] int64, image of each row of positions.
        positions: [D, P, 2] x, y in cells: the first cell reaches from 0 to 1, its centre is at 0.5.

    Returns:
        [D, P, C].
    """
    height, width = maps.shape[-2:]
    x = (positions[..., 0] - 0.5).clamp(0, width - 1)
    y = (positions[..., 1] - 0.5).clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    rows, image = maps.permute(0, 2, 3, 1).flatten(1, 2), images[:, None]
    fraction = torch.stack([x - left, y - top], -1).to(maps.dtype)[..., None, :]
    across, down = fraction[..., 0], fraction[..., 1]

    def value(column: Tensor, row: Tensor) -> Tensor:
        return rows[image, (row * width + column).long()]

    upper = value(left, top) * (1 - across) + value(right, top) * across
    lower = value(left, bottom) * (1 - across) + value(right, bottom) * across
    return upper * (1 - down) + lower * down

"""Image features of vertices: Gkioxari et al. 2019, section 3.3 (vertex alignment); Wang et al. 2018, Pixel2Mesh."""

from __future__ import annotations

import torch
from torch import Tensor


def align_vertices(maps: Tensor, points: Tensor, owner: Tensor) -> Tensor:
    """Sample feature maps bilinearly at projected vertices; differentiable in both the maps and the points.

    Args:
        maps: [N, C, H, W], one map per mesh.
        points: [V, 2] x, y as fractions of the map in [0, 1]: (0, 0) is the outer corner of its first cell. Points
            outside take the value at the border.
        owner: [V] int64, the map of each vertex.

    Returns:
        [V, C] features.
    """
    n, channels, height, width = maps.shape
    size = points.new_tensor([width, height])
    place = (points * size - 0.5).clamp(min=0).minimum(size - 1)
    low = place.detach().floor()
    share = place - low
    low = low.long()
    high = (low + 1).minimum(size.long() - 1)
    rows = maps.permute(0, 2, 3, 1).reshape(n * height * width, channels)
    first = owner * (height * width)
    (x, y), (x1, y1), (x2, y2) = share.unbind(1), low.unbind(1), high.unbind(1)
    total = torch.zeros(())
    for row, column, weight in (
        (y1, x1, (1 - y) * (1 - x)),
        (y1, x2, (1 - y) * x),
        (y2, x1, y * (1 - x)),
        (y2, x2, y * x),
    ):
        total = total + rows[first + row * width + column] * weight[:, None].to(maps.dtype)
    return total

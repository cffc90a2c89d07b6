"""Hard negative mining."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def hard_negatives(loss: Tensor, positive: Tensor, ratio: float = 3.0) -> Tensor:
    """Select the negatives with the largest losses in each image, `ratio` times the number of positives.

    Args:
        loss: [B, N] classification loss of each anchor.
        positive: [B, N] bool, whether an anchor is positive.
        ratio: number of negatives per positive.

    Returns:
        [B, N] bool, False for positives. Images without positives have no negatives. Ties are resolved to the earlier
        anchor.

    Source: Liu et al., SSD, 2016, section 2.2, "Hard negative mining".
    """
    count = ratio * positive.sum(1, keepdim=True)
    order = loss.masked_fill(positive, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    position = torch.arange(loss.shape[1], device=loss.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, position)
    return (rank < count) & ~positive

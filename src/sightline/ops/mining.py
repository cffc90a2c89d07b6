"""Mining: of too many negatives those that are hardest."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def hard_negatives(loss: Tensor, positive: Tensor, ratio: float = 3.0) -> Tensor:
    """The negatives of each image with the largest losses, `ratio` times as many as the image has positives.

    Args:
        loss: [B, N] class loss of each anchor.
        positive: [B, N] bool.
        ratio: negatives for each positive.

    Returns:
        [B, N] bool, false at every positive: fewer where an image has not enough negatives, none where it has no
        positive. Of equal losses the earlier anchor is taken.

    Source: Liu et al., SSD, 2016, section 2.2, "Hard negative mining".
    """
    count = ratio * positive.sum(1, keepdim=True)
    order = loss.masked_fill(positive, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    position = torch.arange(loss.shape[1], device=loss.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, position)
    return (rank < count) & ~positive

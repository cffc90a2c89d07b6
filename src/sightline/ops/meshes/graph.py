"""Sums over the neighbours of each vertex, the core of graph convolution (Gkioxari et al. 2019, section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class Neighbours:
    """The neighbours of each vertex along edges, in the form that `neighbour_sum` needs.

    Args:
        edges: [E, 2] int64 pairs of vertices, each once.
        vertices: number of vertices V.
    """

    def __init__(self, edges: Tensor, vertices: int):
        both = torch.cat([edges, edges.flip(1)])
        order = both[:, 0].argsort(stable=True)
        self.indices = both[order, 1]
        """[2E] the neighbours of vertex 0, then those of vertex 1, …"""
        degrees = torch.bincount(both[:, 0], minlength=vertices)
        self.starts = degrees.cumsum(0) - degrees
        """[V] where the neighbours of each vertex begin."""


def neighbour_sum(features: Tensor, neighbours: Neighbours) -> Tensor:
    """Sum the features of each vertex's neighbours: [V, C] → [V, C]; zeros for a vertex without neighbours.

    A weighted `F.embedding_bag` is several times as fast as `index_add_` on CPUs. Its gradient is the same sum, because
    the neighbourhood is symmetric.
    """
    summed: Tensor = _NeighbourSum.apply(features, neighbours.indices, neighbours.starts)  # type: ignore[no-untyped-call]
    return summed


class _NeighbourSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, indices: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(indices, starts)
        return _summed(features, indices, starts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        indices, starts = ctx.saved_tensors
        return _summed(gradients[0], indices, starts), None, None


def _summed(features: Tensor, indices: Tensor, starts: Tensor) -> Tensor:
    if not len(starts) or not len(indices):
        return torch.zeros_like(features)
    return F.embedding_bag(indices, features.contiguous(), starts, mode="sum")

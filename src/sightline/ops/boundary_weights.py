"""Weight maps for pixels between touching objects: connected components, and distances to the two nearest objects."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures import IGNORE


@torch.no_grad()
def connected_components(labels: Tensor, background: int | None = 0) -> Tensor:
    """Label connected components of equal labels, with 4-connectivity.

    Args:
        labels: [..., H, W] integers; leading dimensions are separate images.
        background: label that belongs to no component, in addition to `IGNORE`; None if there is none.

    Returns:
        [..., H, W] int64: 0 for the background, else 1, 2, … in the order of the components' first pixels.
    """
    counts = labels != IGNORE
    if background is not None:
        counts &= labels != background
    place = torch.arange(labels.numel(), device=labels.device).reshape(labels.shape)
    right = counts[..., 1:] & (labels[..., 1:] == labels[..., :-1])
    down = counts[..., 1:, :] & (labels[..., 1:, :] == labels[..., :-1, :])
    a = torch.cat([place[..., :-1][right], place[..., :-1, :][down]])
    b = torch.cat([place[..., 1:][right], place[..., 1:, :][down]])
    root = place.flatten()
    while len(a):  # hook the larger root of each pair of neighbours below the smaller, then point all at their roots
        low, high = torch.minimum(root[a], root[b]), torch.maximum(root[a], root[b])
        apart = low != high
        a, b = a[apart], b[apart]
        root = root.scatter_reduce(0, high[apart], low[apart], "amin")
        while not torch.equal(above := root[root], root):
            root = above
    found = torch.zeros_like(root)
    inside = counts.flatten()
    found[inside] = root[inside].unique(return_inverse=True)[1] + 1
    return found.reshape(labels.shape)


@torch.no_grad()
def two_nearest(objects: Tensor, radius: int) -> Tensor:
    """Distances from each pixel to the nearest and the second nearest object.

    Args:
        objects: [N, H, W] integers, 0 for the background.
        radius: maximum distance in rows and in columns, in pixels.

    Returns:
        [2, N, H, W] float32 exact distances between pixel centres; 0 inside an object, inf if no object is near.
    """
    distance = torch.full(objects.shape, math.inf, device=objects.device).masked_fill(objects > 0, 0.0)
    column = _two_best([(distance, objects)], 1, radius)
    (nearest, _), (second, _) = _two_best(column, 2, radius)
    return torch.stack([nearest, second]).sqrt()


def boundary_weights(objects: Tensor, w0: float = 10.0, sigma: float = 5.0) -> Tensor:
    """Additional pixel weights for narrow gaps between objects: w0 · exp(−(d1 + d2)² / 2σ²).

    d1 and d2 are the distances to the nearest and the second nearest object. U-Net's weight map is the sum of these
    weights and a class weight.

    Args:
        objects: [N, H, W] integers, a different one for each object and 0 for the background: instances, or the
            `connected_components` of a class map.
        w0: weight where two objects touch.
        sigma: σ of the Gaussian, in pixels.

    Returns:
        [N, H, W] float32.

    Raises:
        InputError: `sigma` is not above 0.

    Source: Ronneberger et al., U-Net, 2015, equation 2 (w0 = 10, σ = 5). Departures: pixels of an object have d1 = 0,
    so their weight also increases near a neighbour; distances beyond 6σ have a weight of 0 (instead of below
    2e-8 · w0).
    """
    if not sigma > 0:
        raise InputError(f"sigma is {sigma}, but the boundary's reach must be above 0 pixels")
    near = two_nearest(objects, math.ceil(6 * sigma)).sum(0)
    return w0 * torch.exp(-(near**2) / (2 * sigma**2))


Candidates = list[tuple[Tensor, Tensor]]
"""Squared distances, and the objects at these distances."""


def _two_best(candidates: Candidates, dim: int, radius: int) -> Candidates:
    """The two nearest distinct objects among the candidates of all pixels along `dim` within `radius`."""
    like, ids = candidates[0]
    d1, d2 = torch.full_like(like, math.inf), torch.full_like(like, math.inf)
    i1, i2 = torch.zeros_like(ids), torch.zeros_like(ids)
    length = ids.shape[dim]
    reach = min(radius, length - 1)
    for shift in range(-reach, reach + 1):
        here = slice(max(0, -shift), length - max(0, shift))
        there = slice(max(0, shift), length - max(0, -shift))
        rest = (slice(None),) * (2 - dim)
        to: Any = (..., here, *rest)
        of: Any = (..., there, *rest)
        for distance, own in candidates:
            d, i = distance[of] + shift**2, own[of]
            old_d1, old_i1, old_d2, old_i2 = d1[to], i1[to], d2[to], i2[to]
            first, other = d < old_d1, i != old_i1
            pushed = first & other
            second = other & ~first & (d < old_d2)
            d2[to] = torch.where(pushed, old_d1, torch.where(second, d, old_d2))
            i2[to] = torch.where(pushed, old_i1, torch.where(second, i, old_i2))
            d1[to] = torch.where(first, d, old_d1)
            i1[to] = torch.where(first, i, old_i1)
    return [(d1, i1), (d2, i2)]

"""Nearest neighbours between point sets, and the losses of surfaces (Gkioxari et al. 2019, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.ops.meshes.surface import SurfacePoints
from sightline.structures.meshes import Meshes

_CHUNK = 2**18
"""Number of distances held at once; they then stay in the processor's cache."""


@torch.no_grad()
def nearest(a: Tensor, b: Tensor) -> Tensor:
    """For each point of `a` the index of the nearest point of `b`: [P, 3], [Q, 3] → [P] int64.

    Squared distances are computed as |a|² + |b|² − 2ab, one matrix product. Of points at the same distance within
    rounding, it is any.
    """
    centre = b.mean(0)
    a, b = a - centre, b - centre  # smaller numbers lose fewer digits in the difference
    ones = torch.ones_like
    rows = torch.cat([-2 * a, a.square().sum(1, keepdim=True), ones(a[:, :1])], 1)
    columns = torch.cat([b, ones(b[:, :1]), b.square().sum(1, keepdim=True)], 1).T.contiguous()
    found = []
    for part in rows.split(max(1, _CHUNK // max(1, len(b)))):
        squared = part @ columns
        # NumPy finds the place of a row's minimum ten times as fast as PyTorch on CPUs
        found.append(torch.from_numpy(squared.numpy().argmin(1)) if squared.device.type == "cpu" else squared.argmin(1))
    return torch.cat(found)


def chamfer_and_normals(found: SurfacePoints, true: SurfacePoints) -> tuple[Tensor, Tensor]:
    """Chamfer distance and normal distance of sampled points (equations 1 and 2).

    The Chamfer distance is the mean squared distance from each point to the nearest of the other set, in both
    directions, added. The normal distance is minus the mean of |u · v| over the same pairs, in both directions, added:
    −2 for equal surfaces. It is independent of the order of the vertices of faces.

    Args:
        found, true: N point sets each, whose numbers of points may differ between the two.

    Returns:
        both for each mesh, [N] each; differentiable.
    """
    chamfer, normals = [], []
    for p, q, u, v in zip(found.points, true.points, found.normals, true.normals, strict=True):
        of_p, of_q = nearest(p, q), nearest(q, p)
        chamfer.append((p - q[of_p]).square().sum(1).mean() + (q - p[of_q]).square().sum(1).mean())
        normals.append(-(u * v[of_p]).sum(1).abs().mean() - (v * u[of_q]).sum(1).abs().mean())
    return torch.stack(chamfer), torch.stack(normals)


def edge_loss(meshes: Meshes) -> Tensor:
    """The mean squared length of the edges of each mesh, [N]; 0 for an empty mesh (section 3.3)."""
    edges = meshes.edges
    a, b = meshes.vertices[edges].unbind(1)
    squared = (a - b).square().sum(1)
    owner = meshes.vertex_mesh[edges[:, 0]]
    total = squared.new_zeros(len(meshes)).index_add(0, owner, squared)
    return total / torch.bincount(owner, minlength=len(meshes)).clamp(min=1)

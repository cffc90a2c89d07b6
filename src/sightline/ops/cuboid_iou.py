"""Exact IoU of oriented cuboids, batched: the volume of the intersection of two convex polyhedra.

The intersection is the set of points on the inner side of twelve planes, the faces of both cuboids. Its volume follows
from the distances of the planes and the areas of the faces, and each area from the distances and the lengths of the
edges (Lasserre, "An analytical expression and an algorithm for the volume of a convex polyhedron in R^n", 1983):

    V = 1/3 Σ_f d_f A_f,    A_f = 1/2 Σ_e d_fe L_fe,

where d_f is the distance of face f from a point of reference, d_fe that of its edge with face e within the face, and
L_fe the length of this edge: the part of the line of both planes that is on the inner side of all others. It needs
neither lists of corners of different lengths nor sorting, so all pairs are computed at once.

Two cuboids often share planes (a cuboid and itself; two boxes on one floor). The second one is enlarged by
1e-8 of its size, by another amount at each face, so that no plane occurs twice and no three planes meet in one line.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.ops.cuboids import cuboid_parts

_CHUNK = 2048
"""Pairs of cuboids that are computed at once; it limits the memory to about 200 MB."""
_GROWTH = 1e-8
_PARALLEL = 1e-9
"""Sine of the angle below which two planes are parallel."""


def cuboid_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every cuboid of `a` [N, 9] with every one of `b` [M, 9]: [N, M] float64 in [0, 1].

    It is computed in float64, with an error of about 1e-7. Cuboids are as in `sightline.ops.cuboids`; one with NaN has
    an IoU of 0 with all others. There are no gradients.
    """
    rows, columns = torch.meshgrid(
        torch.arange(len(a), device=a.device), torch.arange(len(b), device=a.device), indexing="ij"
    )
    return paired_cuboid_iou(a[rows.flatten()], b[columns.flatten()]).reshape(len(a), len(b))


@torch.no_grad()
def paired_cuboid_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of each cuboid of `a` [N, 9] with the one of `b` [N, 9] at its place: [N] float64; see `cuboid_iou`."""
    common = intersection_volume(a, b)
    union = a[:, 3:6].double().prod(1) + b[:, 3:6].double().prod(1) - common
    return torch.where(common > 0, common / union, torch.zeros_like(common)).clamp(0, 1)


@torch.no_grad()
def intersection_volume(a: Tensor, b: Tensor) -> Tensor:
    """The common volume of each cuboid of `a` [N, 9] and the one of `b` [N, 9] at its place: [N] float64."""
    a, b = a.double(), b.double()
    reach = a[:, 3:6].norm(dim=1) + b[:, 3:6].norm(dim=1)
    near = 2 * (a[:, :3] - b[:, :3]).norm(dim=1) < reach  # False for NaN
    volumes = a.new_zeros(len(a))
    ids = near.nonzero().flatten()
    for part in ids.split(_CHUNK):
        volumes[part] = _volumes(*_planes(a[part], b[part])).clamp(min=0)
    return volumes


def bev_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of cuboids seen from above (along y), for cuboids that turn about the vertical only: [N, M] float64.

    It is the IoU of the cuboids moved to one height and made equally high.
    """
    flat = [torch.cat([own[:, :1], own[:, 1:2] * 0, own[:, 2:4], own[:, 4:5] * 0 + 1, own[:, 5:]], 1) for own in (a, b)]
    return cuboid_iou(*flat)


def _planes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The faces of both cuboids, relative to the centre of the first: unit normals [N, 12, 3] and distances [N, 12]."""
    normals, distances = [], []
    growth = 1 + _GROWTH * (1 + 0.1 * torch.arange(6, dtype=a.dtype, device=a.device))
    for own, factor in ((a, torch.ones_like(growth)), (b, growth)):
        centres, sides, rotations = cuboid_parts(own)
        axes = rotations.transpose(1, 2)  # rows: the directions of l, h, w
        half = sides[:, [2, 1, 0]] / 2
        place = (axes @ (centres - a[:, :3])[..., None])[..., 0]
        normals += [axes, -axes]
        distances.append(torch.cat([place, -place], 1) + torch.cat([half, half], 1) * factor)
    return torch.cat(normals, 1), torch.cat(distances, 1)


def _volumes(normals: Tensor, distances: Tensor) -> Tensor:
    """Volumes [N] of the sets of points x with normals [N, P, 3] · x ≤ distances [N, P]."""
    count = normals.shape[1]
    f, e = torch.triu_indices(count, count, 1, device=normals.device)  # the E pairs of planes
    n_f, n_e, d_f, d_e = normals[:, f], normals[:, e], distances[:, f], distances[:, e]
    cosine = (n_f * n_e).sum(-1)
    along = torch.linalg.cross(n_f, n_e)  # [N, E, 3], the direction of the line of both planes
    sine = along.norm(dim=-1)
    parallel = sine < _PARALLEL
    sine = sine.masked_fill(parallel, 1)
    along = along / sine[..., None]
    # the signed distance of the line within each plane, from the point of the plane nearest to the reference
    in_f, in_e = (d_e - d_f * cosine) / sine, (d_f - d_e * cosine) / sine
    start = n_f * d_f[..., None] + (n_e - cosine[..., None] * n_f) * (in_f / sine)[..., None]
    # each of the other planes g cuts the line start + t · along: [N, E, g]
    slope = along @ normals.transpose(1, 2)
    room = distances[:, None] - start @ normals.transpose(1, 2)
    own = torch.eye(count, dtype=torch.bool, device=normals.device)
    others = ~(own[f] | own[e])
    cuts = slope.abs() > _PARALLEL
    at = room / slope.masked_fill(~cuts, 1)
    low = at.masked_fill(~(cuts & others & (slope < 0)), -torch.inf).amax(-1)
    high = at.masked_fill(~(cuts & others & (slope > 0)), torch.inf).amin(-1)
    outside = (~cuts & others & (room < 0)).any(-1)
    length = (high - low).clamp(min=0).masked_fill(outside | parallel, 0)
    areas = torch.zeros_like(distances)
    areas.index_add_(1, f, in_f * length / 2)
    areas.index_add_(1, e, in_e * length / 2)
    # a face is empty if it is on the outer side of a parallel plane
    beyond = torch.zeros_like(distances)
    beyond.index_add_(1, f, (parallel & (d_f * cosine > d_e)).to(beyond))
    beyond.index_add_(1, e, (parallel & (d_e * cosine > d_f)).to(beyond))
    return (distances * areas.masked_fill(beyond > 0, 0)).sum(-1) / 3

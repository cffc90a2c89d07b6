"""Meshes to voxels: which cells of a grid have their centre inside."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.meshes import Mesh, unique_edges
from sightline.structures.size import Size

_PAIRS = 2**21
"""Number of pairs of a face and a line that are tested at once."""


def is_closed(mesh: Mesh) -> bool:
    """Whether the surface has no border: every edge belongs to an even number of faces."""
    edges, of_face = unique_edges(mesh.faces, len(mesh.vertices))
    return bool((torch.bincount(of_face.flatten(), minlength=len(edges)) % 2 == 0).all())


def is_oriented(mesh: Mesh) -> bool:
    """Whether neighbouring faces agree in what is outside: edges are used as often in one direction as in the other."""
    edges, of_face = unique_edges(mesh.faces, len(mesh.vertices))
    direction = torch.where(mesh.faces.roll(-1, 1) > mesh.faces, 1, -1)
    uses = torch.zeros(len(edges), dtype=direction.dtype, device=direction.device)
    return not bool(uses.index_add_(0, of_face.flatten(), direction.flatten()).any())


@torch.no_grad()
def voxelise(mesh: Mesh, grid: tuple[int, int, int], unclosed: Literal["refuse", "shell"] = "refuse") -> Tensor:
    """Voxelise the part of a mesh inside the unit cube.

    A line parallel to the z axis through the centres of a column of voxels crosses the surface; a centre is inside if
    the signed number of crossings before it is not 0 (the winding number, so that overlapping parts are united). Of a
    mesh whose faces are not consistently oriented, a centre is inside if this number is odd.

    Args:
        mesh: with the cube at [0, 1]³ in x, y and z; it may extend beyond the cube.
        grid: number of voxels along z, y, x.
        unclosed: what is done with a surface that has a border: "refuse" it, or take the "shell": the voxels that the
            surface passes through, and those that it encloses.

    Returns:
        [Z, Y, X] bool.

    Raises:
        InputError: the mesh is not closed and `unclosed` is "refuse".
    """
    if not is_closed(mesh):
        if unclosed == "refuse":
            raise InputError(
                f"{mesh.source or 'the mesh'} is not closed: its surface has a border, so nothing is inside; close its "
                "holes, or voxelise its shell (unclosed='shell')"
            )
        return _shell(mesh, grid)
    depth, height, width = grid
    # double precision, so that a line through an edge is found to cross exactly one of its faces
    triangles = mesh.vertices.double()[mesh.faces]  # [F, 3, 3]
    signed = is_oriented(mesh)
    counts = torch.zeros(depth + 1, height * width, dtype=torch.int64, device=triangles.device)
    y, x = _centres((height, width), triangles.device)
    step = max(1, _PAIRS // max(1, height * width))
    for part in triangles.split(step):
        line, z, sign = _crossings(part, x, y)
        level = (z * depth + 0.5).floor().clamp(0, depth).long()  # centres (k + ½) / depth from this k on are behind it
        value = sign if signed else torch.ones_like(sign)
        counts.view(-1).index_add_(0, level * (height * width) + line, value)
    before = counts.cumsum(0)[:depth]
    inside = before != 0 if signed else before % 2 != 0
    return inside.view(depth, height, width)


def _centres(size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    y = (torch.arange(size[0], device=device, dtype=torch.float64) + 0.5) / size[0]
    x = (torch.arange(size[1], device=device, dtype=torch.float64) + 0.5) / size[1]
    return y.repeat_interleave(size[1]), x.repeat(size[0])


def _crossings(triangles: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where lines cross faces: the line [K], the z of the crossing [K], and its sign [K]: 1 where the line enters."""
    inside = torch.zeros(len(triangles), len(x), dtype=torch.bool, device=triangles.device)
    for i in range(3):
        a, b = triangles[:, i, :2], triangles[:, (i + 1) % 3, :2]
        swap = (a[:, 1] > b[:, 1]) | ((a[:, 1] == b[:, 1]) & (a[:, 0] > b[:, 0]))
        # an edge is computed from the same end by both of its faces, so that rounding is the same
        a, b = torch.where(swap[:, None], b, a), torch.where(swap[:, None], a, b)
        across = (a[:, 1:] <= y) & (y < b[:, 1:])
        slope = (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1]).clamp(min=1e-300)
        inside ^= across & (x < a[:, :1] + (y - a[:, 1:]) * slope[:, None])
    face, line = inside.nonzero(as_tuple=True)
    a, b, c = triangles[face].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    flat = normal[:, 2].abs() < 1e-300  # seen edge-on
    across = normal[:, 0] * (x[line] - a[:, 0]) + normal[:, 1] * (y[line] - a[:, 1])
    z = a[:, 2] - torch.where(flat, torch.zeros_like(across), across) / torch.where(flat, 1.0, normal[:, 2])
    low, high = triangles[face][:, :, 2].amin(1), triangles[face][:, :, 2].amax(1)
    return line, z.clamp(min=low, max=high), (-normal[:, 2].sign()).long()


def _shell(mesh: Mesh, grid: tuple[int, int, int]) -> Tensor:
    """Voxels that the surface passes through, and free ones that no path along free voxels joins to the outside."""
    depth, height, width = grid
    size = torch.tensor([width, height, depth], dtype=torch.float64, device=mesh.vertices.device)
    triangles = mesh.vertices.double()[mesh.faces]
    longest = (triangles - triangles.roll(-1, 1)).mul(size).norm(dim=-1).amax(1)  # in voxels
    solid = torch.zeros(depth, height, width, dtype=torch.bool, device=size.device)
    steps = (longest * 2).ceil().clamp(1, 4 * int(size.max())).long()  # points at most half a voxel apart
    for count in steps.unique().tolist():
        i, j = torch.meshgrid(torch.arange(count + 1), torch.arange(count + 1), indexing="ij")
        keep = (i + j) <= count
        share = torch.stack([count - i - j, i, j], -1)[keep].to(size) / count  # [S, 3] barycentric
        for part in triangles[steps == count].split(max(1, _PAIRS // len(share))):
            at = (torch.einsum("sk,fkc->fsc", share, part) * size).floor().long().flatten(0, 1)
            x, y, z = at[((at >= 0) & (at < size.long())).all(1)].unbind(1)
            solid[z, y, x] = True
    outside = torch.nn.functional.pad(torch.zeros_like(solid), (1, 1, 1, 1, 1, 1), value=True)
    free = torch.nn.functional.pad(~solid, (1, 1, 1, 1, 1, 1), value=True)
    while True:
        grown = outside.clone()
        for axis in range(3):
            for shift in (1, -1):
                grown |= outside.roll(shift, axis)  # rolling over the border joins outside to outside
        grown &= free
        if bool((grown == outside).all()):
            return ~outside[1:-1, 1:-1, 1:-1]
        outside = grown

"""Voxels to meshes: Gkioxari, Malik, Johnson, "Mesh R-CNN", ICCV 2019, section 3.2 ("Cubify")."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.meshes import Meshes

_SIDES = torch.tensor(
    [  # the corners of a unit cube's side at its upper end of the x axis, counter-clockwise seen from outside
        [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]],
        [[0, 1, 0], [0, 1, 1], [1, 1, 1], [1, 1, 0]],  # of the y axis
        [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]],  # of the z axis
    ]
)


def cubify(occupied: Tensor) -> Meshes:
    """The surface of occupied voxels: the sides between an occupied and a free voxel, two triangles each.

    Voxels outside the grid are free. Neighbouring sides share their vertices, so the surface is closed. Two voxels that
    touch only along an edge share the edge's vertices, too.

    Args:
        occupied: [N, Z, Y, X] bool, one grid per mesh.

    Returns:
        N meshes, empty ones for grids without occupied voxels. Vertices are (x, y, z) as fractions of the grid in
        [0, 1], float32. Faces are counter-clockwise seen from outside.

    Raises:
        InputError: the grids are not four-dimensional or not bool.
    """
    if occupied.ndim != 4 or occupied.dtype != torch.bool:
        raise InputError(
            f"cubify takes grids [N, Z, Y, X] of bool, not {list(occupied.shape)} of {occupied.dtype}; compare the "
            "probabilities with a threshold"
        )
    n, *size = occupied.shape  # z, y, x
    corners = torch.tensor([size[2] + 1, size[1] + 1, size[0] + 1], device=occupied.device)  # along x, y, z
    padded = torch.nn.functional.pad(occupied, (1, 1, 1, 1, 1, 1))
    inside = padded[:, 1:-1, 1:-1, 1:-1]
    sides, owners = [], []
    for axis in range(3):
        for end in (1, 0):
            start = [1, 1, 1]
            start[2 - axis] += 1 if end else -1
            z, y, x = (slice(at, at + length) for at, length in zip(start, size, strict=True))
            mesh, k, j, i = (inside & ~padded[:, z, y, x]).nonzero(as_tuple=True)
            shape = _SIDES[axis].to(occupied.device)
            if not end:  # the opposite side, seen from the other direction
                shape = (shape - torch.eye(3, dtype=torch.int64, device=shape.device)[axis]).flip(0)
            at = torch.stack([i, j, k], 1)[:, None] + shape
            key = ((mesh[:, None] * corners[2] + at[..., 2]) * corners[1] + at[..., 1]) * corners[0] + at[..., 0]
            sides.append(key)
            owners.append(mesh)
    owner = torch.cat(owners)
    order = owner.argsort(stable=True)
    keys, index = torch.unique(torch.cat(sides)[order], return_inverse=True)
    faces = index[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
    place = torch.stack(
        [keys % corners[0], keys // corners[0] % corners[1], keys // corners[:2].prod() % corners[2]], 1
    )
    vertex_counts = torch.bincount(keys // corners.prod(), minlength=n).tolist()
    face_counts = (2 * torch.bincount(owner, minlength=n)).tolist()
    return Meshes(place.float() / (corners - 1), faces, tuple(vertex_counts), tuple(face_counts))

"""Properties of surfaces: areas and normals of faces, points sampled by area, subdivision."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.meshes import Meshes, unique_edges


def face_areas_normals(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """The area [F] and the unit normal [F, 3] of each face; the normal of a face without area is 0."""
    a, b, c = vertices[faces].unbind(1)
    cross = torch.linalg.cross(b - a, c - a)
    length = cross.norm(dim=1)
    return length / 2, cross / length.clamp(min=torch.finfo(cross.dtype).tiny)[:, None]


@dataclass(frozen=True)
class SurfacePoints:
    """Points on the surfaces of N meshes.

    Attributes:
        points: [N, P, 3], differentiable in the vertices.
        normals: [N, P, 3], unit normals of their faces.
        faces: [N, P] int64, indices into the packed faces.
    """

    points: Tensor
    normals: Tensor
    faces: Tensor


def sample_surface(meshes: Meshes, count: int, generator: torch.Generator | None = None) -> SurfacePoints:
    """Sample points uniformly on the surface of each mesh: a face by its area, then a point in it.

    Source: Gkioxari et al. 2019, section 3.3; Smith et al. 2019, "GEOMetrics", section 3.1.

    Args:
        meshes: none of them empty.
        count: number of points per mesh.
        generator: source of randomness on the CPU; None for PyTorch's own.

    Raises:
        InputError: a mesh has no surface.
    """
    n, device = len(meshes), meshes.vertices.device
    with torch.no_grad():
        areas, _ = face_areas_normals(meshes.vertices, meshes.faces)
        areas = areas.double()
        total = torch.zeros(n, dtype=torch.float64, device=device).index_add_(0, meshes.face_mesh, areas)
        if not bool((total > 0).all()):
            empty = int((~(total > 0)).nonzero()[0])
            raise InputError(
                f"mesh {empty} has no surface to sample points from: it has no faces, or none with an area"
            )
        ends = areas.cumsum(0)
        last = torch.tensor(meshes.face_counts, device=device).cumsum(0) - 1
        first = last + 1 - torch.tensor(meshes.face_counts, device=device)
        upper = ends[last]
        lower = torch.cat([upper.new_zeros(1), upper[:-1]])
        dice = torch.rand(3, n, count, generator=generator, dtype=torch.float64).to(device)
        chosen = torch.searchsorted(ends, lower[:, None] + dice[0] * (upper - lower)[:, None], right=True)
        chosen = chosen.maximum(first[:, None]).minimum(last[:, None])
    a, b, c = meshes.vertices[meshes.faces[chosen]].unbind(2)
    root, share = dice[1].sqrt().to(a.dtype)[..., None], dice[2].to(a.dtype)[..., None]
    points = (1 - root) * a + root * (1 - share) * b + root * share * c
    normal = torch.linalg.cross(b - a, c - a)
    return SurfacePoints(points, torch.nn.functional.normalize(normal, dim=-1), chosen)


def subdivide(meshes: Meshes, features: Tensor | None = None) -> tuple[Meshes, Tensor | None]:
    """Divide every face into four by the midpoints of its edges.

    Args:
        meshes: the meshes.
        features: [ΣV, C] features of the vertices, or None.

    Returns:
        the meshes, each with its own vertices first and then one per edge; and the features [ΣV', C], which at new
        vertices are the mean of the edge's ends. Differentiable in vertices and features.
    """
    old = len(meshes.vertices)
    edges, of_face = unique_edges(meshes.faces, old)
    owner = meshes.vertex_mesh[edges[:, 0]]
    edge_counts = torch.bincount(owner, minlength=len(meshes)).tolist()
    # the packed order: vertices of mesh 0, its edges, vertices of mesh 1, …
    whose = torch.cat([meshes.vertex_mesh, owner])
    order = whose.argsort(stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)

    def joined(values: Tensor) -> Tensor:
        return torch.cat([values, values[edges].mean(1)])[order]

    a, b, c = place[meshes.faces].unbind(1)
    ab, bc, ca = place[old + of_face].unbind(1)
    faces = torch.stack([a, ab, ca, b, bc, ab, c, ca, bc, ab, bc, ca], 1).reshape(-1, 3)
    finer = Meshes(
        joined(meshes.vertices),
        faces,
        tuple(v + e for v, e in zip(meshes.vertex_counts, edge_counts, strict=True)),
        tuple(4 * count for count in meshes.face_counts),
    )
    return finer, None if features is None else joined(features)

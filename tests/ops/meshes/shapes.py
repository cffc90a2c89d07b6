"""Small meshes that the tests of meshes use."""

from __future__ import annotations

import torch

from sightline.data.scenes.shapes import Box, Cone, Cylinder, Ring, Sphere
from sightline.structures.meshes import Mesh

SOLIDS = (Sphere(0.4), Box((0.3, 0.2, 0.4)), Cylinder(0.3, 0.8), Cone(0.4, 0.8), Ring(0.3, 0.12))


def solid(kind: int, centre: float = 0.5) -> Mesh:
    """One of the solids of the scenes, in the unit cube."""
    vertices, faces = SOLIDS[kind].mesh()
    return Mesh(torch.from_numpy(vertices) + centre, torch.from_numpy(faces))


def tetrahedron(scale: float = 1.0) -> Mesh:
    """The corner of a cube: four vertices, four faces, volume scale³ / 6."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * scale
    return Mesh(vertices, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def volume(mesh: Mesh) -> float:
    """The enclosed volume, positive if faces are counter-clockwise seen from outside (divergence theorem)."""
    a, b, c = mesh.vertices.double()[mesh.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)

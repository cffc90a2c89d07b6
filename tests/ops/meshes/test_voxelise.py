"""Voxels of meshes against solids, and against a test of each voxel's centre."""

from __future__ import annotations

import pytest
import torch

from sightline.errors import InputError
from sightline.ops.meshes.voxelise import is_closed, is_oriented, voxelise
from sightline.structures.meshes import Mesh, Meshes
from tests.ops.meshes.shapes import solid, tetrahedron


def centres(grid):
    axes = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in grid]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y, z], -1)


def winding(mesh, points):
    """The solid angle of all faces seen from each point, over 4π (Van Oosterom and Strackee 1983): 1 inside, else 0."""
    total = torch.zeros(points.shape[:-1], dtype=torch.float64)
    for face in mesh.faces.tolist():
        a, b, c = (mesh.vertices[k].double() - points for k in face)
        x, y, z = a.norm(dim=-1), b.norm(dim=-1), c.norm(dim=-1)
        above = (a * torch.linalg.cross(b, c)).sum(-1)
        below = x * y * z + (a * b).sum(-1) * z + (b * c).sum(-1) * x + (c * a).sum(-1) * y
        total += 2 * torch.atan2(above, below)
    return total / (4 * torch.pi)


@pytest.mark.parametrize("kind", range(5))
def test_voxels_are_those_whose_centres_are_inside(kind):
    mesh, grid = solid(kind), (9, 10, 11)
    found = voxelise(mesh, grid)
    assert found.shape == grid
    assert torch.equal(found, winding(mesh, centres(grid)) > 0.5)
    turned = Mesh(mesh.vertices, mesh.faces.flip(1))  # inside out
    assert torch.equal(voxelise(turned, grid), found)


def test_a_mesh_may_extend_beyond_the_cube():
    mesh = Mesh(tetrahedron(3.0).vertices - 0.7, tetrahedron().faces)
    assert torch.equal(voxelise(mesh, (6, 6, 6)), winding(mesh, centres((6, 6, 6))) > 0.5)


def test_lines_through_edges_and_vertices_cross_once():
    """The centres of a grid of 4 lie on the edges and on the diagonals of this box's sides."""
    signs = torch.tensor([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], dtype=torch.float64)
    box = Mesh(signs * 0.5 + 0.125, solid(1).faces)
    expected = torch.zeros(4, 4, 4, dtype=torch.bool)
    expected[:2, :2, :2] = True  # the lower border belongs to the box, the upper one does not
    found = voxelise(box, (4, 4, 4))
    assert torch.equal(found[0, :2, :2], expected[0, :2, :2]) or torch.equal(found[1, :2, :2], expected[1, :2, :2])
    assert int(found.any(0).sum()) == 4


def test_overlapping_parts_are_united_if_they_are_oriented():
    parts = [solid(1), Mesh(solid(1).vertices + torch.tensor([0.1, 0.0, 0.0]), solid(1).faces)]
    (whole,) = [Mesh(Meshes.pack(parts).vertices, Meshes.pack(parts).faces)]
    grid = (8, 9, 10)
    assert torch.equal(voxelise(whole, grid), voxelise(parts[0], grid) | voxelise(parts[1], grid))


def test_of_a_mesh_that_is_not_oriented_crossings_are_counted():
    mesh = solid(0)
    faces = mesh.faces.clone()
    faces[::3] = faces[::3].flip(1)
    mixed = Mesh(mesh.vertices, faces)
    assert is_closed(mixed)
    assert (is_oriented(mesh), is_oriented(mixed)) == (True, False)
    assert torch.equal(voxelise(mixed, (8, 8, 8)), voxelise(mesh, (8, 8, 8)))


def test_an_open_mesh_is_refused_or_its_shell_is_taken():
    whole = solid(1)
    open_box = Mesh(whole.vertices, whole.faces[2:], source="box.obj")  # without its side at the lower z
    with pytest.raises(InputError, match=r"box\.obj is not closed: its surface has a border, so nothing is inside"):
        voxelise(open_box, (8, 8, 8))
    grid = (10, 10, 10)
    found = voxelise(open_box, grid, "shell")
    inside = voxelise(whole, grid)
    assert not (inside & found)[1:-2, 4:6, 4:6].any()  # hollow
    near = torch.zeros(grid, dtype=torch.bool)
    for face in open_box.faces.tolist():
        a, b, c = open_box.vertices[face].double()
        for i in range(21):
            for j in range(21 - i):
                x, y, z = ((a + (b - a) * i / 20 + (c - a) * j / 20) * 10).long().tolist()
                near[z, y, x] = True
    assert torch.equal(found, near)
    punctured = Mesh(solid(0).vertices, solid(0).faces[1:])
    assert (voxelise(punctured, grid, "shell") | ~voxelise(solid(0), grid)).all()  # the hole is smaller than a voxel

"""Areas, normals, sampled points, subdivision and the losses of surfaces."""

from __future__ import annotations

import math

import pytest
import torch

from sightline.errors import InputError
from sightline.ops.meshes.distances import chamfer_and_normals, edge_loss, nearest
from sightline.ops.meshes.surface import SurfacePoints, face_areas_normals, sample_surface, subdivide
from sightline.structures.meshes import Mesh, Meshes
from tests.ops.meshes.shapes import solid, tetrahedron, volume


def test_areas_and_normals_are_those_of_a_loop():
    mesh = solid(3)
    areas, normals = face_areas_normals(mesh.vertices.double(), mesh.faces)
    for face, area, normal in zip(mesh.faces.tolist(), areas.tolist(), normals, strict=True):
        a, b, c = (mesh.vertices[k].double() for k in face)
        x, y, z = (b - a).norm(), (c - b).norm(), (a - c).norm()
        half = (x + y + z) / 2
        assert area == pytest.approx(float((half * (half - x) * (half - y) * (half - z)).sqrt()), rel=1e-6)  # Heron
        assert abs(float(normal @ (b - a))) + abs(float(normal @ (c - a))) < 1e-6
        assert float(normal @ ((a + b + c) / 3 - 0.5)) > 0  # outwards
    assert face_areas_normals(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))[1].tolist() == [[0, 0, 0]]


def test_points_are_on_their_faces_and_as_many_as_their_area_is_large():
    meshes = Meshes.pack([tetrahedron(), solid(1)])
    found = sample_surface(meshes, 4000, torch.Generator().manual_seed(0))
    assert found.points.shape == found.normals.shape == (2, 4000, 3)
    areas, normals = face_areas_normals(meshes.vertices, meshes.faces)
    for k, own in enumerate(found.faces):
        assert (meshes.face_mesh[own] == k).all()
        counts = torch.bincount(own, minlength=len(areas)).double()
        shares = areas.double() * (meshes.face_mesh == k)
        expected = 4000 * shares / shares.sum()
        assert ((counts - expected).abs() <= 5 * expected.sqrt() + 1e-9).all()
    a, b, c = meshes.vertices[meshes.faces[found.faces]].unbind(2)
    torch.testing.assert_close(found.normals, normals[found.faces])
    weights = torch.linalg.lstsq(torch.stack([a - c, b - c], -1).double(), (found.points - c).double()[..., None])
    u, v = weights.solution[..., 0].unbind(-1)
    assert min(float(u.min()), float(v.min()), float((1 - u - v).min())) > -1e-4
    for share in (u, v, 1 - u - v):  # uniform in the triangle: each has the mean of a third
        assert float(share.mean()) == pytest.approx(1 / 3, abs=0.01)
    torch.testing.assert_close(c + (a - c) * u[..., None].float() + (b - c) * v[..., None].float(), found.points)


def test_sampled_points_pull_at_the_vertices():
    vertices = tetrahedron().vertices.requires_grad_()
    mesh = Mesh.unchecked(vertices, tetrahedron().faces)
    sample_surface(Meshes.pack([mesh]), 50).points.sum().backward()
    assert float(vertices.grad.sum()) == pytest.approx(150)  # the weights of a point's three corners add to 1
    flat = Mesh(torch.zeros(3, 3), [[0, 1, 2]])
    with pytest.raises(InputError, match="mesh 1 has no surface to sample points from"):
        sample_surface(Meshes.pack([tetrahedron(), flat]), 10)


def test_a_subdivided_mesh_has_the_same_surface():
    meshes = Meshes.pack([tetrahedron(), solid(0)])
    features = meshes.vertices @ torch.tensor([[1.0], [2.0], [3.0]])
    finer, more = subdivide(meshes, features)
    assert finer.face_counts == tuple(4 * n for n in meshes.face_counts)
    torch.testing.assert_close(more, finer.vertices @ torch.tensor([[1.0], [2.0], [3.0]]))  # linear, so exact
    for before, after in zip(meshes.split(), finer.split(), strict=True):
        edges = {tuple(sorted(pair)) for f in before.faces.tolist() for pair in zip(f, f[1:] + f[:1], strict=True)}
        assert len(after.vertices) == len(before.vertices) + len(edges)
        assert torch.equal(after.vertices[: len(before.vertices)], before.vertices)
        middles = {tuple(p) for p in after.vertices[len(before.vertices) :].tolist()}
        assert middles == {tuple(before.vertices[list(pair)].mean(0).tolist()) for pair in edges}
        assert volume(after) == pytest.approx(volume(before), rel=1e-5)
        areas = face_areas_normals(*before)[0].repeat_interleave(4) / 4
        torch.testing.assert_close(face_areas_normals(*after)[0], areas, atol=1e-6, rtol=1e-4)
    assert subdivide(meshes)[1] is None


def test_the_nearest_points_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(300, 3, generator=generator) + 50, torch.randn(2000, 3, generator=generator) + 50
    for one, two in ((a, b), (b, a)):
        found = nearest(one, two)
        for point, place in zip(one.tolist(), found.tolist(), strict=True):
            distances = (two - torch.tensor(point)).norm(dim=1)
            assert float(distances[place]) == pytest.approx(float(distances.min()), abs=1e-4)


def points(*rows):
    """Points with normals."""
    values = torch.tensor(rows, dtype=torch.float64)
    return SurfacePoints(values[None, :, :3].requires_grad_(), values[None, :, 3:], torch.zeros(1, len(rows)))


def test_chamfer_and_normal_distance_by_hand():
    found = points((0, 0, 0, 1, 0, 0), (3, 0, 0, 0, 1, 0))
    true = points((0, 0, 1, 1, 0, 0), (0, 0, 5, 0, 0, 1), (3, 4, 0, 0, -1, 0))
    chamfer, normals = chamfer_and_normals(found, true)
    # found → true: 1 and min(10, 16) = 10; true → found: 1, 25 and 16
    assert chamfer.item() == pytest.approx((1 + 10) / 2 + (1 + 25 + 16) / 3)
    # found → true: |1| and |(0,1,0)·(1,0,0)| = 0; true → found: 1, 0 and |−1|
    assert normals.item() == pytest.approx(-(1 + 0) / 2 - (1 + 0 + 1) / 3)
    (gradient,) = torch.autograd.grad(chamfer.sum(), found.points)
    first = [0, 0, -2 / 2 * 1 - 2 / 3 * (1 + 5)]  # of its own distance, and of the two true points nearest to it
    assert gradient[0, 0].tolist() == pytest.approx(first)
    surface = sample_surface(Meshes.pack([solid(0)]), 100)
    chamfer, normals = chamfer_and_normals(surface, surface)
    assert (float(chamfer), float(normals)) == pytest.approx((0, -2), abs=1e-6)


def test_the_edge_loss_is_the_mean_squared_length_of_each_mesh():
    meshes = Meshes.pack([tetrahedron(2.0), solid(1)])
    by_loop = []
    for mesh in meshes.split():
        pairs = {tuple(sorted(p)) for f in mesh.faces.tolist() for p in zip(f, f[1:] + f[:1], strict=True)}
        by_loop.append(sum(math.dist(*mesh.vertices[list(p)].tolist()) ** 2 for p in pairs) / len(pairs))
    assert edge_loss(meshes).tolist() == pytest.approx(by_loop, rel=1e-6)
    assert by_loop[0] == pytest.approx((3 * 4 + 3 * 8) / 6)
    vertices = meshes.vertices.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: edge_loss(meshes.with_vertices(v)), (vertices,))

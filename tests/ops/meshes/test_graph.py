"""Sums over neighbours and features of vertices against loops."""

from __future__ import annotations

import torch

from sightline.ops.meshes.alignment import align_vertices
from sightline.ops.meshes.graph import Neighbours, neighbour_sum
from sightline.structures.meshes import Meshes
from tests.ops.meshes.shapes import solid, tetrahedron


def test_the_sum_is_that_of_a_loop_and_so_is_its_gradient():
    meshes = Meshes.pack([tetrahedron(), solid(1)])
    count = len(meshes.vertices) + 1  # the last one has no neighbours
    features = torch.randn(count, 2, dtype=torch.float64, requires_grad=True)
    neighbours = Neighbours(meshes.edges, count)
    expected = torch.zeros(count, 2, dtype=torch.float64)
    for a, b in meshes.edges.tolist():
        expected[a] += features[b].detach()
        expected[b] += features[a].detach()
    torch.testing.assert_close(neighbour_sum(features, neighbours).detach(), expected)
    assert torch.autograd.gradcheck(lambda x: neighbour_sum(x, neighbours), (features,))


def test_a_mesh_without_edges_has_zeros():
    none = torch.zeros(0, 2, dtype=torch.int64)
    assert torch.equal(neighbour_sum(torch.ones(3, 2), Neighbours(none, 3)), torch.zeros(3, 2))
    assert neighbour_sum(torch.ones(0, 2), Neighbours(none, 0)).shape == (0, 2)


def test_features_are_sampled_bilinearly():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 4, 5, 6, dtype=torch.float64, generator=generator)
    points = torch.rand(20, 2, dtype=torch.float64, generator=generator) * 1.4 - 0.2
    owner = torch.randint(0, 3, (20,), generator=generator)
    found = align_vertices(maps, points, owner)
    for k, ((u, v), n) in enumerate(zip(points.tolist(), owner.tolist(), strict=True)):
        x, y = min(max(u * 6 - 0.5, 0), 5), min(max(v * 5 - 0.5, 0), 4)
        value = torch.zeros(4, dtype=torch.float64)
        for row in range(5):
            for column in range(6):
                value += maps[n, :, row, column] * max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
        torch.testing.assert_close(found[k], value)


def test_the_gradients_of_maps_and_points_are_right():
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 2, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    points = (torch.rand(6, 2, dtype=torch.float64, generator=generator) * 0.5 + 0.26).requires_grad_()
    owner = torch.tensor([0, 0, 0, 1, 1, 1])
    assert torch.autograd.gradcheck(lambda m, p: align_vertices(m, p, owner), (maps, points))

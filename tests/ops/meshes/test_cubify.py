"""Cubify against a loop over voxels and sides."""

from __future__ import annotations

import itertools

import pytest
import torch

from sightline.errors import InputError
from sightline.ops.meshes.cubify import cubify
from sightline.ops.meshes.voxelise import is_closed, is_oriented, voxelise
from tests.ops.meshes.shapes import volume


def sides_of(grid):
    """Each side between an occupied and a free voxel: its four corners (x, y, z) and its outward direction."""
    filled = {(x, y, z) for z, y, x in grid.nonzero().tolist()}
    for place in filled:
        for axis, step in itertools.product(range(3), (1, -1)):
            beside = tuple(p + step * (k == axis) for k, p in enumerate(place))
            if beside not in filled:
                others = [k for k in range(3) if k != axis]
                corners = []
                for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    corner = list(place)
                    corner[axis] += step > 0
                    corner[others[0]] += a
                    corner[others[1]] += b
                    corners.append(tuple(corner))
                yield frozenset(corners), axis, step


def test_the_faces_are_the_sides_of_a_loop():
    grids = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)) < 0.4
    grids[1] = False
    meshes = cubify(grids)
    size = torch.tensor([6, 5, 4])
    assert meshes.vertex_counts[1] == meshes.face_counts[1] == 0
    for grid, mesh in zip(grids, meshes.split(), strict=True):
        expected = sorted((sorted(corners), axis, step) for corners, axis, step in sides_of(grid))
        places = (mesh.vertices * size).round().long()
        assert len({tuple(p) for p in places.tolist()}) == len(places)  # vertices are shared
        found = []
        for first, second in mesh.faces.reshape(-1, 2, 3):
            corners = sorted({tuple(p) for p in places[torch.cat([first, second])].tolist()})
            a, b, c = places[first].float()
            for one, two, three in (places[first].float(), places[second].float()):
                assert torch.equal(torch.linalg.cross(two - one, three - one), torch.linalg.cross(b - a, c - a))
            normal = torch.linalg.cross(b - a, c - a).long().tolist()
            axis = next(k for k in range(3) if normal[k])
            found.append((corners, axis, normal[axis]))
        assert sorted(found) == expected


def test_the_surface_is_closed_and_encloses_the_voxels():
    grid = torch.rand(1, 5, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    (mesh,) = cubify(grid).split()
    assert is_closed(mesh)
    assert is_oriented(mesh)
    assert volume(mesh) == pytest.approx(float(grid.sum()) / 125, abs=1e-6)
    assert torch.equal(voxelise(mesh, (5, 5, 5)), grid[0])


def test_probabilities_are_refused():
    with pytest.raises(InputError, match=r"takes grids \[N, Z, Y, X\] of bool, not \[1, 2, 2, 2\] of torch.float32"):
        cubify(torch.zeros(1, 2, 2, 2))

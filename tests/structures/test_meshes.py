"""A mesh, and a packed batch of meshes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from sightline.errors import InputError
from sightline.structures.meshes import Mesh, Meshes, unique_edges
from tests.ops.meshes.shapes import solid, tetrahedron


def test_a_mesh_is_made_of_arrays_and_of_pairs():
    pair = (np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
    mesh = Mesh.of(pair)
    assert mesh.faces.dtype == torch.int64
    assert Mesh.of(mesh) is mesh
    vertices, faces = mesh
    assert (vertices.shape, faces.shape) == ((3, 3), (1, 3))
    assert [bound.tolist() for bound in mesh.bounds] == [[0, 0, 0], [1, 1, 1]]
    again = pickle.loads(pickle.dumps(Mesh(*pair, source="a.obj")))
    assert (again.source, repr(again)) == ("a.obj", "Mesh(3 vertices, 1 faces)")
    assert torch.equal(again.vertices, mesh.vertices)


@pytest.mark.parametrize(
    ("vertices", "faces", "words"),
    [
        (torch.zeros(3, 2), [[0, 1, 2]], r"vertices of shape \[3, 2\], but they must be \[V, 3\]"),
        (torch.zeros(3, 3), [], "has 3 vertices but no faces"),
        (torch.zeros(3, 3), [[0, 1]], r"faces of shape \[1, 2\]"),
        (torch.zeros(3, 3), [[0.0, 1.0, 2.0]], "must be .F, 3. integers"),
        (torch.tensor([[0.0, 0, 0], [0, torch.nan, 0], [1, 0, 0]]), [[0, 1, 2]], r"vertex 1 at \[0.0, nan, 0.0\]"),
        (torch.zeros(3, 3), [[0, 1, 2], [0, 1, 3]], "face 1 with vertex 3, but there are 3 vertices, 0 to 2"),
        (torch.zeros(3, 3), [[0, 1, -1]], "face 0 with vertex -1"),
    ],
)
def test_a_mesh_that_is_none_is_refused(vertices, faces, words):
    with pytest.raises(InputError, match=f"^a.obj has .*{words}" if not words.startswith("has") else words):
        Mesh(vertices, faces, source="a.obj")
    with pytest.raises(InputError, match="a mesh is given as dict"):
        Mesh.of({})


def test_packed_meshes_come_apart_again():
    meshes = [solid(1), tetrahedron(), solid(0)]
    packed = Meshes.pack(meshes)
    assert len(packed) == 3
    for mesh, part in zip(meshes, packed.split(), strict=True):
        assert torch.equal(mesh.vertices, part.vertices)
        assert torch.equal(mesh.faces, part.faces)
    owners = packed.vertex_mesh
    assert owners.tolist() == [k for k, mesh in enumerate(meshes) for _ in mesh.vertices]
    assert (packed.vertex_mesh[packed.faces] == packed.face_mesh[:, None]).all()
    moved = packed.with_vertices(packed.vertices * 2)
    assert moved.vertex_mesh is owners  # computed once
    with pytest.raises(InputError, match="no meshes"):
        Meshes.pack([])


def test_edges_are_those_of_a_loop():
    packed = Meshes.pack([tetrahedron(), solid(4)])
    expected = set()
    for a, b, c in packed.faces.tolist():
        expected |= {tuple(sorted(pair)) for pair in ((a, b), (b, c), (c, a))}
    assert list(map(tuple, packed.edges.tolist())) == sorted(expected)
    edges, of_face = unique_edges(packed.faces, len(packed.vertices))
    for face, own in zip(packed.faces.tolist(), of_face.tolist(), strict=True):
        assert [sorted(edges[k].tolist()) for k in own] == [sorted((face[i], face[(i + 1) % 3])) for i in range(3)]

"""Mesh files: round trips, published variants of OBJ, and files that are broken."""

from __future__ import annotations

import sys

import pytest
import torch

import sightline as sl
from sightline.data import mesh_files
from sightline.data.mesh_files import MESH_FORMATS, MeshFile, read_mesh, write_mesh
from sightline.data.scenes import write_scenes
from sightline.errors import InputError
from sightline.structures.meshes import Mesh
from tests.ops.meshes.shapes import solid, tetrahedron


@pytest.mark.parametrize("kind", MESH_FORMATS)
def test_what_is_written_is_read_again(kind, tmp_path):
    if kind != "obj":
        pytest.importorskip("trimesh")
    mesh = solid(3, centre=2.0)
    again = read_mesh(write_mesh(mesh, tmp_path / f"cone.{kind}"))
    assert torch.equal(again.faces, mesh.faces)
    torch.testing.assert_close(again.vertices, mesh.vertices, atol=1e-5, rtol=1e-5)
    assert again.source == str(tmp_path / f"cone.{kind}")


def test_a_glb_has_y_upwards(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    file = write_mesh(tetrahedron(), tmp_path / "a.glb")
    low, high = trimesh.load(file, force="mesh").bounds
    assert (low.tolist(), high.tolist()) == ([0, -1, -1], [1, 0, 0])


def test_obj_files_of_other_tools_are_read(tmp_path):
    file = tmp_path / "a.obj"
    file.write_text(
        "# a square and a triangle\nmtllib a.mtl\no thing\nv 0 0 0 1.0\nv 1 0 0\nv 1 1 0\nvt 0 0\nvn 0 0 1\n"
        "v 0 1 0\ns off\nf 1/1/1 2/1/1 3//1 4\nv 0 0 1\n  f -5 -4 -1  \n"
    )
    mesh = read_mesh(file)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 4]]
    assert mesh.vertices[4].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n", "has 3 vertices but no faces"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n\nf 1 2 3\nf 1 2 4\n", "line 6 has a face of the vertices 1 2 4, but there are 3"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 0\n", "line 4 has a face of the vertices 1 2 0"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2\n", "line 4 cannot be read: 'f 1 2'"),
        ("v 0 0 0\nv 1 0\n", "line 2 cannot be read: 'v 1 0'"),
        ("v 0 0 0\nf 1 one 1\n", "line 2 cannot be read: 'f 1 one 1'"),
        ("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "has vertex 0 at"),
    ],
)
def test_a_broken_obj_names_file_and_line(text, words, tmp_path):
    file = tmp_path / "broken.obj"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"broken\.obj:? {words}"):
        read_mesh(file)


def test_other_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"a\.stl is not a readable mesh file; give one of obj, ply, glb"):
        read_mesh(tmp_path / "a.stl")
    with pytest.raises(InputError, match="cannot be written as a"):
        write_mesh(solid(0), tmp_path / "a.stl")
    with pytest.raises(InputError, match=r"gone\.obj"):
        read_mesh(tmp_path / "gone.obj")
    if pytest.importorskip("trimesh"):
        (tmp_path / "a.ply").write_bytes(b"not a ply")
        with pytest.raises(InputError, match=r"a\.ply is no PLY file"):
            read_mesh(tmp_path / "a.ply")
    monkeypatch.setitem(sys.modules, "trimesh", None)
    monkeypatch.setattr("sightline.runtime.optional.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"writing PLY files needs trimesh, .* pip install 'sightline\[mesh\]'"):
        write_mesh(solid(0), tmp_path / "b.ply")


def test_a_mesh_file_is_placed_in_front_of_the_camera(tmp_path):
    write_mesh(tetrahedron(), tmp_path / "a.obj")
    turned = MeshFile(str(tmp_path / "a.obj"), (0, -1, 0, 1, 0, 0, 0, 0, 1), (0, 0, 5))
    assert turned.read().vertices.tolist() == [[0, 0, 5], [0, 1, 5], [-1, 0, 5], [0, 0, 6]]
    assert torch.equal(MeshFile(str(tmp_path / "a.obj")).read().vertices, tetrahedron().vertices)


def test_a_mesh_behind_the_camera_is_refused(tmp_path):
    write_mesh(tetrahedron(), tmp_path / "a.obj")
    unturned = (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert len(MeshFile(str(tmp_path / "a.obj"), unturned, (0, 0, 0)).read().vertices) == 4
    with pytest.raises(InputError, match=r"a\.obj is behind the camera: its z is from -3 to -2 metres"):
        MeshFile(str(tmp_path / "a.obj"), unturned, (0, 0, -3)).read()


def test_scenes_with_meshes_are_read_back(tmp_path):
    write_scenes(tmp_path / "s", train=2, val=0, test=0, size=48, kind="meshes", objects=(1, 2), progress=False)
    data = sl.open_dataset(tmp_path / "s")
    assert data.about == "meshes"
    image, target = data.with_fields("meshes", "masks")[1]
    assert isinstance(image, sl.View)
    for mesh, box in zip(target.meshes, target.boxes, strict=True):
        assert isinstance(mesh, Mesh)
        pixels = mesh.vertices.double() @ image.intrinsics.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        low, high = pixels.amin(0).clamp(min=0), pixels.amax(0).clamp(max=48)
        assert (torch.cat([low, high]) - box).abs().max() < 2.5
    file = next((tmp_path / "s" / "meshes").rglob("*.obj"))
    text = file.read_text()
    file.write_text(text + "f 1 2 9999\n")
    lines = text.count("\n") + 1
    mesh_files._read_once.cache_clear()
    with pytest.raises(InputError, match=rf"{file.name}: line {lines} has a face of the vertices 1 2 9999"):
        [own for _, own in data.with_fields("meshes")]

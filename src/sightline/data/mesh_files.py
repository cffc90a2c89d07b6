"""Mesh files: OBJ without additional packages; PLY and GLB by trimesh (extra `mesh`)."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.data.stored import Deferred
from sightline.errors import InputError
from sightline.runtime.optional import require
from sightline.runtime.reading import read_bytes, read_text
from sightline.structures.meshes import Mesh

MESH_FORMATS = ("obj", "ply", "glb")
"""Formats that are read and written."""
_CACHED = 512
"""Number of files whose meshes are kept in memory."""


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read a triangle mesh from an OBJ, PLY or GLB file; polygons are divided into triangles.

    Normals, textures and materials are not read. Of a GLB with several objects, all are joined.

    Raises:
        InputError: the format is unknown, or a file is damaged, has no faces, or has a face with a vertex that does not
            exist; the message names the file, and the line of an OBJ file.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in MESH_FORMATS:
        raise InputError(f"{path} is not a readable mesh file; give one of {', '.join(MESH_FORMATS)}")
    return _read_obj(path) if kind == "obj" else _read_by_trimesh(path, kind)


def write_mesh(mesh: Mesh, path: str | os.PathLike[str]) -> Path:
    """Write a mesh as OBJ, PLY (binary) or GLB, by the suffix of the path; an existing file is replaced.

    Coordinates are written as they are. GLB viewers expect y upwards: meshes in the frame of a camera, with y down and
    z forwards, are therefore turned by half a turn about x in GLB files.

    Raises:
        InputError: the format is unknown, or trimesh is not installed.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in MESH_FORMATS:
        raise InputError(f"a mesh cannot be written as {path.name}; choose one of {', '.join(MESH_FORMATS)}")
    path.write_bytes(_obj_bytes(mesh) if kind == "obj" else _trimesh_bytes(mesh, kind))
    return path


@dataclass(frozen=True)
class MeshFile(Deferred):
    """A mesh in a file, as the column of a dataset holds it, and where it is placed.

    Attributes:
        path: the file.
        rotation, translation: R, row by row, and t of x_camera = R · x_file + t; None if the file is in the frame of
            the camera.
    """

    path: str
    rotation: tuple[float, ...] | None = None
    translation: tuple[float, ...] | None = None

    def read(self) -> Mesh:
        """The mesh in the frame of the camera. The files last used are kept in memory."""
        mesh = self._placed(_read_once(self.path, _changed(self.path)))
        low, high = (float(bound[2]) for bound in mesh.bounds)
        if low + high <= 0:
            raise InputError(
                f"{self.path} is behind the camera: its z is from {low:.3g} to {high:.3g} metres, but an object that "
                "an image shows has z above 0; correct its place, or remove the object"
            )
        return mesh

    def _placed(self, mesh: Mesh) -> Mesh:
        if self.rotation is None or self.translation is None:
            return mesh
        rotation = torch.tensor(self.rotation, dtype=torch.float64).reshape(3, 3)
        moved = mesh.vertices.double() @ rotation.T + torch.tensor(self.translation, dtype=torch.float64)
        return mesh.with_vertices(moved.float())


@lru_cache(_CACHED)
def _read_once(path: str, changed: int) -> Mesh:
    return read_mesh(path)


def _changed(path: str) -> int:
    """When a file was last changed, in nanoseconds, so that a changed file is read again; 0 if there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0  # reading it raises the error


def _read_obj(path: Path) -> Mesh:
    vertices: list[tuple[float, ...]] = []
    faces: list[tuple[int, int, int]] = []
    lines: list[int] = []  # of each face
    for number, line in enumerate(read_text(path).splitlines(), 1):
        key, _, rest = line.strip().partition(" ")
        try:
            if key == "v":
                x, y, z = map(float, rest.split()[:3])
                vertices.append((x, y, z))
            elif key == "f":
                corners = [_corner(word, len(vertices)) for word in rest.split()]
                if len(corners) < 3:
                    raise ValueError("a face needs three corners")
                faces += [(corners[0], a, b) for a, b in pairwise(corners[1:])]
                lines += [number] * (len(faces) - len(lines))
        except ValueError:
            raise InputError(f"{path}: line {number} cannot be read: {line.strip()[:60]!r}; export it again") from None
    found = np.array(faces, np.int64).reshape(-1, 3)
    if (bad := np.flatnonzero(((found < 0) | (found >= len(vertices))).any(1))).size:
        raise InputError(
            f"{path}: line {lines[bad[0]]} has a face of the vertices {' '.join(str(i + 1) for i in found[bad[0]])}, "
            f"but there are {len(vertices)} vertices; export it again"
        )
    return _mesh(np.array(vertices, np.float32).reshape(-1, 3), found, path)


def _corner(word: str, count: int) -> int:
    """The index, from 0, in a corner such as "3", "3/1/2" or "-1" (the last vertex so far)."""
    index = int(word.split("/", 1)[0])
    return index - 1 if index >= 0 else count + index


def _read_by_trimesh(path: Path, kind: str) -> Mesh:
    require("trimesh", "trimesh", "mesh", f"reading {path.name}")
    import trimesh

    data = read_bytes(path)
    try:
        loaded: Any = trimesh.load(io.BytesIO(data), file_type=kind, force="mesh", process=False)
        vertices, faces = np.asarray(loaded.vertices, np.float32), np.asarray(getattr(loaded, "faces", ()), np.int64)
    except Exception as error:  # trimesh raises whatever its parsers do
        raise InputError(
            f"{path} is no {kind.upper()} file ({type(error).__name__}: {error}); export it again"
        ) from None
    mesh = _mesh(vertices.reshape(-1, 3), faces.reshape(-1, 3), path)
    return mesh.with_vertices(mesh.vertices * torch.tensor([1.0, -1.0, -1.0])) if kind == "glb" else mesh


def _mesh(vertices: np.ndarray, faces: np.ndarray, path: Path) -> Mesh:
    return Mesh(torch.from_numpy(vertices), torch.from_numpy(faces), source=str(path))


def _obj_bytes(mesh: Mesh) -> bytes:
    lines = [f"v {x:.6g} {y:.6g} {z:.6g}\n" for x, y, z in mesh.vertices.tolist()]
    lines += [f"f {a} {b} {c}\n" for a, b, c in (mesh.faces + 1).tolist()]
    return "".join(lines).encode("ascii")


def _trimesh_bytes(mesh: Mesh, kind: str) -> bytes:
    require("trimesh", "trimesh", "mesh", f"writing {kind.upper()} files")
    import trimesh

    vertices = mesh.vertices.cpu().numpy()
    if kind == "glb":
        vertices = vertices * np.array([1, -1, -1], np.float32)
    made: Any = trimesh.Trimesh(vertices, mesh.faces.cpu().numpy(), process=False)
    written: bytes = made.export(file_type=kind)
    return written

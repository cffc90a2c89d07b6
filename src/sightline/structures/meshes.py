"""Triangle meshes: one mesh, and a batch of meshes of different sizes packed into shared tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError


class Mesh:
    """A triangle mesh.

    Args:
        vertices: [V, 3] float, x, y, z. The meshes of objects in an image are in the frame of its camera: metres, x to
            the right, y down, z forwards.
        faces: [F, 3] integers, indices of vertices, counter-clockwise seen from outside.
        source: the file or item that the mesh belongs to, for error messages.

    Raises:
        InputError: a shape is wrong, there are no faces, a coordinate is not finite, or an index is out of range.
    """

    __slots__ = ("faces", "source", "vertices")

    vertices: Tensor
    faces: Tensor
    source: str | None

    def __init__(self, vertices: Any, faces: Any, *, source: str | None = None):
        self.vertices, self.faces = torch.as_tensor(vertices), torch.as_tensor(faces)
        self.source = source
        if not self.vertices.is_floating_point():
            self.vertices = self.vertices.float()
        if wrong := _wrong(self.vertices, self.faces):
            raise InputError(f"{source or 'the mesh'} {wrong}")
        self.faces = self.faces.long()

    @classmethod
    def unchecked(cls, vertices: Tensor, faces: Tensor) -> Mesh:
        """Like the constructor, but without checks; for meshes that are valid by construction."""
        self = cls.__new__(cls)
        self.vertices, self.faces, self.source = vertices, faces, None
        return self

    @classmethod
    def of(cls, value: Any) -> Mesh:
        """A mesh from a mesh, or from a pair (vertices, faces) of arrays.

        Raises:
            InputError: the value is neither, or no valid mesh.
        """
        if isinstance(value, Mesh):
            return value
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise InputError(f"a mesh is given as {type(value).__name__}, but must be a Mesh or (vertices, faces)")
        return cls(*value)

    def with_vertices(self, vertices: Tensor) -> Mesh:
        """A mesh with the same faces and other vertices [V, 3]."""
        mesh = self.unchecked(vertices, self.faces)
        mesh.source = self.source
        return mesh

    def to(self, device: torch.device | str) -> Mesh:
        """The same mesh on `device`."""
        mesh = self.unchecked(self.vertices.to(device), self.faces.to(device))
        mesh.source = self.source
        return mesh

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest coordinates of the vertices that faces use, [3] each."""
        used = self.vertices[self.faces.flatten()]
        return used.amin(0), used.amax(0)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.vertices, self.faces))

    def __repr__(self) -> str:
        return f"Mesh({len(self.vertices)} vertices, {len(self.faces)} faces)"

    def __reduce__(self) -> tuple[Any, ...]:
        return _mesh_again, (self.vertices, self.faces, self.source)


def _mesh_again(vertices: Tensor, faces: Tensor, source: str | None) -> Mesh:
    mesh = Mesh.unchecked(vertices, faces)
    mesh.source = source
    return mesh


def _wrong(vertices: Tensor, faces: Tensor) -> str | None:
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        return f"has vertices of shape {list(vertices.shape)}, but they must be [V, 3]: x, y, z"
    if not faces.numel():
        return f"has {len(vertices)} vertices but no faces; export it with its surface, as triangles"
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point():
        return f"has faces of shape {list(faces.shape)} and {faces.dtype}, but they must be [F, 3] integers"
    if not vertices.isfinite().all():
        row = int((~vertices.isfinite().all(1)).nonzero()[0])
        return f"has vertex {row} at {vertices[row].tolist()}, but coordinates must be finite; export it again"
    low, high = int(faces.min()), int(faces.max())
    if low < 0 or high >= len(vertices):
        bad = low if low < 0 else high
        row = int((faces == bad).any(1).nonzero()[0])
        return (
            f"has face {row} with vertex {bad}, but there are {len(vertices)} vertices, 0 to {len(vertices) - 1}; "
            "export it again"
        )
    return None


@dataclass(frozen=True, eq=False)
class Meshes:
    """N meshes packed into shared tensors.

    Attributes:
        vertices: [ΣV, 3] vertices of all meshes, one mesh after another.
        faces: [ΣF, 3] int64 indices of these packed vertices, one mesh after another.
        vertex_counts, face_counts: number of vertices and of faces of each mesh; a mesh may be empty.
    """

    vertices: Tensor
    faces: Tensor
    vertex_counts: tuple[int, ...]
    face_counts: tuple[int, ...]

    @classmethod
    def pack(cls, meshes: Sequence[Mesh]) -> Meshes:
        """Pack meshes, which must be on one device.

        Raises:
            InputError: there are none.
        """
        if not meshes:
            raise InputError("there are no meshes to pack; give at least one")
        starts = [0]
        for mesh in meshes:
            starts.append(starts[-1] + len(mesh.vertices))
        faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
        vertices = torch.cat([mesh.vertices for mesh in meshes])
        counts = tuple(len(m.vertices) for m in meshes), tuple(len(m.faces) for m in meshes)
        return cls(vertices, torch.cat(faces), *counts)

    def __len__(self) -> int:
        return len(self.vertex_counts)

    @cached_property
    def vertex_mesh(self) -> Tensor:
        """[ΣV] int64, the mesh of each vertex."""
        return _repeated(self.vertex_counts, self.vertices.device)

    @cached_property
    def face_mesh(self) -> Tensor:
        """[ΣF] int64, the mesh of each face."""
        return _repeated(self.face_counts, self.faces.device)

    @cached_property
    def edges(self) -> Tensor:
        """[E, 2] int64, every edge once, the smaller index first; sorted, so also by mesh."""
        return unique_edges(self.faces, len(self.vertices))[0]

    def with_vertices(self, vertices: Tensor) -> Meshes:
        """Meshes with the same faces and other vertices [ΣV, 3]. What is known of the faces is kept."""
        moved = replace(self, vertices=vertices)
        for name in ("vertex_mesh", "face_mesh", "edges"):
            if name in self.__dict__:
                moved.__dict__[name] = self.__dict__[name]
        return moved

    def split(self) -> list[Mesh]:
        """The meshes one by one. Their tensors are views of the packed vertices."""
        found, start = [], 0
        pieces = zip(self.vertices.split(self.vertex_counts), self.faces.split(self.face_counts), strict=True)
        for vertices, faces in pieces:
            found.append(Mesh.unchecked(vertices, faces - start))
            start += len(vertices)
        return found


def unique_edges(faces: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
    """The edges of faces.

    Args:
        faces: [F, 3] int64.
        vertices: number of vertices.

    Returns:
        the edges [E, 2], each once with the smaller index first; and for each face the edges from its first to its
        second vertex, from the second to the third, and from the third to the first, [F, 3] indices into the edges.
    """
    ends = torch.stack([faces, faces.roll(-1, 1)], -1).sort(-1).values  # [F, 3, 2]
    keys, of_face = torch.unique(ends[..., 0] * vertices + ends[..., 1], return_inverse=True)
    return torch.stack([keys // max(vertices, 1), keys % max(vertices, 1)], 1), of_face


def _repeated(counts: tuple[int, ...], device: torch.device) -> Tensor:
    sizes = torch.tensor(counts, device=device)
    return torch.arange(len(counts), device=device).repeat_interleave(sizes, output_size=sum(counts))

"""Pictures of meshes: shaded triangles, drawn from far to near (the painter's algorithm).

Faces seen from inside are drawn first, or not at all if the surface is closed, whose other faces hide them.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from sightline.report.colours import Colour
from sightline.structures.meshes import Mesh

_FINER = 2
"""Meshes are drawn at this multiple of the resolution and downsampled, so that edges are smooth."""
_LIGHT = np.array([-0.45, -0.7, -0.55])
"""Direction of the light in the frame of the camera: from the upper left, behind the viewer."""


Seen = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Vertices [V, 3], x and y in pixels and the depth; faces [F, 3]; and how brightly each is lit, [F] in [0, 1]."""


def seen_by(mesh: Mesh, matrix: np.ndarray) -> Seen:
    """The mesh of an object as a camera sees it, whose matrix [3, 3] leads to the pixels of the picture."""
    vertices, faces = mesh.vertices.detach().double().cpu().numpy(), mesh.faces.cpu().numpy()
    seen = vertices @ matrix.T
    if np.linalg.det(matrix[:2, :2]) < 0:  # a mirrored picture shows the other side of a face
        faces = faces[:, ::-1]
    brightness = _brightness(vertices, mesh.faces.cpu().numpy())
    return np.column_stack([seen[:, :2] / np.maximum(seen[:, 2:], 1e-6), vertices[:, 2]]), faces, brightness


def seen_in_box(mesh: Mesh, box: np.ndarray) -> Seen:
    """The mesh of an object as an unknown camera sees it.

    A camera without rotation about its axis scales and shifts (X / Z, Y / Z) to pixels. The box of the object says how,
    so no intrinsics are needed. Of an object that the border of the image cuts, the visible box is filled.

    Args:
        mesh: in the frame of the camera.
        box: [4] xyxy in pixels.
    """
    vertices = mesh.vertices.detach().double().cpu().numpy()
    faces = mesh.faces.cpu().numpy()
    rays = vertices[:, :2] / np.maximum(vertices[:, 2:], 1e-6)
    low, high = rays.min(0), rays.max(0)
    pixels = box[:2] + (rays - low) / np.maximum(high - low, 1e-9) * (box[2:] - box[:2])
    return np.column_stack([pixels, vertices[:, 2]]), faces, _brightness(vertices, faces)


def seen_from(mesh: Mesh, size: int, turn: float = 0.0, tilt: float = 0.0) -> Seen:
    """The mesh alone, filling a square picture, from another side and in parallel projection.

    Args:
        mesh: in the frame of the camera.
        size: side of the picture in pixels.
        turn: angle in radians by which the object is turned about the vertical.
        tilt: angle in radians by which the viewer then looks down on it.
    """
    vertices, faces = mesh.vertices.detach().double().cpu().numpy(), mesh.faces.cpu().numpy()
    low, high = vertices.min(0), vertices.max(0)
    c, s = math.cos(turn), math.sin(turn)
    d, e = math.cos(tilt), math.sin(tilt)
    about_y, about_x = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), np.array([[1, 0, 0], [0, d, -e], [0, e, d]])
    turned = (vertices - (low + high) / 2) @ (about_x @ about_y).T
    reach = max(float(np.linalg.norm(turned, axis=1).max()), 1e-9)
    pixels = (turned[:, :2] / reach * 0.46 + 0.5) * size
    return np.column_stack([pixels, turned[:, 2]]), faces, _brightness(turned, faces)


def paint_mesh(
    picture: Image.Image, vertices: np.ndarray, faces: np.ndarray, brightness: np.ndarray, colour: Colour
) -> None:
    """Paint a mesh on an RGB picture, in place.

    Args:
        picture: the picture.
        vertices: [V, 3], x and y in pixels, and the depth.
        faces: [F, 3].
        brightness: [F] in [0, 1].
        colour: of a fully lit face.
    """
    if not len(faces):
        return
    low = np.floor(vertices[:, :2].min(0)).astype(int).clip(0, picture.size)
    high = np.ceil(vertices[:, :2].max(0)).astype(int).clip(0, picture.size)
    if (high <= low).any():
        return
    left, top, width, height = int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])
    size = (width * _FINER, height * _FINER)
    layer = Image.new("RGBA", size, (*colour, 0))
    pen = ImageDraw.Draw(layer)
    corners = (vertices[faces, :2] - low) * _FINER  # [F, 3, 2]
    a, b, c = np.moveaxis(corners, 1, 0)
    away = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) > (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])  # seen from inside
    order = np.lexsort((-vertices[faces, 2].mean(1), ~away))
    if _is_closed(faces):  # so that the faces in front hide the others
        order = order[~away[order]]
    shades = np.column_stack([np.array(colour) * brightness[:, None], np.full(len(faces), 255)]).astype(int)
    points = corners.reshape(-1, 6)[order].tolist()
    for xy, shade in zip(points, map(tuple, shades[order].tolist()), strict=True):
        pen.polygon(xy, fill=shade)
    part = layer.convert("RGB").resize((width, height), Image.Resampling.BOX)
    picture.paste(part, (left, top), layer.getchannel("A").resize((width, height), Image.Resampling.BOX))


def _is_closed(faces: np.ndarray) -> bool:
    """Whether faces [F, 3] enclose solids: they run along each edge as often in one direction as in the other."""
    start, end = faces.astype(np.int64).ravel(), np.roll(faces, -1, axis=1).astype(np.int64).ravel()
    count = int(faces.max()) + 1
    return bool((np.sort(start * count + end) == np.sort(end * count + start)).all())


def mesh_picture(mesh: Mesh, colour: Colour, size: int, turn: float = 0.6, tilt: float = 0.45) -> Image.Image:
    """A mesh alone from another side, `size` × `size` pixels on a light ground."""
    picture = Image.new("RGB", (size, size), (236, 238, 242))
    paint_mesh(picture, *seen_from(mesh, size, turn, tilt), colour)
    return picture


def _brightness(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    light = _LIGHT / np.linalg.norm(_LIGHT)
    lit: np.ndarray = 0.3 + 0.7 * np.maximum(normal @ light, 0) + 0.12 * np.abs(normal[:, 2])
    return lit.clip(0, 1)

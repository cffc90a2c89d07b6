"""Draw the meshes of objects on their image, and alone beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from sightline.report.draw_cuboids import matrices_of
from sightline.report.drawn_fields import Drawing, Drawn
from sightline.report.mesh_pictures import mesh_picture, paint_mesh, seen_by, seen_in_box
from sightline.report.style import PAPER
from sightline.structures.meshes import Mesh

_SHOWN = 8
"""Maximum number of shapes that are shown alone."""


def _paint(drawing: Drawing, meshes: Sequence[object]) -> None:
    """Draw each mesh shaded over the image, the farthest first; without a camera, as it fits into its box."""
    boxes, matrices = drawing.scaled(drawing.result.boxes, repeats=2), matrices_of(drawing.result, drawing.style)
    shapes = [Mesh.of(mesh) for mesh in meshes]
    scale = np.diag([*drawing.scale, 1.0])
    for i in sorted(range(len(shapes)), key=lambda i: -float(shapes[i].vertices[:, 2].mean())):
        own = seen_in_box(shapes[i], boxes[i]) if matrices is None else seen_by(shapes[i], scale @ matrices[i].numpy())
        paint_mesh(drawing.canvas.picture, *own, drawing.colours[i])


def _beside(drawing: Drawing, meshes: Sequence[object], picture: Image.Image, _: list[str]) -> Image.Image:
    """The picture with the first shapes, from another side, in a strip to its right of half its height."""
    count = min(len(meshes), _SHOWN)
    columns = 1 if count <= 2 else 2
    strip = picture.height // 2
    side = strip // columns
    if not count or not side:
        return picture
    out = Image.new("RGB", (picture.width + 4 + strip, picture.height), PAPER)
    out.paste(picture, (0, 0))
    for i in range(count):
        row, column = divmod(i, columns)
        alone = mesh_picture(Mesh.of(meshes[i]), drawing.colours[i], side - 1)
        out.paste(alone, (picture.width + 4 + column * side, row * side))
    return out


SURFACES = Drawn(_paint, _beside)

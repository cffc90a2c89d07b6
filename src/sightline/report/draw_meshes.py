"""Draw the meshes of objects on their image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sightline.report.draw_cuboids import matrices_of
from sightline.report.drawn_fields import Drawing, Drawn
from sightline.report.mesh_pictures import paint_mesh, seen_by, seen_in_box
from sightline.structures.meshes import Mesh


def _paint(drawing: Drawing, meshes: Sequence[object]) -> None:
    """Draw each mesh shaded over the image, the farthest first; without a camera, as it fits into its box."""
    boxes, matrices = drawing.scaled(drawing.result.boxes, repeats=2), matrices_of(drawing.result, drawing.style)
    shapes = [Mesh.of(mesh) for mesh in meshes]
    scale = np.diag([*drawing.scale, 1.0])
    for i in sorted(range(len(shapes)), key=lambda i: -float(shapes[i].vertices[:, 2].mean())):
        own = seen_in_box(shapes[i], boxes[i]) if matrices is None else seen_by(shapes[i], scale @ matrices[i].numpy())
        paint_mesh(drawing.canvas.picture, *own, drawing.colours[i])


SURFACES = Drawn(_paint)

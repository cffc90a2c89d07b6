"""Draw cuboids: their edges in the image, and their outlines from above."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sightline.ops.cuboids import EDGES, cuboid_corners, known_cuboids
from sightline.report.canvas import Canvas
from sightline.report.colours import Colour
from sightline.report.drawn_fields import Drawing, Drawn
from sightline.report.fonts import font_for
from sightline.report.style import FAINT, PAPER, Style
from sightline.structures import Instances

_NEAR = 0.05
"""Edges are cut at this distance in front of the camera, in metres."""
_GRID: Colour = (52, 56, 64)


def matrices_of(result: Instances, style: Style) -> Tensor | None:
    """[N, 3, 3] float64 camera matrix of each object in pixels of its image: of the result, or of the drawn image."""
    if "cameras" in result:
        own: Tensor = result.cameras.double()
        return own
    return None if style.camera is None else style.camera.intrinsics.double().expand(len(result), 3, 3)


def in_perspective(
    canvas: Canvas, result: Instances, colours: Sequence[Colour], scale: tuple[float, float], style: Style
) -> None:
    """Draw the edges of the known cuboids, the farthest object first; nothing without a camera.

    Args:
        canvas: the canvas with the image.
        result: the objects, on the CPU.
        colours: the colour of each object.
        scale: (x, y) factors from the pixels of the objects to those of the canvas.
        style: how they are drawn; objects with a remark are dashed.
    """
    matrices, cuboids = matrices_of(result, style), result.cuboids
    if matrices is None:
        return
    corners = cuboid_corners(cuboids.double())
    known = known_cuboids(cuboids)
    for i in sorted(known.nonzero().flatten().tolist(), key=lambda i: -float(cuboids[i, 2])):
        for a, b in EDGES:
            ends = _in_front(corners[i, a], corners[i, b])
            if ends is None:
                continue
            seen = ends @ matrices[i].T
            pixels = (seen[:, :2] / seen[:, 2:] * torch.tensor(scale, dtype=torch.float64)).tolist()
            canvas.edge(pixels[0], pixels[1], colours[i], dashed=bool(style.remarks and style.remarks[i]))


def _in_front(a: Tensor, b: Tensor) -> Tensor | None:
    """The part of an edge in front of the camera: its ends [2, 3], or None."""
    if a[2] < _NEAR and b[2] < _NEAR:
        return None
    cut = [p if p[2] >= _NEAR else p + (q - p) * ((_NEAR - p[2]) / (q[2] - p[2])) for p, q in ((a, b), (b, a))]
    return torch.stack(cut)


def from_above(result: Instances, colours: Sequence[Colour], style: Style, size: int) -> Image.Image:
    """The known cuboids from above, with the camera at the bottom looking up: a square picture of `size` pixels.

    Lines of the grid are labelled with the depth in metres. The two rays from the camera are the sides of its view.
    """
    known = known_cuboids(result.cuboids)
    corners = cuboid_corners(result.cuboids.double())[..., [0, 2]]  # [N, 8, 2] x, z
    there = corners[known].reshape(-1, 2)
    far = max(1.0, 1.08 * float(there[:, 1].max())) if len(there) else 10.0
    wide = max(far / 2, 1.08 * float(there[:, 0].abs().max()) if len(there) else 0)
    metre = size / max(far, 2 * wide)
    picture = Image.new("RGB", (size, size), PAPER)
    pen = ImageDraw.Draw(picture)

    def place(x: float, z: float) -> tuple[float, float]:
        return size / 2 + x * metre, size - 1 - z * metre

    _grid(pen, size, metre)
    for x in _sides_of_view(result, style):
        pen.line([place(0, 0), place(x * far, far)], fill=FAINT, width=1)
    canvas = Canvas(picture, style.scale * 1.2)
    for i in sorted(known.nonzero().flatten().tolist(), key=lambda i: -float(result.cuboids[i, 1])):
        points = [place(x, z) for x, z in outline(corners[i].tolist())]
        marked = bool(style.remarks and style.remarks[i])
        for start, end in zip(points, [*points[1:], points[0]], strict=True):
            canvas.edge(start, end, colours[i], dashed=marked)
    return picture


def outline(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """The corners of the convex hull of points (x, y), in order; by Andrew's monotone chain."""
    rising = sorted({(float(x), float(y)) for x, y in points})
    halves = []
    for ordered in (rising, rising[::-1]):
        chain: list[tuple[float, float]] = []
        for x, y in ordered:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 1e-12:
                    break
                chain.pop()
            chain.append((x, y))
        halves.append(chain[:-1])
    return halves[0] + halves[1]


def _grid(pen: ImageDraw.ImageDraw, size: int, metre: float) -> None:
    step = _round_step(size / metre)
    height = max(10, size // 28)
    font = font_for("0", height)
    for k in range(1, math.ceil(size / metre / step)):
        y = size - 1 - k * step * metre
        pen.line([(0, y), (size, y)], fill=_GRID)
        if y > 1.2 * height:  # else the upper edge cuts the text off
            pen.text((3, y), f"{k * step:g} m", fill=FAINT, font=font, anchor="ls")
        for x in (size / 2 - k * step * metre, size / 2 + k * step * metre):
            pen.line([(x, 0), (x, size)], fill=_GRID)
    pen.line([(size / 2, 0), (size / 2, size)], fill=_GRID)
    pen.text((3, size - 3), "from above", fill=FAINT, font=font, anchor="ls")


def _round_step(length: float) -> float:
    """A round number of metres such that about five steps fit into `length`."""
    rough = length / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _sides_of_view(result: Instances, style: Style) -> list[float]:
    """x / z of the left and the right side of the image at the height of the principal point; empty if unknown."""
    matrices = matrices_of(result, style)
    if matrices is None or not len(matrices):
        return []
    matrix, width = matrices[0], result.image_size[1]
    pixels = torch.tensor([[0.0, width], [float(matrix[1, 2])] * 2, [1.0, 1.0]], dtype=torch.float64)
    rays = torch.linalg.solve(matrix, pixels)
    return [float(x) for x in rays[0] / rays[2]]


def beside_from_above(picture: Image.Image, result: Instances, colours: Sequence[Colour], style: Style) -> Image.Image:
    """The picture with the objects from above to its right."""
    above = from_above(result, colours, style, picture.height)
    out = Image.new("RGB", (picture.width + 4 + above.width, picture.height), PAPER)
    out.paste(picture, (0, 0))
    out.paste(above, (picture.width + 4, 0))
    return out


def _paint(drawing: Drawing, cuboids: Tensor) -> None:
    """The edges of the known cuboids; of an object whose cuboid is unknown its box, unless all boxes are drawn."""
    if CUBOIDS.outlines(drawing):
        boxes = drawing.scaled(drawing.result.boxes, repeats=2).tolist()
        for i in (~known_cuboids(cuboids)).nonzero().flatten().tolist():
            drawing.canvas.box(boxes[i], drawing.colours[i], dashed=True)
    in_perspective(drawing.canvas, drawing.result, drawing.colours, drawing.scale, drawing.style)


def _beside(drawing: Drawing, cuboids: Tensor, picture: Image.Image, _: list[str]) -> Image.Image:
    return beside_from_above(picture, drawing.result, drawing.colours, drawing.style) if len(cuboids) else picture


CUBOIDS = Drawn(_paint, _beside, outlines=lambda drawing: matrices_of(drawing.result, drawing.style) is not None)

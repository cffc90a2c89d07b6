"""Draw objects on their image; the rows of `sightline.structures.fields` say how each field is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.geometry import following
from sightline.report.canvas import Canvas
from sightline.report.colours import Colour, class_colour
from sightline.report.draw_captions import with_captions
from sightline.report.draw_cuboids import beside_from_above, in_perspective, matrices_of
from sightline.report.draw_graph import draw_graph
from sightline.report.mesh_pictures import paint_mesh, seen_by, seen_in_box
from sightline.report.style import Style
from sightline.structures import Instances
from sightline.structures.meshes import Mesh

_LABELLED = 0.15
"""Maximum fraction of the image that labels may cover if there are many objects."""


@dataclass(frozen=True)
class Drawing:
    """Objects to be drawn on a canvas.

    Attributes:
        canvas: the canvas with the image.
        result: the objects, on the CPU.
        colours: the colour of each object.
        scale: (x, y) factors from the pixels of the objects to those of the canvas.
        style: how they are drawn.
    """

    canvas: Canvas
    result: Instances
    colours: list[Colour]
    scale: tuple[float, float]
    style: Style

    def marked(self, i: int) -> bool:
        """Whether object i has a remark."""
        return bool(self.style.remarks and self.style.remarks[i])

    @property
    def small_last(self) -> list[int]:
        """Indices of the objects by falling area of their boxes, so that small objects are drawn on top."""
        boxes = self.result.boxes
        sizes = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).tolist()
        return sorted(range(len(sizes)), key=lambda i: -sizes[i])


def draw_objects(result: Instances, picture: Image.Image, style: Style) -> Image.Image:
    """Draw objects on `picture`, which may be smaller or larger than the image they belong to."""
    count = len(result)
    if style.remarks is not None and len(style.remarks) != count:
        raise InputError(f"there are {len(style.remarks)} remarks for {count} objects; give one (or None) per object")
    result = result.to("cpu")
    height, width = result.image_size
    canvas = Canvas(picture, style.scale if count <= 12 else 0.85 * style.scale)
    scale = (picture.width / max(width, 1), picture.height / max(height, 1))
    drawing = Drawing(canvas, result, _colours(result), scale, style)
    solid = "cuboids" in result
    flat = solid and matrices_of(result, style) is not None  # edges of cuboids replace the boxes
    for kind, paint in DRAWN.items() if count else ():
        for row, _, values in following(result):
            if row.drawn == kind and not (kind == "boxes" and flat):
                paint(drawing, values)
        if kind == "boxes" and "boxes" in result:
            _labels(drawing)
    if solid and count:
        picture = beside_from_above(picture, result, drawing.colours, style)
    if "relations" in result and "boxes" in result:
        return draw_graph(picture, result, _texts(drawing), drawing.colours, style)
    if "captions" in result and count:
        texts = [f"{i + 1} {caption}" for i, caption in enumerate(result.captions)]
        return with_captions(picture, texts, drawing.colours)
    return picture


def _colours(result: Instances) -> list[Colour]:
    """The colours of the objects' classes; for masks of a single class, one colour per object."""
    labels = result.labels.tolist() if "labels" in result else [0] * len(result)
    single = len(result.classes) == 1 if result.classes is not None else len(set(labels)) == 1
    outlined = any(row.outline for row, _, _ in following(result))
    return [class_colour(i) for i in range(len(result))] if outlined and single else [class_colour(i) for i in labels]


def _masks(drawing: Drawing, masks: Tensor) -> None:
    (height, width), picture, (sx, sy) = drawing.result.image_size, drawing.canvas.picture, drawing.scale
    rows = np.minimum(((np.arange(picture.height) + 0.5) / sy).astype(int), height - 1)
    columns = np.minimum(((np.arange(picture.width) + 0.5) / sx).astype(int), width - 1)
    for mask, colour in zip(masks.numpy(), drawing.colours, strict=True):
        drawing.canvas.mask(mask[rows][:, columns], colour, drawing.style.opacity)


def _boxes(drawing: Drawing, boxes: Tensor) -> None:
    places = _scaled(drawing, boxes, repeats=2).tolist()
    for i in drawing.small_last:
        drawing.canvas.box(places[i], drawing.colours[i], dashed=drawing.marked(i))


def _labels(drawing: Drawing) -> None:
    canvas, places, texts = drawing.canvas, _scaled(drawing, drawing.result.boxes, repeats=2).tolist(), _texts(drawing)
    room = _LABELLED * canvas.picture.width * canvas.picture.height
    for i in drawing.small_last:  # with many objects only the largest are labelled; colours identify the others
        if texts[i] and (canvas.labelled < room or len(texts) <= 12 or drawing.marked(i)):
            canvas.label(places[i], texts[i], drawing.colours[i])


def _points(drawing: Drawing, keypoints: Tensor) -> None:
    sx, sy = drawing.scale
    for points, colour in zip((keypoints.double().numpy() * [sx, sy, 1]).tolist(), drawing.colours, strict=True):
        for a, b in drawing.style.skeleton:
            if points[a][2] > 0 and points[b][2] > 0:
                drawing.canvas.stroke([(points[a][0], points[a][1]), (points[b][0], points[b][1])], colour)
        for x, y, seen in points:
            if seen > 0:
                drawing.canvas.dot(x, y, colour, filled=seen > 1)


def _cuboids(drawing: Drawing, _: Tensor) -> None:
    in_perspective(drawing.canvas, drawing.result, drawing.colours, drawing.scale, drawing.style)


def _vectors(drawing: Drawing, vectors: Tensor) -> None:
    """Draw vectors from the centre of each object's box, with a dot at the tip."""
    boxes = drawing.result.boxes
    starts = _scaled(drawing, (boxes[:, :2] + boxes[:, 2:]) / 2)
    tips = starts + _scaled(drawing, vectors)
    for (x1, y1), (x2, y2), colour in zip(starts.tolist(), tips.tolist(), drawing.colours, strict=True):
        drawing.canvas.stroke([(x1, y1), (x2, y2)], colour)
        drawing.canvas.dot(x2, y2, colour)


def _text(drawing: Drawing, values: Any) -> None:
    """Draw nothing: the text is part of the label, or below the image."""


def _meshes(drawing: Drawing, meshes: Any) -> None:
    """Draw each mesh shaded over the image, the farthest first; without a camera, as it fits into its box."""
    boxes, matrices = _scaled(drawing, drawing.result.boxes, repeats=2), matrices_of(drawing.result, drawing.style)
    shapes = [Mesh.of(mesh) for mesh in meshes]
    scale = np.diag([*drawing.scale, 1.0])
    for i in sorted(range(len(shapes)), key=lambda i: -float(shapes[i].vertices[:, 2].mean())):
        own = seen_in_box(shapes[i], boxes[i]) if matrices is None else seen_by(shapes[i], scale @ matrices[i].numpy())
        paint_mesh(drawing.canvas.picture, *own, drawing.colours[i])


DRAWN: dict[str, Callable[[Drawing, Any], None]] = {
    "pixels": _masks,
    "cuboids": _cuboids,
    "surfaces": _meshes,
    "boxes": _boxes,
    "points": _points,
    "vectors": _vectors,
    "text": _text,
    "captions": _text,
}
"""The drawing function for each value of `Field.drawn`; later ones are drawn on top."""


def _scaled(drawing: Drawing, values: Tensor, repeats: int = 1) -> np.ndarray:
    """x, y (or x1, y1, x2, y2 with two repeats) in pixels of the canvas, float64."""
    scaled: np.ndarray = values.double().numpy() * [*drawing.scale * repeats]
    return scaled


def _texts(drawing: Drawing) -> list[str]:
    """The label of each object: its number beside captions or a graph, class, score, text fields, remark."""
    result, style = drawing.result, drawing.style
    numbered = "captions" in result or "relations" in result
    words: list[list[str]] = [[str(i + 1)] if numbered else [] for i in range(len(result))]
    if style.names and "labels" in result:
        for text, label in zip(words, result.labels.tolist(), strict=True):
            known = result.classes is not None and 0 <= label < len(result.classes)
            text.append(result.classes[label] if known and result.classes is not None else f"class {label}")
    if style.scores and "scores" in result:
        for text, score in zip(words, result.scores.tolist(), strict=True):
            text.append(f"{score:.2f}")
    for row, _, values in following(result):
        for text, value in zip(words, values, strict=True) if row.drawn == "text" else ():
            text.append(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
    if style.remarks is not None:
        for text, remark in zip(words, style.remarks, strict=True):
            text += [f"· {remark}"] if remark else []
    return [" ".join(text) for text in words]

"""Draw objects on their image; the rows of `sightline.structures.fields` say how each field is drawn."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.geometry import following
from sightline.report.canvas import Canvas
from sightline.report.colours import Colour, class_colour
from sightline.report.draw_captions import CAPTIONS
from sightline.report.draw_cuboids import CUBOIDS
from sightline.report.draw_graph import RELATIONS
from sightline.report.draw_meshes import SURFACES
from sightline.report.drawn_fields import Drawing, Drawn
from sightline.report.style import Style
from sightline.structures import Instances

_LABELLED = 0.15
"""Maximum fraction of the image that labels may cover if there are many objects."""


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
    fields = [(kind, values) for kind in DRAWN for row, _, values in following(result) if row.drawn == kind]
    outlined = any(DRAWN[kind].outlines(drawing) for kind, _ in fields)
    texts = _texts(drawing, numbered=any(DRAWN[kind].numbered for kind, _ in fields))
    for kind, values in fields if count else ():
        if (paint := DRAWN[kind].paint) and not (kind == "boxes" and outlined):
            paint(drawing, values)
        if values is result.fields.get("boxes"):
            _labels(drawing, texts)
    for kind, values in fields:
        if beside := DRAWN[kind].beside:
            picture = beside(drawing, values, picture, texts)
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
    places = drawing.scaled(boxes, repeats=2).tolist()
    for i in drawing.small_last:
        drawing.canvas.box(places[i], drawing.colours[i], dashed=drawing.marked(i))


def _labels(drawing: Drawing, texts: list[str]) -> None:
    canvas, places = drawing.canvas, drawing.scaled(drawing.result.boxes, repeats=2).tolist()
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


def _vectors(drawing: Drawing, vectors: Tensor) -> None:
    """Draw vectors from the centre of each object's box, with a dot at the tip."""
    boxes = drawing.result.boxes
    starts = drawing.scaled((boxes[:, :2] + boxes[:, 2:]) / 2)
    tips = starts + drawing.scaled(vectors)
    for (x1, y1), (x2, y2), colour in zip(starts.tolist(), tips.tolist(), drawing.colours, strict=True):
        drawing.canvas.stroke([(x1, y1), (x2, y2)], colour)
        drawing.canvas.dot(x2, y2, colour)


DRAWN: dict[str, Drawn] = {
    "pixels": Drawn(_masks),
    "cuboids": CUBOIDS,
    "surfaces": SURFACES,
    "boxes": Drawn(_boxes),
    "points": Drawn(_points),
    "vectors": Drawn(_vectors),
    "text": Drawn(),  # part of the label
    "relations": RELATIONS,
    "captions": CAPTIONS,
}
"""How each value of `Field.drawn` is drawn; later ones are drawn on top, and farther from the image."""


def _texts(drawing: Drawing, numbered: bool) -> list[str]:
    """The label of each object: its number, if something beside the image refers to it, class, score, text fields,
    remark."""
    result, style = drawing.result, drawing.style
    words: list[list[str]] = [[str(i + 1)] if numbered else [] for i in range(len(result))]
    if style.names and "labels" in result:
        for text, label in zip(words, result.labels.tolist(), strict=True):
            known = result.classes is not None and 0 <= label < len(result.classes)
            text.append(result.classes[label] if known and result.classes is not None else f"class {label}")
    if style.scores and "scores" in result:
        for text, score in zip(words, result.scores.tolist(), strict=True):
            text.append(f"{score:.2f}")
    for row, _, values in following(result):
        plain = values.tolist() if isinstance(values, Tensor) else values
        for text, value in zip(words, plain, strict=True) if row.drawn == "text" else ():
            number = "#" if row.dtype == "int64" else ""
            text.append(", ".join(map(str, value)) if isinstance(value, list | tuple) else f"{number}{value}")
    if style.remarks is not None:
        for text, remark in zip(words, style.remarks, strict=True):
            text += [f"· {remark}"] if remark else []
    return [" ".join(text) for text in words]

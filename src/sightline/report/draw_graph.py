"""Draw the relations between objects as a graph beside their image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from sightline.report.canvas import Canvas
from sightline.report.colours import Colour
from sightline.report.drawn_fields import Drawing, Drawn
from sightline.report.style import FAINT, INK, PAPER, Style
from sightline.structures import Instances
from sightline.structures.relations import Triplet, likely
from sightline.words import counted

_SIDE = 360
"""Minimum side of the graph, in pixels."""
_MOST = 10
"""Maximum number of arrows; the other relations are only counted."""
_BOTH_WAYS = 6
"""Maximum number of arrows with which two objects have an arrow in each direction."""
_CROWDED = 12
"""Number of objects above which those without an arrow are left out."""
_BEND = 0.16
"""How far an arrow bends to the side, as a fraction of its length, so that the two of a pair are apart."""


class _Arrow(NamedTuple):
    """The relations from one object to another; `first` if it is before the arrow of the other direction."""

    subject: int
    object: int
    words: list[str]
    first: bool


def draw_graph(
    picture: Image.Image, result: Instances, names: Sequence[str], colours: Sequence[Colour], style: Style
) -> Image.Image:
    """Put the graph to the right of the picture: objects on a circle, in the direction in which they are in the image.

    An arrow from the subject to the object has the names of its predicates. Of predicted relations, those that hold
    rather than not are drawn. If there are many, two objects have one arrow: that of the best relation between them. Of
    many objects, only those with an arrow are drawn.

    Args:
        picture: the image with its objects.
        result: the objects, with `keys` and `relations`.
        names: the text of each object's node.
        colours: the colour of each object.
        style: how they are drawn.
    """
    side = max(_SIDE, picture.height)
    graph = Image.new("RGB", (side, side), PAPER)
    canvas = Canvas(graph, style.scale)
    arrows = _arrows(likely(result))
    shown = [arrow for arrow in arrows if len(arrows) <= _BOTH_WAYS or arrow.first][:_MOST]
    related = {i for arrow in shown for i in (arrow.subject, arrow.object)}
    nodes = [i for i in range(len(result)) if len(result) <= _CROWDED or i in related]
    places = _places(result, side, nodes)
    curves = [_arrow(canvas, places[arrow.subject], places[arrow.object], colours[arrow.subject]) for arrow in shown]
    for i in nodes:
        x, y = places[i]
        canvas.dot(x, y, colours[i])
        canvas.label((x - 4, y - 4, x + 4, y + 4), names[i], colours[i])
    for arrow, curve in zip(shown, curves, strict=True):  # last, at the place of its arrow where it covers no other
        middle, *others = [(x, y, x, y) for x, y in (curve[k] for k in (8, 6, 10, 5, 11, 4, 12))]
        canvas.label(middle, ", ".join(arrow.words), FAINT, others)
    left = sum(len(arrow.words) for arrow in arrows) - sum(len(arrow.words) for arrow in shown)
    if left:
        canvas.pen.text((6, side - 16), f"… {counted(left, 'more relation')}", fill=INK)
    out = Image.new("RGB", (picture.width + side, side), PAPER)
    out.paste(picture, (0, 0))
    out.paste(graph, (picture.width, 0))
    return out


def _places(result: Instances, side: int, nodes: Sequence[int]) -> dict[int, tuple[float, float]]:
    """The place of each node: evenly on a circle, in the order of the angles of the objects around their mean."""
    centres = ((result.boxes[:, :2] + result.boxes[:, 2:]) / 2).double()[list(nodes)]
    around = (centres - centres.mean(0)).tolist()
    angles = {i: math.atan2(y, x) for i, (x, y) in zip(nodes, around, strict=True)}
    order = sorted(nodes, key=angles.__getitem__)
    first = angles[order[0]] if order else 0.0
    places = {}
    for number, i in enumerate(order):
        angle = first + 2 * math.pi * number / len(order)
        places[i] = (side * (0.5 + 0.36 * math.cos(angle)), side * (0.5 + 0.38 * math.sin(angle)))
    return places


def _arrows(triplets: Sequence[Triplet]) -> list[_Arrow]:
    """The predicates of each ordered pair, by descending score."""
    found: dict[tuple[int, int], list[str]] = {}
    for subject, predicate, object_, _ in triplets:
        found.setdefault((subject, object_), []).append(predicate)
    order = {pair: number for number, pair in enumerate(found)}
    return [_Arrow(*pair, words, order.get(pair[::-1], len(order)) > order[pair]) for pair, words in found.items()]


def _arrow(
    canvas: Canvas, start: tuple[float, float], end: tuple[float, float], colour: Colour
) -> list[tuple[float, float]]:
    """A bent line from `start` to `end` with a head before its end; returns 16 points of it, the middle at index 8."""
    (x1, y1), (x2, y2) = start, end
    middle = ((x1 + x2) / 2 + _BEND * (y2 - y1), (y1 + y2) / 2 - _BEND * (x2 - x1))
    curve = [_on_curve(start, middle, end, t / 16) for t in range(16)]
    canvas.stroke(curve, colour)
    tip, before = _on_curve(start, middle, end, 0.93), curve[14]
    length = math.dist(tip, before) or 1.0
    along = ((tip[0] - before[0]) / length, (tip[1] - before[1]) / length)
    size = 4 * canvas.line + 5
    back = (tip[0] - size * along[0], tip[1] - size * along[1])
    wing = (0.5 * size * -along[1], 0.5 * size * along[0])
    canvas.pen.polygon(
        [tip, (back[0] + wing[0], back[1] + wing[1]), (back[0] - wing[0], back[1] - wing[1])], fill=colour
    )
    return curve


def _on_curve(
    start: tuple[float, float], middle: tuple[float, float], end: tuple[float, float], t: float
) -> tuple[float, float]:
    """The point at `t` of a quadratic Bézier curve."""
    a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
    return a * start[0] + b * middle[0] + c * end[0], a * start[1] + b * middle[1] + c * end[1]


def _beside(drawing: Drawing, _: Any, picture: Image.Image, texts: list[str]) -> Image.Image:
    """The picture with the graph of its objects to its right."""
    if "boxes" not in drawing.result:
        return picture
    return draw_graph(picture, drawing.result, texts, drawing.colours, drawing.style)


RELATIONS = Drawn(beside=_beside, numbered=True)

"""What draws the fields of objects: one `Drawn` for each kind of drawing, a row of `draw_objects.DRAWN`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sightline.report.canvas import Canvas
from sightline.report.colours import Colour
from sightline.report.style import Style
from sightline.structures import Instances


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
        """Indices of the objects by descending area of their boxes, so that small objects are drawn on top."""
        boxes = self.result.boxes
        sizes = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).tolist()
        return sorted(range(len(sizes)), key=lambda i: -sizes[i])

    def scaled(self, values: Tensor, repeats: int = 1) -> np.ndarray:
        """x, y (or x1, y1, x2, y2 with two repeats) in pixels of the canvas, float64."""
        pixels: np.ndarray = values.double().numpy() * [*self.scale * repeats]
        return pixels


Paint = Callable[[Drawing, Any], None]
"""(drawing, values of the field) → drawn on the canvas."""
Beside = Callable[[Drawing, Any, Image.Image, list[str]], Image.Image]
"""(drawing, values of the field, picture with all that is painted, labels of the objects) → a larger picture."""


@dataclass(frozen=True)
class Drawn:
    """How a kind of field is drawn.

    Attributes:
        paint: draws the values of all objects on the image; None if there is nothing to paint.
        beside: puts what does not belong on the image beside or below it; None if there is nothing.
        numbered: whether labels begin with the number of their object, by which `beside` names it.
        outlines: whether what is painted shows the outlines of these objects, so that their boxes are left out.
    """

    paint: Paint | None = None
    beside: Beside | None = None
    numbered: bool = False
    outlines: Callable[[Drawing], bool] = lambda drawing: False

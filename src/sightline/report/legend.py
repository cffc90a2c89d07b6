"""The legend below a picture: what its colours mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from sightline.report.colours import Colour
from sightline.report.fonts import drawable, font_for
from sightline.report.style import FAINT, INK, PAPER


def with_legend(
    picture: Image.Image, entries: Sequence[tuple[str, Colour | None]], size: int | None = None
) -> Image.Image:
    """Return a new image with a legend below.

    Args:
        picture: RGB.
        entries: texts with their colours; None for an empty box.
        size: font size in pixels; by default it grows with the picture.
    """
    size = max(10, round(np.hypot(*picture.size) / 55)) if size is None else size
    line = round(size * 1.6)
    entries = [(drawable(text), colour) for text, colour in entries]
    fonts = [font_for(text, size) for text, _ in entries]
    measure = ImageDraw.Draw(picture)
    widths = [
        round(measure.textlength(text, font=font) + size * 2.6) for (text, _), font in zip(entries, fonts, strict=True)
    ]
    places, x, y = [], 0, 0
    for width in widths:
        if x and x + width > picture.width:
            x, y = 0, y + line
        places.append((x, y))
        x += width
    out = Image.new("RGB", (max(picture.width, *widths), picture.height + y + line), PAPER)
    out.paste(picture, (0, 0))
    pen = ImageDraw.Draw(out)
    for (text, colour), font, (x, y) in zip(entries, fonts, places, strict=True):
        top = picture.height + y + line / 2
        box = (x + size * 0.5, top - size * 0.45, x + size * 1.4, top + size * 0.45)
        pen.rectangle(box, fill=colour, outline=FAINT if colour is None else None)
        pen.text((x + size * 1.8, top), text, fill=INK, font=font, anchor="lm")
    return out

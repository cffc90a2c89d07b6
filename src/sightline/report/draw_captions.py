"""Write the captions of objects below their image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from sightline.report.canvas import wrapped
from sightline.report.colours import Colour
from sightline.report.drawn_fields import Drawing, Drawn
from sightline.report.fonts import drawable, font_for
from sightline.report.style import INK, PAPER

MOST = 12
"""Maximum number of captions below an image."""


def with_captions(picture: Image.Image, captions: Sequence[str], colours: Sequence[Colour]) -> Image.Image:
    """The image with captions below it, one after the other, each in lines that fit its width.

    Args:
        picture: the image.
        captions: the captions; of many, only the first are written.
        colours: the colour of each caption's object, of the square before it.
    """
    size = max(10, round(np.hypot(*picture.size) / 55))
    line, left = round(size * 1.5), round(size * 1.8)
    texts = [drawable(caption) for caption in captions[:MOST]]
    if len(captions) > MOST:
        texts.append(f"… and {len(captions) - MOST} more")
    fonts = [font_for(text, size) for text in texts]
    written = [wrapped(text, font, picture.width - left) for text, font in zip(texts, fonts, strict=True)]
    height = line * sum(map(len, written)) + round(size * 0.6)
    out = Image.new("RGB", (picture.width, picture.height + height), PAPER)
    out.paste(picture, (0, 0))
    pen, y = ImageDraw.Draw(out), picture.height + size * 0.3 + line / 2
    for number, (lines, font) in enumerate(zip(written, fonts, strict=True)):
        if number < min(len(captions), MOST):
            square = (size * 0.5, y - size * 0.45, size * 1.4, y + size * 0.45)
            pen.rectangle(square, fill=colours[number])
        for text in lines:
            pen.text((left, y), text, fill=INK, font=font, anchor="lm")
            y += line
    return out


def _below(drawing: Drawing, captions: Sequence[str], picture: Image.Image, _: list[str]) -> Image.Image:
    """The picture with the numbered captions of the objects below it."""
    if not len(captions):
        return picture
    texts = [f"{i + 1} {caption}" for i, caption in enumerate(captions)]
    return with_captions(picture, texts, drawing.colours)


CAPTIONS = Drawn(beside=_below, numbered=True)

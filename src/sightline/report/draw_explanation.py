"""Draw the heat map of an explanation over its image, with a colour bar."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sightline.explain.explanation import Explanation
from sightline.report.canvas import Canvas, wrapped
from sightline.report.fonts import drawable, font_for
from sightline.report.style import INK, PAPER, Style

_UNSIGNED, _SIGNED = "inferno", "bwr"
"""matplotlib's colour maps for heat from 0, and for heat on both sides of 0."""
_CLIPPED = 0.002
"""Fraction of the pixels above the end of the colour scale, so that single pixels do not darken all others."""
_GREY, _LEAST = 0.6, 0.35
"""How far the image is desaturated, and the opacity at zero heat as a fraction of the maximum opacity."""
_WHITE = (255, 255, 255)
SEEN = (170, 174, 182)
"""Colour of the frame around the part of the image that the model sees."""


def draw_explanation(result: Explanation, picture: Image.Image, style: Style) -> Image.Image:
    """Draw an explanation on `picture`, which may be smaller or larger than the image it belongs to.

    The image is shown in faint colours under the heat map. A ring marks the peak, a white outline the box or mask that
    is explained, and a thin grey frame the part of the image that the model sees, if it does not see all. If names are
    written, a colour bar and the target are below.
    """
    highest = _highest(result)
    heat = _resized(result.heat.numpy(), picture.size)
    values = heat.clip(-highest, highest) / highest if highest else np.zeros_like(heat)  # in [−1, 1]
    least = 0 if result.signed else _LEAST
    opacity = min(1.0, 1.5 * style.opacity) * (least + (1 - least) * abs(values))
    pixels = np.asarray(picture).astype(np.float32)
    pixels += (pixels.mean(2, keepdims=True) - pixels) * _GREY
    pixels += (_colours(values, result.signed) - pixels) * opacity[..., None]
    picture = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    _outline(result, picture, style)
    return _with_bar(picture, result, highest) if style.names else picture


def _highest(result: Explanation) -> float:
    """The heat at the end of the colour scale; 0 for an explanation without heat."""
    heat = np.abs(result.heat.numpy()) if result.signed else result.heat.numpy().clip(0)
    return float(np.quantile(heat, 1 - _CLIPPED)) or float(heat.max())


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map to (width, height)."""
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR))


def _colours(values: np.ndarray, signed: bool) -> np.ndarray:
    """Values in [−1, 1] → float RGB from 0 to 255."""
    from matplotlib import colormaps

    table = colormaps[_SIGNED if signed else _UNSIGNED](np.linspace(0, 1, 256))[:, :3] * 255
    places = (values + 1) / 2 if signed else values.clip(0)
    colours: np.ndarray = table[np.rint(places * 255).astype(int)].astype(np.float32)
    return colours


def _outline(result: Explanation, picture: Image.Image, style: Style) -> None:
    canvas = Canvas(picture, style.scale)
    height, width = result.image_size
    sx, sy = picture.width / width, picture.height / height
    if result.seen is not None:
        x1, y1, x2, y2 = result.seen
        left, top = (round(v) for v in (x1 * sx, y1 * sy))
        right, bottom = (round(v) - 1 for v in (x2 * sx, y2 * sy))
        # of an image of a few pixels, the part that is seen can be less than one
        corners = (left, top, max(left, right), max(top, bottom))
        canvas.pen.rectangle(corners, outline=SEEN, width=max(1, canvas.line // 2))
    if result.mask is not None:
        mask = result.mask.numpy().astype(np.uint8) * 255
        large = Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST)
        canvas.mask(np.asarray(large) > 0, _WHITE, 0.0)
    elif result.box is not None:
        x1, y1, x2, y2 = result.box
        canvas.box((x1 * sx, y1 * sy, x2 * sx, y2 * sy), _WHITE)
    if float(result.heat.max()) > float(result.heat.min()):
        y, x = result.peak
        canvas.dot((x + 0.5) * sx, (y + 0.5) * sy, _WHITE, filled=False)


def _with_bar(picture: Image.Image, result: Explanation, highest: float) -> Image.Image:
    """The picture with the target and its score, in lines that fit its width, and a colour bar below."""
    size = max(10, round(np.hypot(*picture.size) / 55))
    line = round(size * 1.7)
    text = drawable(f"{result.target}, {result.quantity} {result.score:.3g}")
    font = font_for(text, size)
    lines = wrapped(text, font, picture.width - size)
    out = Image.new("RGB", (picture.width, picture.height + (len(lines) + 1) * line), PAPER)
    out.paste(picture, (0, 0))
    pen = ImageDraw.Draw(out)
    for number, words in enumerate(lines):
        pen.text((size * 0.5, picture.height + (number + 0.5) * line), words, fill=INK, font=font, anchor="lm")
    ends = (f"{-highest:.2g}" if result.signed else "0", f"{highest:.2g}")
    widths = [pen.textlength(end, font=font_for(end, size)) + size for end in ends]
    left, right = round(widths[0]), round(picture.width - widths[1])
    middle = picture.height + round((len(lines) + 0.5) * line)
    if right - left >= 2 * size:
        values = np.linspace(-1 if result.signed else 0, 1, right - left)
        bar = _colours(np.tile(values, (size, 1)), result.signed).round().astype(np.uint8)
        out.paste(Image.fromarray(bar), (left, middle - size // 2))
        pen.text((size * 0.5, middle), ends[0], fill=INK, font=font_for(ends[0], size), anchor="lm")
        pen.text((right + size * 0.5, middle), ends[1], fill=INK, font=font_for(ends[1], size), anchor="lm")
    return out

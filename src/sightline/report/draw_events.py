"""Draw the events of a video: a strip of its frames, and below it a bar of time for each event with its caption."""

from __future__ import annotations

from PIL import Image, ImageDraw

from sightline.report.colours import class_colour
from sightline.report.fonts import drawable, font_for
from sightline.report.style import FAINT, INK, PAPER, Style
from sightline.structures import Events

SHOWN = 8
"""Maximum number of frames in the strip."""


def draw_events(result: Events, picture: Image.Image, style: Style) -> Image.Image:
    """Draw events below a strip of frames.

    Args:
        result: the events.
        picture: the film of the video, its frames side by side; or one of its frames.
        style: how to draw.
    """
    strip = _strip(result, picture)
    size = max(11, round(strip.width / 70 * style.scale))
    line, width = round(size * 1.6), strip.width
    order = sorted(range(len(result)), key=lambda i: (float(result.times[i, 0]), float(result.times[i, 1])))
    out = Image.new("RGB", (width, strip.height + round(line * 1.2) + 2 * line * max(1, len(order))), PAPER)
    out.paste(strip, (0, 0))
    pen = ImageDraw.Draw(out)
    _axis(pen, result.duration, width, strip.height, size)
    top = strip.height + round(line * 1.2)
    if not order:
        pen.text((size * 0.4, top + line / 2), "no events", fill=FAINT, font=font_for("no events", size), anchor="lm")
    for row, i in enumerate(order):
        start, end = (float(t) / result.duration * (width - 1) for t in result.times[i])
        y = top + 2 * line * row
        pen.rectangle((0, y + size * 0.35, width - 1, y + size * 0.75), fill=(40, 43, 50))
        pen.rectangle((start, y + size * 0.2, max(start + 2, end), y + size * 0.9), fill=class_colour(i))
        scored = result.scores is not None and style.scores
        score = f"{float(result.scores[i]):.2f}  " if scored and result.scores is not None else ""
        seconds = f"{float(result.times[i, 0]):.1f}–{float(result.times[i, 1]):.1f} s  "
        remark = style.remarks[i] if style.remarks is not None else None
        words = f"{score}{seconds}{result.captions[i] if style.names else ''}{f' ({remark})' if remark else ''}"
        text = _fitted(pen, drawable(words), size, width)
        pen.text((size * 0.4, y + size * 1.75), text, fill=INK, font=font_for(text, size), anchor="lm")
    return out


def _strip(result: Events, picture: Image.Image) -> Image.Image:
    """Frames of a film, evenly spaced over it: at most `SHOWN`."""
    height, width = result.image_size
    count = max(1, round(picture.width / picture.height * height / width))
    one = picture.width / count
    shown = min(count, SHOWN)
    out = Image.new("RGB", (shown * round(one), picture.height), PAPER)
    for place in range(shown):
        frame = (2 * place + 1) * count // (2 * shown)  # the middle of each part of the film
        left = round(frame * one)
        out.paste(picture.crop((left, 0, left + round(one), picture.height)), (place * round(one), 0))
    return out


def _axis(pen: ImageDraw.ImageDraw, duration: float, width: int, top: int, size: int) -> None:
    """Marks of time below the strip, up to ten of them at round numbers of seconds."""
    step = next(s for s in (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 3600, 36000, 1e9) if duration / s <= 10)
    for k in range(int(duration / step + 1e-6) + 1):
        x = k * step / duration * (width - 1)
        pen.line((x, top, x, top + size * 0.4), fill=FAINT)
        text = f"{k * step:g} s"
        anchor = "lm" if x < size else "rm" if x > width - 2 * size else "mm"
        pen.text((x, top + size * 1.0), text, fill=FAINT, font=font_for(text, max(9, round(size * 0.8))), anchor=anchor)


def _fitted(pen: ImageDraw.ImageDraw, text: str, size: int, width: int) -> str:
    font = font_for(text, size)
    while len(text) > 4 and pen.textlength(text, font=font) > width - size:
        text = text[:-4].rstrip() + "…"
    return text

"""Draw a class map as translucent colours over its image, with a legend below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from sightline.report.colours import Colour, class_colour
from sightline.report.fonts import drawable, font_for
from sightline.report.style import FAINT, INK, PAPER, Style
from sightline.structures import BACKGROUND, ClassMap


def draw_class_map(result: ClassMap, picture: Image.Image, style: Style) -> Image.Image:
    """Tint the image by class and, if names are written, add a legend below; the image may have another size."""
    labels = result.labels.cpu().numpy()
    height, width = labels.shape
    there, counts = np.unique(labels, return_counts=True)
    rows = np.minimum(np.arange(picture.height) * height // picture.height, height - 1)
    columns = np.minimum(np.arange(picture.width) * width // picture.width, width - 1)
    shown = labels[rows][:, columns]
    classes = result.classes
    clear = classes.index(BACKGROUND) if classes is not None and BACKGROUND in classes else None
    ids = there[there >= 0]
    palette = np.array([class_colour(int(i)) for i in ids], dtype=np.float32).reshape(-1, 3)
    pixels = np.asarray(picture).astype(np.float32)
    known = shown >= 0
    tinted = known if clear is None else known & (shown != clear)
    pixels[tinted] += (palette[np.searchsorted(ids, shown[tinted])] - pixels[tinted]) * style.opacity
    pixels[~known] *= 0.5  # ignored pixels are darkened
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    if not style.names:
        return picture
    entries: list[tuple[str, Colour | None, str]] = []
    for i, count in sorted(zip(there.tolist(), counts.tolist(), strict=True), key=lambda entry: -entry[1]):
        name = "ignored" if i < 0 else result.classes[i] if result.classes is not None else f"class {i}"
        colour = None if i == clear else (40, 40, 40) if i < 0 else class_colour(i)
        share = 100 * count / labels.size
        entries.append((name, colour, f"{share:.0f} %" if share >= 0.5 else "< 1 %"))
    return _with_legend(picture, entries)


def _with_legend(picture: Image.Image, entries: Sequence[tuple[str, Colour | None, str]]) -> Image.Image:
    """The image with a legend below: names, colours (None: an empty box), shares."""
    size = max(10, round(np.hypot(*picture.size) / 55))
    line = round(size * 1.6)
    fonts = [font_for(name, size) for name, _, _ in entries]
    entries = [(drawable(name), colour, share) for name, colour, share in entries]
    measure = ImageDraw.Draw(picture)
    widths = [
        round(measure.textlength(f"{name} {share}", font=font) + size * 2.6)
        for (name, _, share), font in zip(entries, fonts, strict=True)
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
    for (name, colour, share), font, (x, y) in zip(entries, fonts, places, strict=True):
        top = picture.height + y + line / 2
        box = (x + size * 0.5, top - size * 0.45, x + size * 1.4, top + size * 0.45)
        pen.rectangle(box, fill=colour, outline=FAINT if colour is None else None)
        pen.text((x + size * 1.8, top), f"{name} {share}", fill=INK, font=font, anchor="lm")
    return out

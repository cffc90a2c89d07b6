"""Draw a class map as translucent colours over its image, with a legend below."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sightline.report.colours import Colour, class_colour
from sightline.report.legend import with_legend
from sightline.report.style import Style
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
    entries: list[tuple[str, Colour | None]] = []
    for i, count in sorted(zip(there.tolist(), counts.tolist(), strict=True), key=lambda entry: -entry[1]):
        name = "ignored" if i < 0 else result.classes[i] if result.classes is not None else f"class {i}"
        colour = None if i == clear else (40, 40, 40) if i < 0 else class_colour(i)
        share = 100 * count / labels.size
        entries.append((f"{name}: {share:.0f} %" if share >= 0.5 else f"{name}: < 1 %", colour))
    return with_legend(picture, entries)

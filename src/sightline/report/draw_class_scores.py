"""Draw the classes of a whole image as bars below it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sightline.report.colours import class_colour
from sightline.report.fonts import drawable, font_for
from sightline.report.style import FAINT, INK, PAPER, Style
from sightline.structures import ClassScores


def draw_class_scores(result: ClassScores, picture: Image.Image, style: Style) -> Image.Image:
    """Draw the five best classes below the image, with a tick after the labelled one, or only the label."""
    size = max(11, round(np.hypot(*picture.size) / 50))
    labelled = None if result.label is None else int(result.label)

    def name_of(i: int) -> str:
        return result.classes[i] if result.classes is not None else f"class {i}"

    rows: list[tuple[str, int, float | None]] = []
    if result.scores is not None:
        values, ids = result.scores.detach().cpu().float().topk(min(5, len(result.scores)))
        rows = [
            (name_of(i) + (" ✓" if i == labelled else ""), i, value)
            for i, value in zip(ids.tolist(), values.tolist(), strict=True)
            if value > 0  # the target of mixed images has only the classes of these
        ]
    if labelled is not None and labelled not in [i for _, i, _ in rows]:
        rows.append((f"label: {name_of(labelled)}", labelled, None))
    line = round(size * 1.7)
    out = Image.new("RGB", (picture.width, picture.height + line * len(rows) + size // 2), PAPER)
    out.paste(picture, (0, 0))
    pen = ImageDraw.Draw(out)
    for position, (name, i, value) in enumerate(rows):
        middle = picture.height + size // 4 + line * position + line / 2
        if value is not None:
            end = max(2, round((picture.width - 2) * min(max(value, 0), 1)))
            pen.rectangle((0, middle + size * 0.55, end, middle + size * 0.75), fill=class_colour(i))
            if style.scores:
                right = (picture.width - size * 0.4, middle)
                pen.text(right, f"{value:.2f}", fill=INK, font=font_for("", size), anchor="rm")
        ink = FAINT if value is None and result.scores is not None else INK
        pen.text((size * 0.4, middle), drawable(name), fill=ink, font=font_for(name, size), anchor="lm")
    return out

"""Draw lines and text whose size is adapted to the image; used by `drawing`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from sightline.report.colours import Colour, text_on
from sightline.report.fonts import Font, drawable, font_for

Box = tuple[float, float, float, float]


class Canvas:
    """An image to draw on, with a line width and a font size adapted to it.

    Args:
        picture: RGB; modified in place.
        scale: factor of line width and font size.
    """

    def __init__(self, picture: Image.Image, scale: float = 1.0):
        self.picture = picture
        self.pen = ImageDraw.Draw(picture)
        diagonal = math.hypot(*picture.size)
        self.line = max(1, round(diagonal / 300 * scale))
        self.font_size = max(10, round(diagonal / 48 * scale))
        self._labels: list[Box] = []
        self.labelled = 0.0  # pixels covered by labels, counting overlaps twice

    def box(self, box: Sequence[float], colour: Colour, dashed: bool = False) -> None:
        """The outline of a box, with a thin dark outer edge so that it is visible on any background."""
        x1, y1, x2, y2 = (round(v) for v in box)
        x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)  # the last pixel inside the box
        if not dashed:
            if self.line > 1:
                self.pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=_darker(colour))
            self.pen.rectangle((x1, y1, x2, y2), outline=colour, width=self.line)
            return
        for start, end in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
            self._dashes(start, end, colour)

    def edge(self, start: Sequence[float], end: Sequence[float], colour: Colour, dashed: bool = False) -> None:
        """A straight line between two points, with a thin dark edge so that it is visible on any background."""
        points = (float(start[0]), float(start[1])), (float(end[0]), float(end[1]))
        if dashed:
            self._dashes(*points, colour)
            return
        if self.line > 1:
            self.pen.line(points, fill=_darker(colour), width=self.line + 2)
        self.pen.line(points, fill=colour, width=self.line)

    def _dashes(self, start: tuple[float, float], end: tuple[float, float], colour: Colour) -> None:
        length = max(math.dist(start, end), 1.0)
        dash = 3 * self.line + 2
        across = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
        for begin in range(0, math.ceil(length), 2 * dash):
            stop = min(begin + dash, length)
            points = [(start[0] + across[0] * at, start[1] + across[1] * at) for at in (begin, stop)]
            self.pen.line(points, fill=colour, width=self.line)

    def label(self, box: Sequence[float], text: str, colour: Colour, others: Sequence[Sequence[float]] = ()) -> None:
        """Text on a background of `colour` at the corner of `box` where it covers the fewest other labels, or at one of
        `others`, further boxes that it may belong to."""
        font, text = font_for(text, self.font_size), drawable(text)
        left, top, right, bottom = self.pen.textbbox((0, 0), text, font=font)
        pad = max(1, self.font_size // 6)
        width, height = right - left + 2 * pad, bottom - top + 2 * pad
        if width > self.picture.width or height > self.picture.height:
            return  # a label larger than the image would hide it; the box's colour has to do
        places, costs = [], []
        for one in (box, *others):
            x1, y1, x2, y2 = (float(v) for v in one)
            # The first of equally good corners: above the box, below it, inside.
            corners = ((x1, y1 - height), (x1, y2), (x1, y1), (x2 - width, y1 - height), (x2 - width, y2))
            own = [self._inside(x, y, width, height) for x, y in corners]
            places += own
            costs += [self._cost(place, (x1, y1, x2, y2)) for place in own]
        x, y, *_ = place = places[costs.index(min(costs))]
        self._labels.append(place)
        self.labelled += width * height
        self.pen.rectangle((round(x), round(y), round(x) + width - 1, round(y) + height - 1), fill=colour)
        self.pen.text((round(x) + pad - left, round(y) + pad - top), text, fill=text_on(colour), font=font)

    def _inside(self, x: float, y: float, width: float, height: float) -> Box:
        x = min(max(x, 0), self.picture.width - width)
        y = min(max(y, 0), self.picture.height - height)
        return x, y, x + width, y + height

    def _cost(self, place: Box, box: Box) -> float:
        covered = sum(_overlap(place, other) for other in self._labels)
        return covered + 0.05 * _overlap(place, box)

    def dot(self, x: float, y: float, colour: Colour, filled: bool = True) -> None:
        """A filled circle or ring."""
        r = 1.5 * self.line + 1
        fill, rim = (colour, text_on(colour)) if filled else (None, colour)
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=rim)

    def stroke(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        """A line through several points."""
        self.pen.line([*points], fill=colour, width=self.line)

    def mask(self, mask: np.ndarray, colour: Colour, strength: float) -> None:
        """A translucent area with an outline; `mask` is bool [H, W] of the image's size."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        inside = mask[top:bottom, left:right]
        padded = np.pad(inside, self.line)
        core = inside.copy()
        for shift in range(1, self.line + 1):
            for dy, dx in ((shift, 0), (-shift, 0), (0, shift), (0, -shift)):
                y, x = self.line + dy, self.line + dx
                core &= padded[y : y + inside.shape[0], x : x + inside.shape[1]]
        area = self.picture.crop((left, top, right, bottom))
        pixels = np.asarray(area).astype(np.float32)
        pixels[inside] += (np.array(colour, dtype=np.float32) - pixels[inside]) * strength
        pixels[inside & ~core] = colour
        self.picture.paste(Image.fromarray(pixels.round().astype(np.uint8)), (left, top))


def titled(picture: Image.Image, text: str, size: int = 14) -> Image.Image:
    """Return a new image with a text of one or more lines above, on a dark background.

    Args:
        picture: RGB.
        text: the text; lines are broken between words.
        size: font size in pixels.
    """
    font, text = font_for(text, size), drawable(text)
    lines = wrapped(text, font, picture.width - size)
    line = round(size * 1.5)
    out = Image.new("RGB", (picture.width, picture.height + line * len(lines) + size // 3), (24, 26, 31))
    out.paste(picture, (0, out.height - picture.height))
    pen = ImageDraw.Draw(out)
    for number, part in enumerate(lines):
        pen.text((size * 0.4, line * (number + 0.5)), part, fill=(235, 235, 235), font=font, anchor="lm")
    return out


def heading(picture: Image.Image, text: str, scale: float = 1.0) -> Image.Image:
    """Return a new image with a dark title bar above."""
    size = max(11, round(math.hypot(*picture.size) / 45 * scale))
    font, text = font_for(text, size), drawable(text)
    strip = round(size * 1.7)
    out = Image.new("RGB", (picture.width, picture.height + strip), (24, 26, 31))
    out.paste(picture, (0, strip))
    pen = ImageDraw.Draw(out)
    while text and pen.textlength(text, font=font) > picture.width - size:
        text = text[: max(0, len(text) - 4)].rstrip() + "…" if len(text) > 4 else ""
    pen.text((size * 0.4, strip / 2), text, fill=(235, 235, 235), font=font, anchor="lm")
    return out


def wrapped(text: str, font: Font, width: float) -> list[str]:
    """The text in lines of at most `width` pixels, at least one, broken between words; longer words are broken, too."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines[1:] if len(lines) > 1 and not lines[0] else lines


def side_by_side(pictures: Sequence[Image.Image], columns: int, gap: int = 6) -> Image.Image:
    """Arrange images in rows of `columns`, in cells of the size of the largest one."""
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    rows = math.ceil(len(pictures) / columns)
    columns = min(columns, len(pictures))
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    out = Image.new("RGB", size, (24, 26, 31))
    for position, picture in enumerate(pictures):
        row, column = divmod(position, columns)
        out.paste(picture, (column * (width + gap), row * (height + gap)))
    return out


def stacked(pictures: Sequence[Image.Image], columns: int, gap: int = 6) -> Image.Image:
    """Arrange images in columns of the width of the widest one, each image below the column that is shortest so far.

    Images of one height therefore form rows, and others leave no empty cells.
    """
    width = max(p.width for p in pictures) + gap
    bottoms = [0] * min(columns, len(pictures))
    places = []
    for picture in pictures:
        column = bottoms.index(min(bottoms))
        places.append((column * width, bottoms[column]))
        bottoms[column] += picture.height + gap
    out = Image.new("RGB", (len(bottoms) * width - gap, max(bottoms) - gap), (24, 26, 31))
    for picture, place in zip(pictures, places, strict=True):
        out.paste(picture, place)
    return out


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _darker(colour: Colour) -> Colour:
    return colour[0] // 3, colour[1] // 3, colour[2] // 3

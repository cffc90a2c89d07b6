"""Colours for classes: the same class, the same colour; told apart by colour-blind people; legible text on each."""

from __future__ import annotations

import colorsys

Colour = tuple[int, int, int]

_FIRST: tuple[Colour, ...] = (
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (0, 114, 178),
    (230, 159, 0),
)
"""Okabe and Ito, "Color Universal Design" (2008), without black; ordered so that neighbours differ most on photos."""
_GOLDEN = 0.61803398875


def class_colour(position: int) -> Colour:
    """The colour of the class with this id.

    The first seven are Okabe and Ito's; later ones step around the colour circle by the golden ratio while their
    lightness alternates, so that classes of near ids differ in lightness too.
    """
    if position < len(_FIRST):
        return _FIRST[position]
    step = position - len(_FIRST)
    lightness, saturation = ((0.5, 0.8), (0.74, 0.85), (0.42, 0.75), (0.62, 0.6))[step % 4]
    red, green, blue = colorsys.hls_to_rgb((0.11 + step * _GOLDEN) % 1.0, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def luminance(colour: Colour) -> float:
    """Relative luminance in 0 … 1 (WCAG 2.1)."""
    red, green, blue = (
        (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in (v / 255 for v in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def text_on(colour: Colour) -> Colour:
    """Black or white, whichever contrasts more with `colour` (WCAG 2.1: at least 4.5 : 1 either way)."""
    return (0, 0, 0) if luminance(colour) > 0.179 else (255, 255, 255)


def line_colour(position: int) -> Colour:
    """The class's colour for thin lines on a white or a dark page: very light ones are toned down."""
    colour = class_colour(position)
    return colour if luminance(colour) < 0.5 else (colour[0] * 3 // 4, colour[1] * 3 // 4, colour[2] * 3 // 4)


def css(colour: Colour) -> str:
    """As #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)

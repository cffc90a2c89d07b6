"""A colour for each class, the same in pictures, palettes and reports; told apart by colour-blind people."""

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


def css(colour: Colour) -> str:
    """As #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)

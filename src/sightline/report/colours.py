"""Colours of classes: the same class always has the same colour, with legible text on it."""

from __future__ import annotations

from sightline.data.colours import Colour, class_colour, css

__all__ = ["Colour", "class_colour", "css", "line_colour", "luminance", "text_on"]


def luminance(colour: Colour) -> float:
    """Relative luminance in 0 … 1 (WCAG 2.1)."""
    red, green, blue = (
        (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in (v / 255 for v in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def text_on(colour: Colour) -> Colour:
    """Black or white, whichever has more contrast with `colour` (WCAG 2.1: at least 4.5 : 1 either way)."""
    return (0, 0, 0) if luminance(colour) > 0.179 else (255, 255, 255)


def line_colour(position: int) -> Colour:
    """The class's colour for thin lines on a light or dark page; very light colours are darkened."""
    colour = class_colour(position)
    return colour if luminance(colour) < 0.5 else (colour[0] * 3 // 4, colour[1] * 3 // 4, colour[2] * 3 // 4)

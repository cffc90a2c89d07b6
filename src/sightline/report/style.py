"""How results are drawn, as `sightline.draw` is asked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PAPER, INK, FAINT = (24, 26, 31), (235, 235, 235), (120, 124, 132)
"""Colours below a picture: of the ground, of writing, and of writing that matters less."""


@dataclass(frozen=True)
class Style:
    """The arguments of `sightline.draw`; see there.

    Attributes:
        names: write the class names.
        scores: write the scores, where there are some.
        opacity: of masks and class maps, 0 … 1.
        skeleton: pairs of keypoint positions to join by lines.
        remarks: a word to write behind each object's name, or None.
        scale: factor on the width of lines and the size of letters.
    """

    names: bool = True
    scores: bool = True
    opacity: float = 0.45
    skeleton: Sequence[tuple[int, int]] = ()
    remarks: Sequence[str | None] | None = None
    scale: float = 1.0

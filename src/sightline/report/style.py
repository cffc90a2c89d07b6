"""The drawing options of `sightline.draw`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sightline.structures import Camera

PAPER, INK, FAINT = (24, 26, 31), (235, 235, 235), (120, 124, 132)
"""Colours below an image: background, text, and secondary text."""


@dataclass(frozen=True)
class Style:
    """The arguments of `sightline.draw`; see there.

    Attributes:
        names: write the class names.
        scores: write the scores, if there are any.
        opacity: opacity of masks and class maps, in [0, 1].
        skeleton: pairs of keypoint indices to connect by lines.
        remarks: a word to write after each object's name, or None.
        scale: factor of line width and font size.
        camera: camera of the image, for objects in metres; None if it is unknown.
    """

    names: bool = True
    scores: bool = True
    opacity: float = 0.45
    skeleton: Sequence[tuple[int, int]] = ()
    remarks: Sequence[str | None] | None = None
    scale: float = 1.0
    camera: Camera | None = None

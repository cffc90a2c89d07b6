"""KITTI's levels of difficulty of objects.

Source: Geiger, Lenz, Urtasun, "Are we ready for autonomous driving?", CVPR 2012, and the published evaluation code.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difficulty:
    """A level of difficulty: objects beyond one of these limits are ignored.

    Attributes:
        height: minimum height of the box in pixels (exclusive for labels).
        occluded: maximum state of occlusion: 0 fully visible, 1 partly, 2 largely occluded; 3 is unknown.
        truncated: maximum fraction of the object outside of the image.
    """

    height: float
    occluded: int
    truncated: float


DIFFICULTIES = {
    "easy": Difficulty(40, 0, 0.15),
    "moderate": Difficulty(25, 1, 0.3),
    "hard": Difficulty(25, 2, 0.5),
}
EVALUATED = ("car", "pedestrian", "cyclist")
"""The classes that KITTI evaluates, in lower case."""

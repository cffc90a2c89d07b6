"""The words of the scenes: what the objects are, how they look, and how they stand to each other."""

from __future__ import annotations

CLASSES: tuple[str, ...] = ("sphere", "box", "cylinder", "cone", "ring")
"""The classes of objects; ids are positions. A ring is a torus."""

STUFF: tuple[str, ...] = ("floor", "wall")
"""What is behind the objects."""

SEMANTIC_CLASSES: tuple[str, ...] = (*STUFF, *CLASSES)
"""The classes of the semantic map; ids are positions: 0 floor, 1 wall, 2 sphere, … 6 ring. Every pixel has one."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.62, 0.03, 0.03),
    "orange": (0.85, 0.26, 0.02),
    "yellow": (0.86, 0.62, 0.03),
    "green": (0.05, 0.38, 0.08),
    "cyan": (0.04, 0.52, 0.56),
    "blue": (0.03, 0.10, 0.60),
    "purple": (0.25, 0.05, 0.48),
    "pink": (0.85, 0.25, 0.45),
    "grey": (0.22, 0.22, 0.23),
}
"""The colours of objects: name → reflected share of red, green and blue light (linear, not display values)."""

MATERIALS: tuple[str, ...] = ("matte", "shiny", "metal", "striped", "checkered")
"""The materials of objects: matte scatters only; shiny adds a highlight; metal mirrors floor, wall and light in its own
colour; striped and checkered are matte with a light second colour."""

SIZES: dict[str, tuple[float, float]] = {"small": (0.42, 0.58), "medium": (0.74, 0.94), "large": (1.12, 1.4)}
"""The sizes of objects: name → range of the longest side in metres."""

RELATIONS: tuple[str, ...] = (
    "left of",
    "right of",
    "in front of",
    "behind",
    "on",
    "under",
    "near",
    "larger than",
    "smaller than",
)
"""How two objects can stand to each other; the rules are those of `sightline.data.scenes.language.relations_of`."""

KEYPOINTS: dict[str, tuple[str, ...]] = {
    "sphere": ("top", "bottom", "front", "right", "back", "left", "", ""),
    "box": (
        "top front",
        "top right",
        "top back",
        "top left",
        "bottom front",
        "bottom right",
        "bottom back",
        "bottom left",
    ),
    "cylinder": (
        "first cap",
        "second cap",
        "first rim front",
        "first rim right",
        "first rim left",
        "second rim front",
        "second rim right",
        "second rim left",
    ),
    "cone": ("apex", "base", "rim front", "rim right", "rim back", "rim left", "", ""),
    "ring": (
        "outer front",
        "outer right",
        "outer back",
        "outer left",
        "inner front",
        "inner right",
        "inner back",
        "inner left",
    ),
}
"""Names of the eight keypoints of each class, all of them points of the object's surface; an empty name is a place that
the class does not use (its visibility is always 0).

The names are the viewer's, so that they can be told from the picture. Of an upright object "front" is the side towards
the camera, seen from above, and "right" and "left" are the viewer's. A box has four upright edges: "front" is the one
nearest to the camera, the others follow counter-clockwise seen from above. Where the axis of a cylinder, cone or ring
lies, "front" is the upper side and "right" the viewer's right as far as the axis allows. The first cap of a cylinder is
the upper one, of a lying cylinder the one nearer to the camera."""

POINTS = 8
"""How many keypoints an object has."""

MIN_VISIBILITY = 0.15
"""Objects of a still picture that show less than this share of their outline are taken out before it is painted."""

MIN_PIXELS = 6
"""An object with fewer visible pixels than this has no label."""

"""The vocabulary of the scenes: the objects, their appearance, and their relations."""

from __future__ import annotations

CLASSES: tuple[str, ...] = ("sphere", "box", "cylinder", "cone", "ring")
"""The classes of objects, by id. A ring is a torus."""

STUFF: tuple[str, ...] = ("floor", "wall")
"""The background of the objects."""

SEMANTIC_CLASSES: tuple[str, ...] = (*STUFF, *CLASSES)
"""The classes of the semantic map, by id: 0 floor, 1 wall, 2 sphere, … 6 ring. Every pixel has one."""

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
"""The colours of objects: name → reflectance for red, green and blue light (linear, not display values)."""

MATERIALS: tuple[str, ...] = ("matte", "shiny", "metal", "striped", "checkered")
"""The materials of objects: matte is diffuse; shiny adds a highlight; metal reflects floor, wall and light in its
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
"""The relations between two objects; `sightline.data.scenes.language.relations_of` defines them."""

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
"""Names of the eight keypoints of each class, all of them on the object's surface. An empty name is a slot that the
class does not use (its visibility is always 0).

Names are from the viewer's perspective, so that they can be determined from the image. For an upright object "front" is
the side towards the camera, seen from above, and "right" and "left" are those of the viewer. A box has four vertical
edges: "front" is the one nearest to the camera, the others follow counter-clockwise seen from above. For a lying
cylinder, cone or ring, "front" is the upper side and "right" is the viewer's right as far as the axis allows. The first
cap of a cylinder is the upper one, for a lying cylinder the one nearer to the camera."""

POINTS = 8
"""The number of keypoints of an object."""

MIN_VISIBILITY = 0.15
"""Objects in a still image that show less than this fraction of their outline are removed before rendering."""

MIN_PIXELS = 6
"""An object with fewer visible pixels than this has no label."""

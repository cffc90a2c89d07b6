"""Text descriptions: phrases, relations, captions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sightline.data.scenes.camera import Camera
from sightline.data.scenes.scene import Relation
from sightline.data.scenes.world import Body, World

_SIDEWAYS = 0.06
"""Minimum distance of centres for "left of", as a fraction of the image width."""
_DEPTH = 0.35
"""Minimum difference of depths for "behind", in metres."""
_GAP = 0.3
"""Maximum distance between the bounding spheres of two objects that are "near", in metres."""
_LARGER = 1.25
"""Minimum ratio of the longest sides for "larger than"."""

_FLOOR_WORDS = {
    "tiles": "a tiled floor",
    "checker": "a checkered floor",
    "planks": "a wooden floor",
    "stone": "a stone floor",
    "carpet": "a striped carpet",
}
_WALL_WORDS = {
    "stone": "a plain wall",
    "bricks": "a brick wall",
    "stripes": "a striped wall",
    "panels": "a panelled wall",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def phrase_of(body: Body) -> str:
    """A description of an object: "large red shiny cone"."""
    return f"{body.size} {body.colour} {body.material} {body.class_name}"


def relations_of(bodies: Sequence[Body], camera: Camera) -> list[Relation]:
    """All relations of `catalog.RELATIONS` between the bodies.

    ===================  ======================================================================================
    predicate            condition
    ===================  ======================================================================================
    left of, right of    the projected centres differ by more than 6 % of the image width, neither stands on the
                         other
    in front of, behind  the depths of the centres differ by more than 0.35 m, neither stands on the other
    on, under            one stands on the other
    near                 the bounding spheres are less than 0.3 m apart, neither stands on the other
    larger, smaller than the longest sides differ by more than a quarter of the smaller one
    ===================  ======================================================================================

    Args:
        bodies: the objects; relations refer to them by index.
        camera: the camera that views them.
    """
    if not bodies:
        return []
    places = camera.to_camera(np.array([body.centre for body in bodies]))
    across = camera.to_pixels(places)[:, 0].tolist()
    depths = places[:, 2].tolist()
    points = places.tolist()
    sides = [max(body.shape.half) for body in bodies]
    found: list[Relation] = []
    for i, a in enumerate(bodies):
        for j, b in enumerate(bodies):
            if i == j:
                continue
            if a.on == b.id:
                found.append(Relation(i, "on", j))
                found.append(Relation(j, "under", i))
            elif b.on != a.id:
                if across[i] < across[j] - _SIDEWAYS * camera.size[1]:
                    found.append(Relation(i, "left of", j))
                    found.append(Relation(j, "right of", i))
                if depths[i] < depths[j] - _DEPTH:
                    found.append(Relation(i, "in front of", j))
                    found.append(Relation(j, "behind", i))
                if math.dist(points[i], points[j]) < a.shape.bound + b.shape.bound + _GAP:
                    found.append(Relation(i, "near", j))
            if sides[i] > _LARGER * sides[j]:
                found.append(Relation(i, "larger than", j))
                found.append(Relation(j, "smaller than", i))
    return found


def captions_of(bodies: Sequence[Body], camera: Camera) -> list[str]:
    """A caption for each object with its place: relative to what it stands on or to the nearest object.

    "a large red shiny cone left of a small blue matte sphere"; "… on the floor" if it is alone.
    """
    if not bodies:
        return []
    places = camera.to_camera(np.array([body.centre for body in bodies])).tolist()
    return [_caption(bodies, places, number, camera) for number in range(len(bodies))]


def _caption(bodies: Sequence[Body], places: Sequence[list[float]], number: int, camera: Camera) -> str:
    body, place = bodies[number], places[number]
    own = f"a {phrase_of(body)}"
    others = [k for k, other in enumerate(bodies) if k != number and other.on != body.id]
    below = [bodies[k] for k in others if bodies[k].id == body.on]
    if below:
        return f"{own} on a {phrase_of(below[0])}"
    if not others:
        return f"{own} on the floor"
    nearest = min(others, key=lambda k: math.dist(place, places[k]))
    there = places[nearest]
    aside = (place[0] / place[2] - there[0] / there[2]) * camera.focal / (_SIDEWAYS * camera.size[1])
    deeper = (place[2] - there[2]) / _DEPTH
    if max(abs(aside), abs(deeper)) <= 1:
        word = "near"
    elif abs(aside) >= abs(deeper):
        word = "left of" if aside < 0 else "right of"
    else:
        word = "in front of" if deeper < 0 else "behind"
    return f"{own} {word} a {phrase_of(bodies[nearest])}"


def scene_caption(world: World, captions: Sequence[str], areas: Sequence[int]) -> str:
    """A sentence about the whole image; it begins with the caption of the object with the largest visible area."""
    place = f"{_FLOOR_WORDS[world.planes[0].pattern]} before {_WALL_WORDS[world.planes[1].pattern]}"
    if not captions:
        return f"An empty room with {place}."
    main = captions[max(range(len(areas)), key=areas.__getitem__)].removesuffix(" on the floor")
    named = 1 if main.count(" a ") == 0 else 2
    rest = len(captions) - named
    others = f" and {_NUMBERS[rest]} other object{'s' if rest > 1 else ''}" if rest > 0 else ""
    return f"{main[0].upper()}{main[1:]}{others}, on {place}."

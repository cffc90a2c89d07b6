"""`render`: renders the scene of a seed."""

from __future__ import annotations

import operator

from sightline.data.scenes.layout import random_world
from sightline.data.scenes.raycast import paint, trace
from sightline.data.scenes.scene import Scene
from sightline.data.scenes.truth import describe
from sightline.data.scenes.world import Dice
from sightline.errors import InputError
from sightline.runtime.values import require_area, short

_ATTEMPTS = 20


def render(
    seed: int, size: int | tuple[int, int] = 160, *, objects: tuple[int, int] = (2, 7), antialias: bool = True
) -> Scene:
    """Render a small 3-D scene, with the ground truth of every task.

    The scene contains solids on a textured floor in front of a wall, one lamp with soft shadows, a perspective camera,
    and sensor noise. Objects that would show less than 15 % of their outline are removed. The same seed, size and
    options give the same pixels.

    Args:
        seed: random seed, from 0 to 2⁶³ − 1.
        size: (height, width) in pixels, or one number for both; at least 16.
        objects: minimum and maximum number of objects. Very elongated images may have fewer than the minimum.
        antialias: trace four rays per pixel at edges.

    Raises:
        InputError: seed, size or the number of objects is out of range.
    """
    seed, size, objects = check_options(seed, size, objects)
    for attempt in range(_ATTEMPTS):
        dice = Dice(seed, attempt)
        world = random_world(dice, size, objects)
        if len(world.bodies) < objects[0]:
            continue
        picture = trace(world, drop_hidden=True)
        if len(picture.world.bodies) >= objects[0]:
            break
    else:
        picture = trace(world, drop_hidden=True)
    return describe(picture, paint(picture, dice, antialias), seed)


def check_options(
    seed: int, size: int | tuple[int, int], objects: tuple[int, int]
) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """Validate the options; return them as integers, with the size as (height, width).

    Raises:
        InputError: one is out of range.
    """
    try:
        seed = operator.index(seed)
        height, width = (size, size) if not isinstance(size, tuple | list) else size
        height, width = operator.index(height), operator.index(width)
        fewest, most = (operator.index(number) for number in objects)
    except (TypeError, ValueError):
        raise InputError(
            "a scene needs an integer as seed, one or two integers as size, two as objects, "
            f"not {seed!r}, {size!r}, {objects!r}"
        ) from None
    if not 0 <= seed < 1 << 63:
        raise InputError(f"the seed of a scene is {short(seed)}, but must be between 0 and 2⁶³ − 1")
    require_area("the size of a scene", height, width)
    if min(height, width) < 16:
        raise InputError(f"the size of a scene is {height}×{width}, but must be at least 16 pixels in height and width")
    if not 1 <= fewest <= most <= 12:
        raise InputError(
            f"a scene has between 1 and 12 objects, the minimum first, but objects is ({fewest}, {most}); try (2, 7)"
        )
    return seed, (height, width), (fewest, most)

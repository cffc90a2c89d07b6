"""Random worlds: a room, a camera, a light, and solids in the view of the camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sightline.data.scenes.camera import Camera, cos_sin, cross, turn_x, turn_y, turn_z
from sightline.data.scenes.catalog import CLASSES, COLOURS, MATERIALS, SIZES
from sightline.data.scenes.shapes import Box, Cone, Cylinder, Ring, Shape, Sphere
from sightline.data.scenes.world import Body, Colour, Dice, Light, Plane, World

_FLOORS: tuple[tuple[str, tuple[float, float]], ...] = (
    ("tiles", (0.7, 1.1)),
    ("checker", (0.6, 1.0)),
    ("planks", (0.28, 0.45)),
    ("stone", (2.5, 5.0)),
    ("carpet", (0.8, 1.6)),
)
_WALLS: tuple[tuple[str, tuple[float, float]], ...] = (
    ("stone", (3.0, 7.0)),
    ("stone", (3.0, 7.0)),
    ("bricks", (0.3, 0.45)),
    ("stripes", (0.5, 0.9)),
    ("panels", (1.2, 1.8)),
)
_FLOOR_COLOURS: tuple[tuple[Colour, Colour], ...] = (
    ((0.36, 0.24, 0.15), (0.26, 0.16, 0.09)),  # oak
    ((0.55, 0.45, 0.33), (0.44, 0.34, 0.24)),  # maple
    ((0.45, 0.43, 0.40), (0.33, 0.31, 0.29)),  # warm stone
    ((0.30, 0.33, 0.36), (0.22, 0.24, 0.27)),  # slate
    ((0.58, 0.57, 0.54), (0.36, 0.37, 0.38)),  # marble
    ((0.50, 0.36, 0.28), (0.40, 0.27, 0.20)),  # clay
    ((0.35, 0.38, 0.32), (0.28, 0.31, 0.25)),  # moss
    ((0.19, 0.20, 0.24), (0.14, 0.14, 0.18)),  # night
)
_WALL_COLOURS: tuple[Colour, ...] = (
    (0.62, 0.60, 0.55),
    (0.50, 0.55, 0.60),
    (0.58, 0.50, 0.42),
    (0.42, 0.49, 0.44),
    (0.55, 0.47, 0.52),
    (0.36, 0.40, 0.46),
    (0.66, 0.63, 0.50),
    (0.30, 0.31, 0.35),
)
_LIGHTS: tuple[tuple[Colour, Colour], ...] = (  # the lamp, and the light from above
    ((1.00, 0.96, 0.90), (0.42, 0.45, 0.50)),
    ((1.00, 0.88, 0.72), (0.36, 0.40, 0.50)),
    ((0.90, 0.95, 1.00), (0.45, 0.45, 0.46)),
    ((1.00, 0.93, 0.83), (0.48, 0.46, 0.46)),
)
_DIRECTIONS = tuple(cos_sin(k * math.pi / 8) for k in range(16))


def random_world(dice: Dice, size: tuple[int, int], objects: tuple[int, int]) -> World:
    """A room with solids, all of them in front of the camera.

    Args:
        dice: source of randomness.
        size: (height, width) of the image in pixels.
        objects: minimum and maximum number of solids; there are fewer only if no free place is found.
    """
    room = random_room(dice, size)
    bodies: list[Body] = []
    for _ in range(dice.integer(*objects)):
        body = _place(dice, room, bodies)
        if body is not None:
            bodies.append(body)
    return replace(room, bodies=tuple(bodies))


def random_room(dice: Dice, size: tuple[int, int]) -> World:
    """A world without bodies: camera, light, floor, and one or two walls."""
    height = dice.uniform(1.8, 3.3)
    pan, roll = dice.uniform(-0.12, 0.12), dice.uniform(-0.03, 0.03)
    pitch = math.atan2(height - 0.35, dice.uniform(5.6, 6.6))
    (cos_p, sin_p), (cos_t, sin_t) = cos_sin(pan), cos_sin(pitch)
    forward = np.array([sin_p * cos_t, cos_p * cos_t, -sin_t])
    right = np.array([cos_p, -sin_p, 0.0])
    rotation = turn_z(roll) @ np.stack([right, cross(forward, right), forward])
    camera = Camera(size, dice.uniform(1.08, 1.3) * _scale(size), rotation, np.array([0.0, 0.0, height]))

    tone = dice.uniform(0.62, 1.0)
    floor_pattern, floor_scales = dice.pick(_FLOORS)
    cos_f, sin_f = cos_sin(dice.uniform(-0.8, 0.8))
    floor_colours = dice.pick(_FLOOR_COLOURS)
    planes = [
        Plane(
            "floor",
            (0.0, 0.0, 1.0),
            0.0,
            (cos_f, sin_f, 0.0),
            (-sin_f, cos_f, 0.0),
            floor_pattern,
            (_times(floor_colours[0], tone), _times(floor_colours[1], tone)),
            dice.uniform(*floor_scales),
            (dice.uniform(0, 9), dice.uniform(0, 9)),
        )
    ]
    wall_pattern, wall_scales = dice.pick(_WALLS)
    wall_colour = _times(dice.pick(_WALL_COLOURS), dice.uniform(0.8, 1.15))
    second = _times(wall_colour, dice.uniform(0.72, 0.9))
    skirting = dice.pick((None, (0.62, 0.60, 0.57), (0.20, 0.15, 0.11)))
    scale, shift = dice.uniform(*wall_scales), (dice.uniform(0, 9), dice.uniform(0, 9))
    turn = dice.uniform(-0.2, 0.2)
    distances = [(turn, dice.uniform(8.2, 10.5))]
    if dice.chance(0.4):  # a second wall at a right angle, to the left or right
        distances.append((turn + dice.pick((-math.pi / 2, math.pi / 2)), dice.uniform(3.2, 4.6)))
    for angle, distance in distances:
        c, s = cos_sin(angle)
        planes.append(
            Plane(
                "wall",
                (s, -c, 0.0),
                -distance,
                (c, s, 0.0),
                (0.0, 0.0, 1.0),
                wall_pattern,
                (wall_colour, second),
                scale,
                shift,
                skirting,
            )
        )
    return World(camera, _random_light(dice), tuple(planes), (), dice.uniform(1.0, 4.5), dice.uniform(0.6, 0.95))


def _scale(size: tuple[int, int]) -> float:
    """The side of the square that the scene is laid out for: the shorter side, or half the longer one if larger."""
    return max(min(size), max(size) / 2)


def _random_light(dice: Dice) -> Light:
    # From the viewer's side, so that visible surfaces are lit; from the left or the right, so that solids look round.
    (cos_a, sin_a), (cos_e, sin_e) = cos_sin(dice.uniform(-1.75, 1.75)), cos_sin(dice.uniform(0.6, 1.1))
    direction = np.array([sin_a * cos_e, -cos_a * cos_e, sin_e])
    across = np.array([cos_a, sin_a, 0.0])
    upward = cross(direction, across)
    width = dice.uniform(0.02, 0.075)
    disc = []
    for k in range(9):
        radius = width * math.sqrt((k + 0.5) / 9)
        c, s = cos_sin(2.39996 * k)  # the golden angle distributes points evenly over a disc
        point = direction + radius * (c * across + s * upward)
        disc.append(point / math.sqrt(float((point * point).sum())))
    lamp, above = dice.pick(_LIGHTS)
    power, fill = dice.uniform(1.5, 2.2), dice.uniform(0.5, 0.95)
    below = _times((0.30, 0.26, 0.22), fill)
    x, y, z = direction.tolist()
    pool = (dice.uniform(-1.5, 1.5), dice.uniform(4.5, 7.0))
    return Light((x, y, z), np.array(disc), width, _times(lamp, power), _times(above, fill), below, pool)


def random_body(dice: Dice, number: int, taken: Sequence[Body], words: Sequence[str] = tuple(SIZES)) -> Body:
    """A solid in a stable pose, without a position; no two solids of a scene have the same description.

    Args:
        dice: source of randomness.
        number: its id.
        taken: the existing bodies.
        words: the sizes to choose from.
    """
    used = {(body.class_name, body.colour, body.material, body.size) for body in taken}
    while True:
        look = (dice.pick(CLASSES), dice.pick(tuple(COLOURS)), dice.pick(MATERIALS), dice.pick(words))
        if look not in used:
            break
    name, colour, material, size = look
    shape = _random_shape(dice, name, dice.uniform(*SIZES[size]))
    tint = _times(COLOURS[colour], dice.uniform(0.6, 0.95))
    return Body(number, name, colour, material, size, shape, _random_pose(dice, shape), np.zeros(3), tint)


def _random_shape(dice: Dice, name: str, side: float) -> Shape:
    """A solid of class `name` whose longest side is `side` metres."""
    if name == "sphere":
        return Sphere(side / 2)
    if name == "ring":
        thickness = dice.uniform(0.22, 0.38)  # tube radius / ring radius
        radius = side / 2 / (1 + thickness)
        return Ring(radius, radius * thickness)
    if name == "box":
        sides = [1.0, dice.uniform(0.55, 1), dice.uniform(0.55, 1)]
        first = dice.integer(0, 2)
        x, y, z = (side / 2 * sides[(first + k) % 3] for k in range(3))
        return Box((x, y, z))
    slender = dice.uniform(0.7, 1.6) if name == "cylinder" else dice.uniform(0.95, 1.6)  # height / width
    width, height = side / max(1.0, slender), side * min(1.0, slender)
    return Cylinder(width / 2, height) if name == "cylinder" else Cone(width / 2, height)


def _random_pose(dice: Dice, shape: Shape) -> np.ndarray:
    yaw = dice.uniform(-math.pi / 2, math.pi / 2)
    if isinstance(shape, Cylinder) and dice.chance(0.3):
        return turn_z(yaw) @ turn_y(math.pi / 2)
    if isinstance(shape, Cone) and dice.chance(0.2):  # lying on its side
        return turn_z(2 * yaw) @ turn_y(math.pi / 2 + math.atan2(shape.radius, shape.height))
    if isinstance(shape, Ring) and dice.chance(0.5):
        return turn_z(yaw) @ turn_x(math.pi / 2)
    return turn_z(yaw if isinstance(shape, Box) else 0.0)  # the yaw of round solids is not visible


def rest_height(body: Body) -> float:
    """Height of the body's centre above its support, in metres."""
    x, y, z = (-body.rotation[2]).tolist()
    return -float(body.rotation[2] @ np.array(body.shape.support(x, y, z)))


def footprint(body: Body) -> float:
    """Horizontal extent of the body from its centre, in metres."""
    (a, b, c), (d, e, f), _ = body.rotation.tolist()
    reach = 0.0
    for cosine, sine in _DIRECTIONS:
        x, y, z = cosine * a + sine * d, cosine * b + sine * e, cosine * c + sine * f
        px, py, pz = body.shape.support(x, y, z)
        reach = max(reach, x * px + y * py + z * pz)
    return reach


def _place(dice: Dice, room: World, bodies: list[Body]) -> Body | None:
    """A body in a free place, or None if none was found in twenty-five attempts."""
    number = len(bodies) + 1
    for _ in range(25):
        body = random_body(dice, number, bodies)
        seats = [b for b in bodies if _can_carry(b) and all(other.on != b.id for other in bodies)]
        if seats and dice.chance(0.25):
            seat = dice.pick(seats)
            if footprint(body) > 1.05 * min(seat.shape.half[:2]):
                continue
            top = seat.centre[2] + seat.shape.half[2]
            body = replace(body, centre=np.array([*seat.centre[:2], top + rest_height(body)]), on=seat.id)
        else:
            spot = random_spot(dice, room)
            if spot is None:
                continue
            body = replace(body, centre=np.array([*spot, rest_height(body)]))
        if is_well_seen(body, room.camera, bodies) and is_free(body, room, bodies):
            return body
    return None


def _can_carry(body: Body) -> bool:
    flat = body.class_name == "box" or (body.class_name == "cylinder" and body.rotation[2, 2] > 0.5)
    return flat and body.on is None and body.size != "small"


def random_spot(dice: Dice, room: World) -> tuple[float, float] | None:
    """A point (x, y) on the floor, uniform over the lower part of the image; None if there is a wall."""
    camera = room.camera
    height, width = camera.size
    u = (dice.uniform(0.06, 0.94) * width - width / 2) / camera.focal
    v = (dice.uniform(0.3, 0.95) * height - height / 2) / camera.focal
    x, y, z = (camera.rotation.T @ np.array([u, v, 1.0])).tolist()
    if z > -0.05:
        return None
    return -x / z * float(camera.position[2]), -y / z * float(camera.position[2])


def is_free(body: Body, room: World, bodies: Sequence[Body]) -> bool:
    """Whether the body touches no wall, and no other body except the one it stands on."""
    reach = footprint(body)
    x, y, _ = body.centre.tolist()
    for plane in room.planes[1:]:
        if plane.normal[0] * x + plane.normal[1] * y - plane.offset < reach + 0.05:
            return False
    for other in bodies:
        if other.id in (body.id, body.on) or other.on == body.id:
            continue
        distance = math.hypot(x - other.centre[0], y - other.centre[1]) - 0.04
        if distance < reach + other.shape.bound and distance < reach + footprint(other):
            return False
    return True


def is_well_seen(body: Body, camera: Camera, bodies: Sequence[Body]) -> bool:
    """Whether the body's outline has a suitable size (16 to 70 pixels in an image of 160), is mostly inside the image,
    and overlaps no other outline by more than half of the smaller one."""
    height, width = camera.size
    unit = _scale(camera.size) / 160
    depth = float(camera.rotation[2] @ (body.centre - camera.position))
    if depth < body.shape.bound + 1 or not 12 < 2 * body.shape.bound * camera.focal / depth / unit < 110:
        return False
    box = body.outline(camera)
    sides = box[2] - box[0], box[3] - box[1]
    if not (16 * unit <= max(sides) <= 70 * unit and min(sides) >= 9 * unit):
        return False
    if _overlap(box, (0.0, 0.0, float(width), float(height))) < 0.8 * sides[0] * sides[1]:
        return False
    for other in bodies:
        theirs = other.outline(camera)
        smaller = min(sides[0] * sides[1], (theirs[2] - theirs[0]) * (theirs[3] - theirs[1]))
        if _overlap(box, theirs) > 0.5 * smaller:
            return False
    return True


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _times(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor

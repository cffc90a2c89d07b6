"""Short videos in which objects move, with what happens told in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from sightline.data.scenes.camera import turn_z
from sightline.data.scenes.language import phrase_of
from sightline.data.scenes.layout import is_free, random_world
from sightline.data.scenes.raycast import paint, trace
from sightline.data.scenes.scene import Scene
from sightline.data.scenes.shapes import Cylinder, Sphere
from sightline.data.scenes.still import check_options
from sightline.data.scenes.truth import describe
from sightline.data.scenes.world import Body, Dice, World
from sightline.errors import InputError

MOTIONS: dict[str, str] = {
    "left": "moves to the left",
    "right": "moves to the right",
    "closer": "comes closer",
    "away": "moves away",
    "jump": "jumps",
    "turn": "turns around",
}
"""What an object can do: kind of event → words, seen from the camera."""

FRAMES_PER_SECOND = 8
"""How fast videos are meant to be shown."""

_ATTEMPTS = 30


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happens.

    Attributes:
        object_id: which object does it (`SceneObject.id`).
        kind: one of `MOTIONS`.
        start, end: the last frame at the old place and the first at the new one; in between the object moves.
        caption: "the large red shiny cone moves to the left".
        origin, target: where the object's centre is at start and end, [3] metres in the world.
    """

    object_id: int
    kind: str
    start: int
    end: int
    caption: str
    origin: np.ndarray
    target: np.ndarray

    @property
    def seconds(self) -> tuple[float, float]:
        """(start, end) in seconds at `FRAMES_PER_SECOND`."""
        return self.start / FRAMES_PER_SECOND, self.end / FRAMES_PER_SECOND


@dataclass(frozen=True, eq=False)
class Video(Sequence[Scene]):
    """Scenes one after the other, and what happens in them.

    Attributes:
        scenes: one a frame. An object has the same id in all; where fewer of its pixels are seen than
            `catalog.MIN_PIXELS` it is not among the frame's objects, but stays in the picture.
        events: what happens, by start.
    """

    scenes: tuple[Scene, ...]
    events: tuple[Event, ...]

    def __len__(self) -> int:
        return len(self.scenes)

    @overload
    def __getitem__(self, item: int) -> Scene: ...
    @overload
    def __getitem__(self, item: slice) -> tuple[Scene, ...]: ...
    def __getitem__(self, item: Any) -> Any:
        return self.scenes[item]

    @property
    def images(self) -> np.ndarray:
        """[T, H, W, 3] uint8 (a copy)."""
        return np.stack([scene.image for scene in self.scenes])


def video(
    seed: int,
    frames: int = 16,
    size: int | tuple[int, int] = 160,
    *,
    objects: tuple[int, int] = (2, 5),
    antialias: bool = True,
) -> Video:
    """A short video of a room in which one to four things happen; the camera stands still.

    Nothing happens only where no picture of that shape holds objects with room to move.

    Args:
        seed: which video; any number from 0 to 2⁶³ − 1.
        frames: its length, at least 4.
        size: (height, width) in pixels, or one number for both; at least 16.
        objects: fewest and most objects, as in `render`.
        antialias: send four rays through pixels on edges.

    Raises:
        InputError: seed, frames, size or the number of objects is out of range.
    """
    seed, size, objects = check_options(seed, size, objects)
    if not isinstance(frames, int) or frames < 4:
        raise InputError(f"a video needs at least 4 frames for something to happen, but frames is {frames!r}")
    attempt = 0
    while True:
        dice = Dice(seed, attempt)
        world = trace(random_world(dice, size, objects), drop_hidden=True).world
        poses, events = _choreograph(dice, world, frames)
        if (events and len(world.bodies) >= objects[0]) or attempt >= _ATTEMPTS:
            break
        attempt += 1
    scenes = []
    for frame, bodies in enumerate(poses):
        picture = trace(replace(world, bodies=tuple(bodies)), drop_hidden=False)
        scenes.append(describe(picture, paint(picture, Dice(seed, attempt, frame + 1), antialias), seed, frame))
    return Video(tuple(scenes), tuple(sorted(events, key=lambda event: (event.start, event.object_id))))


def _choreograph(dice: Dice, world: World, frames: int) -> tuple[list[list[Body]], list[Event]]:
    """The bodies of each frame, and the events that move them; no event where none is possible."""
    poses = [list(world.bodies) for _ in range(frames)]
    events: list[Event] = []
    # What carries something or stands on something keeps still.
    carriers = {body.on for body in world.bodies}
    free = [k for k, body in enumerate(world.bodies) if body.on is None and body.id not in carriers]
    wanted = dice.integer(1, min(4, 1 + frames // 6))
    for _ in range(30 if free else 0):
        if len(events) == wanted:
            break
        number, kind = dice.pick(free), dice.pick(tuple(MOTIONS))
        length = min(frames - 1, max(3, int(frames * dice.uniform(0.3, 0.6))))
        start = dice.integer(0, frames - 1 - length)
        end = start + length
        body = poses[start][number]
        if any(e.object_id == body.id and start < e.end and e.start < end for e in events):
            continue
        if any(e.object_id == body.id and e.start >= end for e in events):
            continue  # later motions were planned from where it stands now
        motion = _motion(dice, world, body, kind)
        if motion is None:
            continue
        moved = [motion(_ease((frame - start) / length)) for frame in range(start, frames)]
        if not all(
            _may_be(pose, world, poses[frame]) for frame, pose in enumerate(moved[: length + 1], start)
        ) or not all(_may_be(moved[-1], world, poses[frame]) for frame in range(end, frames)):
            continue
        for frame, pose in enumerate(moved, start):
            poses[frame][number] = pose
        words = f"the {phrase_of(body)} {MOTIONS[kind]}"
        events.append(Event(body.id, kind, start, end, words, body.centre, poses[end][number].centre))
    return poses, events


def _ease(share: float) -> float:
    """A soft start and stop."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _motion(dice: Dice, world: World, body: Body, kind: str) -> Callable[[float], Body] | None:
    """Poses of the body by the share of the motion that is over; None for motions that could not be seen."""
    if kind == "turn":
        round_ = isinstance(body.shape, Sphere | Cylinder) or body.class_name in ("cone", "ring")
        if round_ and abs(body.rotation[2, 2]) > 0.7:
            return None
        angle = dice.pick((-1, 1)) * dice.uniform(math.pi / 2, math.pi)
        return lambda share: replace(body, rotation=turn_z(angle * share) @ body.rotation)
    if kind == "jump":
        height = dice.uniform(0.5, 1.0)
        return lambda share: replace(body, centre=body.centre + np.array([0, 0, height * 4 * share * (1 - share)]))
    right = world.camera.rotation[0] * (1, 1, 0)
    forward = world.camera.rotation[2] * (1, 1, 0)
    way = {"left": -right, "right": right, "closer": -forward, "away": forward}[kind]
    step = way / math.sqrt(float((way * way).sum())) * dice.uniform(0.7, 2.0)
    return lambda share: replace(body, centre=body.centre + step * share)


def _may_be(body: Body, world: World, others: Sequence[Body]) -> bool:
    """Whether the body is in nobody's way and inside the picture but for a quarter."""
    x1, y1, x2, y2 = body.outline(world.camera)
    height, width = world.camera.size
    if x1 < -0.25 * (x2 - x1) or y1 < 0 or x2 > width + 0.25 * (x2 - x1) or y2 > height + 0.2 * (y2 - y1):
        return False
    if max(x2 - x1, y2 - y1) > 0.6 * min(height, width):
        return False
    return is_free(body, world, others)

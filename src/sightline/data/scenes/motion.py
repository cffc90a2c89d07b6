"""Short videos in which objects move, with the events described in words."""

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
"""The motions of objects: kind of event → words, from the camera's perspective."""

FRAMES_PER_SECOND = 8
"""The intended frame rate of videos."""

_ATTEMPTS = 30


@dataclass(frozen=True, eq=False)
class Event:
    """An event in a video.

    Attributes:
        object_id: id of the object that moves (`SceneObject.id`).
        kind: one of `MOTIONS`.
        start, end: the last frame at the old position and the first at the new one; the object moves in between.
        caption: "the large red shiny cone moves to the left".
        origin, target: centre of the object at start and end, [3] metres in the world.
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
    """A sequence of scenes, and the events in them.

    Attributes:
        scenes: one per frame. An object has the same id in all frames. If fewer of its pixels are visible than
            `catalog.MIN_PIXELS`, it is not among the frame's objects, but remains in the image.
        events: the events, ordered by start.
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
    """Render a short video of a room with one to four events and a static camera.

    A video has no events only if no image of this shape has objects with room to move.

    Args:
        seed: random seed, from 0 to 2⁶³ − 1.
        frames: number of frames, at least 4.
        size: (height, width) in pixels, or one number for both; at least 16.
        objects: minimum and maximum number of objects, as in `render`.
        antialias: trace four rays per pixel at edges.

    Raises:
        InputError: seed, frames, size or the number of objects is out of range.
    """
    seed, size, objects = check_options(seed, size, objects)
    if not isinstance(frames, int) or frames < 4:
        raise InputError(f"frames is {frames!r}, but a video needs at least 4")
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
    """The bodies of each frame, and the events that move them; no events if none is possible."""
    poses = [list(world.bodies) for _ in range(frames)]
    events: list[Event] = []
    # A body that carries another one or stands on one does not move.
    carriers = {body.on for body in world.bodies}
    free = [k for k, body in enumerate(world.bodies) if body.on is None and body.id not in carriers]
    count = dice.integer(1, min(4, 1 + frames // 6))
    for _ in range(30 if free else 0):
        if len(events) == count:
            break
        number, kind = dice.pick(free), dice.pick(tuple(MOTIONS))
        length = min(frames - 1, max(3, int(frames * dice.uniform(0.3, 0.6))))
        start = dice.integer(0, frames - 1 - length)
        end = start + length
        body = poses[start][number]
        if any(e.object_id == body.id and start < e.end and e.start < end for e in events):
            continue
        if any(e.object_id == body.id and e.start >= end for e in events):
            continue  # later motions were planned with its current position
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
    """Smooth start and stop."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _motion(dice: Dice, world: World, body: Body, kind: str) -> Callable[[float], Body] | None:
    """Poses of the body by the completed fraction of the motion; None for motions that would not be visible."""
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
    """Whether the body collides with no other and is at least three quarters inside the image."""
    x1, y1, x2, y2 = body.outline(world.camera)
    height, width = world.camera.size
    if x1 < -0.25 * (x2 - x1) or y1 < 0 or x2 > width + 0.25 * (x2 - x1) or y2 > height + 0.2 * (y2 - y1):
        return False
    if max(x2 - x1, y2 - y1) > 0.6 * min(height, width):
        return False
    return is_free(body, world, others)

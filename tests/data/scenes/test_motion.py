"""Videos: what is told to happen is what is seen."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from sightline.data.scenes import MOTIONS, Video, video
from sightline.errors import InputError

SEEDS = range(12)


@lru_cache
def video_of(seed: int) -> Video:
    return video(seed, 12, 96)


def _places(film: Video) -> dict[int, np.ndarray]:
    """By object id: [T, 3] centres in the camera frame, NaN where the object is not labelled."""
    ids = sorted({item.id for scene in film for item in scene.objects})
    places = {number: np.full((len(film), 3), np.nan) for number in ids}
    for frame, scene in enumerate(film):
        for item in scene.objects:
            places[item.id][frame] = item.cuboid[:3]
    return places


@pytest.mark.parametrize("seed", SEEDS)
def test_objects_move_as_told_and_only_then(seed: int) -> None:
    film = video_of(seed)
    assert len(film) == 12
    assert 1 <= len(film.events) <= 4
    assert [event.start for event in film.events] == sorted(event.start for event in film.events)
    for number, path in _places(film).items():
        steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        for frame, step in enumerate(steps):
            if not any(e.object_id == number and e.start <= frame < e.end for e in film.events):
                assert np.isnan(step) or step < 1e-6
    for event in film.events:
        path = _places(film)[event.object_id]
        assert 0 <= event.start < event.end < len(film)
        assert event.seconds == (event.start / 8, event.end / 8)
        way = path[event.end] - path[event.start]
        if event.kind == "jump":
            up = (path[event.start] - path)[event.start : event.end + 1, 1].max()  # y points down
            assert up > 0.3
            assert way == pytest.approx(0, abs=1e-5)
        elif event.kind == "turn":
            assert way == pytest.approx(0, abs=1e-5)
        else:
            right, forward = way[0], way[2]
            meant, other = {
                "left": (-right, forward),
                "right": (right, forward),
                "closer": (-forward, right),
                "away": (forward, right),
            }[event.kind]
            assert meant > 0.5
            assert abs(other) < 0.2 * meant
        item = next(item for item in film[event.start].objects if item.id == event.object_id)
        assert event.caption == f"the {item.phrase} {MOTIONS[event.kind]}"
        matrix = film[0].camera.extrinsics
        assert matrix[:, :3] @ event.target + matrix[:, 3] == pytest.approx(path[event.end], abs=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_frames_are_scenes_of_one_room(seed: int) -> None:
    film = video_of(seed)
    looks = {item.id: item.phrase for item in film[0].objects}
    for frame, scene in enumerate(film):
        assert scene.frame == frame
        assert scene.size == (96, 96)
        assert np.array_equal(scene.camera.extrinsics, film[0].camera.extrinsics)
        assert all(looks.setdefault(item.id, item.phrase) == item.phrase for item in scene.objects)
        for item, mask in zip(scene.objects, scene.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert item.box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert item.area == mask.sum()
    background = np.all([scene.instance_map == 0 for scene in film], axis=0)
    assert np.array_equal(film[0].depth[background], film[-1].depth[background])
    assert film.images.shape == (12, 96, 96, 3)
    assert len(film[2:5]) == 3


def test_moving_objects_stay_apart() -> None:
    for seed in SEEDS:
        for scene in video_of(seed):
            for a in scene.objects:
                for b in scene.objects:
                    if a.id < b.id and b.body.on != a.id and a.body.on != b.id:
                        reach = a.body.shape.half, b.body.shape.half
                        gap = np.hypot(*(a.body.centre - b.body.centre)[:2])
                        assert gap > min(reach[0]) + min(reach[1])


def test_every_motion_happens_and_seeds_differ() -> None:
    kinds = {event.kind for seed in range(60) for event in video(seed, 8, 16, antialias=False).events}
    assert kinds == set(MOTIONS)
    assert len({video_of(seed).images.tobytes() for seed in SEEDS}) == len(SEEDS)


def test_too_short_a_video() -> None:
    with pytest.raises(InputError, match="frames is 2, but a video needs at least 4"):
        video(0, 2)

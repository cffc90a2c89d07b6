"""Numbers of objects that move, cross, hide and come back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

import sightline as sl
from sightline.deploy.tracking import Tracker
from sightline.errors import InputError

FPS = 10


def frame(*objects: tuple[float, float, float, int]) -> sl.Instances:
    """Boxes of 20 × 20 pixels at (x, y), with scores and labels."""
    rows = torch.tensor([[x, y, x + 20, y + 20] for x, y, _, _ in objects]).reshape(-1, 4)
    scores, labels = [one[2] for one in objects], [one[3] for one in objects]
    return sl.Instances((300, 600), boxes=rows, scores=torch.tensor(scores), labels=torch.tensor(labels).long())


def followed(frames: Sequence[sl.Instances], tracker: Tracker | None = None) -> list[list[int]]:
    tracker = tracker or Tracker()
    return [tracker.update(one, t / FPS).tracks.tolist() for t, one in enumerate(frames)]


def test_moving_objects_keep_their_numbers() -> None:
    frames = [
        frame((10 + 6 * t, 20, 0.9, 0), (400 - 9 * t, 100, 0.8, 0), (200, 150 + 4 * t, 0.7, 1)) for t in range(30)
    ]
    assert followed(frames) == [[1, 2, 3]] * 30


def test_the_order_of_detections_does_not_matter() -> None:
    frames = [frame((10 + 6 * t, 20, 0.9, 0), (10 + 6 * t, 60, 0.9, 0)) for t in range(20)]
    frames = [one[[1, 0]] if t % 2 else one for t, one in enumerate(frames)]
    assert followed(frames) == [[2, 1] if t % 2 else [1, 2] for t in range(20)]


@pytest.mark.parametrize("offset", [0, 8])
def test_objects_that_cross_are_told_apart_by_their_motion(offset: int) -> None:
    """They meet in frame 20; what is nearest then is the other one."""
    frames = [frame((100 + 5 * t, 100, 0.9, 0), (300 - 5 * t, 100 + offset, 0.9, 0)) for t in range(40)]
    assert followed(frames) == [[1, 2]] * 40


@pytest.mark.parametrize("gap", [1, 5, 9])
def test_short_gaps(gap: int) -> None:
    def seen(t: int) -> bool:
        return not 12 <= t < 12 + gap

    frames = [frame(*[(10 + 7 * t, 20, 0.9, 0)] * seen(t)) for t in range(30)]
    assert followed(frames) == [[1] * seen(t) for t in range(30)]


def test_long_gaps_begin_a_new_track() -> None:
    frames = [frame(*[(50, 20, 0.9, 0)] * (t < 5 or t > 20)) for t in range(25)]
    assert followed(frames) == [[1] if t < 5 else [2] if t > 20 else [] for t in range(25)]
    assert followed(frames, Tracker(patience=3))[-1] == [1]


def test_low_scores_continue_tracks_and_begin_none() -> None:
    def score(t: int) -> float:
        return 0.2 if 5 <= t < 10 else 0.9

    frames = [frame((10 + 5 * t, 20, score(t), 0), (300, 100, 0.3, 0)) for t in range(15)]
    assert followed(frames) == [[1]] * 15
    assert followed([frame((10, 20, 0.05, 0))]) == [[]]
    found = Tracker(threshold=0.5)
    found.update(frames[4], 0.4)
    kept = found.update(frames[5], 0.5)
    assert kept.scores.tolist() == pytest.approx([0.2])
    assert kept.boxes.tolist() == [[35, 20, 55, 40]]  # the detected box, not a smoothed one


def test_classes_are_not_mixed() -> None:
    frames = [frame((50, 20, 0.9, t // 5)) for t in range(10)]
    assert followed(frames) == [[1]] * 5 + [[2]] * 5


@pytest.mark.parametrize("every", [1, 3])
def test_frames_may_be_left_out(every: int) -> None:
    tracker = Tracker()
    times = range(0, 60, every)
    frames = {t: frame((10 + 4 * t, 20, 0.9, 0), (10 + 4 * t, 45, 0.9, 0)) for t in times}
    assert [tracker.update(frames[t], t / FPS).tracks.tolist() for t in times] == [[1, 2]] * len(times)


def test_errors() -> None:
    tracker = Tracker()
    tracker.update(frame(), 1.0)
    with pytest.raises(InputError, match="the frame at 1 s is not later than the one at 1 s"):
        tracker.update(frame(), 1.0)
    with pytest.raises(InputError, match="only objects with boxes and scores can be tracked"):
        tracker.update(sl.Instances((9, 9)), 2.0)
    with pytest.raises(InputError, match="threshold is 2, but it must be a score from 0 to 1"):
        Tracker(threshold=2)

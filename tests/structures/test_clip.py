"""Clips and events: what they keep, and what is refused."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from sightline import Clip, Events, InputError
from sightline.structures import as_clip


def ramp(frames: int = 5) -> torch.Tensor:
    """[3, T, 4, 6] uint8; the pixels of frame t are t."""
    return torch.arange(frames, dtype=torch.uint8)[None, :, None, None].expand(3, -1, 4, 6).contiguous()


def test_a_clip_is_its_frames_and_their_times():
    clip = Clip(ramp(), fps=2)
    assert (clip.frames, clip.image_size, clip.times, clip.duration) == (5, (4, 6), (0, 0.5, 1, 1.5, 2), 2.5)
    assert torch.equal(clip.frame(3), torch.full((3, 4, 6), 3, dtype=torch.uint8))
    assert as_clip(clip) is clip
    assert as_clip(torch.zeros(3, 4, 6)).frames == 1
    for again in (
        clip.float(),
        clip.clone(),
        clip.to(torch.float64),
        copy.deepcopy(clip),
        pickle.loads(pickle.dumps(clip)),
    ):
        assert isinstance(again, Clip)
        assert (again.times, again.duration) == (clip.times, clip.duration)
        assert torch.equal(torch.as_tensor(again).long(), ramp().long())
    assert type(clip / 2) is type(clip[:, :2]) is torch.Tensor


@pytest.mark.parametrize(
    ("times", "duration", "count", "expected"),
    [
        (None, 5, 5, [0, 1, 2, 3, 4]),
        (None, 5, 2, [1, 3]),  # the moments 1.25 s and 3.75 s
        (None, 5, 10, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]),
        ((0, 1, 2, 3, 9), 10, 5, [1, 3, 3, 3, 4]),  # 1, 3, 5, 7 and 9 s
        ((4, 5, 6, 7, 8), 10, 2, [0, 3]),  # the first frame is also shown before its time
    ],
)
def test_frames_are_sampled_by_their_times(times, duration, count, expected):
    clip = Clip(ramp(), times, duration, fps=1)
    assert clip.sampled(count)[0, :, 0, 0].tolist() == expected


def test_a_film_has_the_frames_side_by_side():
    film = Clip(ramp(3)).film()
    assert film.shape == (3, 4, 18)
    assert film[1, 2].tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert Clip(ramp(4)).film(2)[0, 0].tolist() == [1] * 6 + [3] * 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frames": torch.zeros(3, 0, 4, 4)}, r"shape \[3, 0, 4, 4\], but must be \[channels, frames, height, width\]"),
        ({"frames": torch.zeros(4, 4)}, "a clip has shape"),
        ({"times": [0, 1]}, "there are 2 times, but the clip has 5 frames"),
        ({"times": [0, 1, 1, 2, 3]}, "must be 0 or more, and increase"),
        ({"times": [-1, 1, 2, 3, 4]}, "must be 0 or more, and increase"),
        ({"times": [0, 1, 2, 3, 4], "duration": 3.5}, "the duration of a clip is 3.5 s, but its last frame is at 4 s"),
        ({"fps": 0}, "fps is 0"),
    ],
)
def test_clips_that_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        Clip(**{"frames": ramp(), **arguments})


def some() -> Events:
    return Events(
        (4, 6), [[0, 1], [0.5, 2]], ["a dog runs", "it jumps"], 2.0, torch.tensor([0.5, 0.75]), source="v.mp4"
    )


def test_events_are_chosen_and_moved():
    events = some()
    assert len(events) == 2
    assert events[torch.tensor([False, True])].captions == ("it jumps",)
    assert events[[1, 0]].times.tolist() == [[0.5, 2], [0, 1]]
    assert events[:1].scores.tolist() == [0.5]
    assert events.to("cpu").resized((8, 12)).image_size == (8, 12)
    assert len(Events((4, 6), [], [], 2.0)[[]]) == 0
    assert "v.mp4: 2 in 2 s: 0.0–1.0 s 'a dog runs'" in repr(events)


def test_events_as_json_come_back():
    values = some().to_dict()
    assert values == {
        "duration": 2.0,
        "timestamps": [[0, 1], [0.5, 2]],
        "sentences": ["a dog runs", "it jumps"],
        "scores": [0.5, 0.75],
    }
    again = Events.from_dict(values, (4, 6), "v.mp4")
    assert again.to_dict() == values
    with pytest.raises(InputError, match=r"v\.mp4 have no 'sentences'"):
        Events.from_dict({"duration": 2, "timestamps": []}, (4, 6), "v.mp4")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"captions": ["one"]}, r"v\.mp4: there are 1 captions for 2 events"),
        ({"times": [[0, 1], [1, 1]]}, "event 1 is from 1 s to 1 s, but must end after its start"),
        ({"times": [[0, 1], [0, float("nan")]]}, "event 1 is from 0 s to nan s"),
        ({"times": [[0, 1], [1, 3]]}, "event 1 is from 1 s to 3 s, but the video is 2 s long"),
        ({"times": [[-1, 1], [1, 2]]}, "event 0 is from -1 s to 1 s, but the video is 2 s long"),
        ({"times": [0, 1]}, r"times have shape \[2\]"),
        ({"duration": 0}, "the duration is 0 s, but must be above 0"),
        ({"scores": torch.ones(3)}, r"scores have shape \[3\], but there are 2 events"),
    ],
)
def test_events_that_are_refused(changed, words):
    values = {"times": [[0, 1], [1, 2]], "captions": ["a", "b"], "duration": 2.0} | changed
    with pytest.raises(InputError, match=words):
        Events((4, 6), source="v.mp4", **values)

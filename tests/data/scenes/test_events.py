"""Rendered videos as data: in memory and on disk they hold what the renderer says."""

from __future__ import annotations

import json

import pytest
import torch

import sightline as sl
from sightline.data.events import source_of_events
from sightline.data.scenes import write_scenes
from sightline.data.scenes.dataset import scene_seeds
from sightline.data.scenes.motion import video


def test_videos_in_memory_are_those_of_the_renderer():
    data = sl.scenes(1, 32, seed=3, kind="events", objects=(2, 3))
    own = video(scene_seeds(1, 3, "memory")[0], 16, 32, objects=(2, 3))
    clip, events = data[0]
    assert torch.equal(torch.as_tensor(clip), torch.from_numpy(own.images).permute(3, 0, 1, 2))
    assert (clip.duration, data.kind) == (2.0, "events")
    assert events.times.tolist() == [list(event.seconds) for event in own.events]
    assert events.captions == tuple(event.caption for event in own.events)
    assert sl.check(data, progress=False).ok


def test_videos_on_disk_are_read_again(tmp_path):
    pytest.importorskip("av")
    folder = write_scenes(tmp_path / "v", 2, 1, 0, 32, kind="events", objects=(2, 2), progress=False)
    data = sl.open_dataset(folder)
    assert (data.splits, len(data["train"])) == (("train", "val"), 2)
    captions = json.loads((folder / "captions" / "train.json").read_text())
    own = video(scene_seeds(2, 0, "train")[0], 16, 32, objects=(2, 2))
    clip, events = data["train"][0]
    assert list(captions) == ["v_train_000001", "v_train_000002"]
    assert events.captions == tuple(event.caption for event in own.events)
    assert events.times.flatten().tolist() == pytest.approx([t for e in own.events for t in e.seconds])
    rendered = torch.from_numpy(own.images).permute(3, 0, 1, 2)
    assert (torch.as_tensor(clip).float() - rendered).abs().mean() < 8  # colours have half the resolution


def test_videos_of_your_own_in_memory():
    clip = sl.Clip(torch.zeros(3, 4, 8, 8, dtype=torch.uint8))
    events = sl.Events((8, 8), [[0, 0.25]], ["it moves"], 0.5)
    data = sl.Dataset(source_of_events([clip, clip], [events, events], splits=["train", "val"]))
    assert data["val"][0][1].captions == ("it moves",)
    with pytest.raises(sl.InputError, match="there are 1 videos, but 2 events"):
        source_of_events([clip], [events, events])
    with pytest.raises(sl.InputError, match=r"video 0 has frames of \[8, 8\] pixels, but its events are for \[4, 4\]"):
        source_of_events([clip], [events.resized((4, 4))])
    with pytest.raises(sl.InputError, match=r"two videos have the name 'a\.mp4'"):
        source_of_events([clip, clip], [events, events], names=["a.mp4", "a.mp4"])

"""Rendered videos with described events: a dataset in memory, or a folder in the layout of ActivityNet Captions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from sightline.data.dataset import Dataset
from sightline.data.events import source_of_events
from sightline.data.scenes.motion import FRAMES_PER_SECOND, Video, video
from sightline.data.videos import write_video
from sightline.progress import progress_bar
from sightline.structures import Clip, Events

KIND = "events"
"""The kind of these scenes."""
FRAMES = 16
"""Frames of a rendered video, 2 seconds."""
MOST = 5
"""Maximum number of objects in a video, so that they have room to move."""


def video_scenes(
    seeds: Sequence[int], size: int | tuple[int, int], objects: tuple[int, int], progress: bool
) -> Dataset:
    """A dataset of rendered videos in memory, one per seed; see `sightline.data.scenes.dataset.scenes`."""
    rendered = list(_rendered(seeds, size, objects, progress))
    clips = [
        Clip(torch.from_numpy(own.images).permute(3, 0, 1, 2).contiguous(), fps=FRAMES_PER_SECOND) for own in rendered
    ]
    events = [_events(own, clip.duration) for own, clip in zip(rendered, clips, strict=True)]
    return Dataset(source_of_events(clips, events))


def write_video_scenes(
    out: Path, split: str, seeds: Sequence[int], size: int | tuple[int, int], objects: tuple[int, int], progress: bool
) -> None:
    """Write the videos of a split: SPLIT/v_000001.mp4, … and captions/SPLIT.json in the folder `out`."""
    (out / split).mkdir(parents=True)
    (out / "captions").mkdir(exist_ok=True)
    entries: dict[str, dict[str, Any]] = {}
    for number, own in enumerate(_rendered(seeds, size, objects, progress), 1):
        name = f"v_{split}_{number:06d}"  # names are unique in all splits, as those of ActivityNet
        write_video(out / split / f"{name}.mp4", own.images, FRAMES_PER_SECOND)
        entries[name] = _events(own, len(own) / FRAMES_PER_SECOND).to_dict()
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False)
    (out / "captions" / f"{split}.json").write_text(text, encoding="utf-8")


def _rendered(
    seeds: Sequence[int], size: int | tuple[int, int], objects: tuple[int, int], progress: bool
) -> Iterator[Video]:
    most = max(objects[0], min(objects[1], MOST))
    with progress_bar(len(seeds), "rendering", progress) as advance:
        for seed in seeds:
            yield video(seed, FRAMES, size, objects=(objects[0], most))
            advance(1)


def _events(own: Video, duration: float) -> Events:
    """The events of a rendered video, each from the last frame at the old place to the first at the new one."""
    times = torch.tensor([event.seconds for event in own.events], dtype=torch.float64).reshape(-1, 2)
    return Events(own[0].size, times, tuple(event.caption for event in own.events), duration)

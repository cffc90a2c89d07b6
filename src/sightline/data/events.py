"""Datasets of videos with events: their targets, datasets in memory, and what `check` finds wrong with events."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.source import Source
from sightline.data.tables import Table
from sightline.errors import InputError
from sightline.structures import Classes, Clip, Events, Size
from sightline.structures.events import wrong_time

TABLE = "events"
"""The table of the events of each video: "start" and "end" in seconds, and "caption"."""
CLASSES = Classes(["event"])
"""Events have no classes: all have this one."""


def events_table(rows: Sequence[Sequence[tuple[float, float, str]]]) -> Table:
    """The table of events, from (start, end, caption) of each event of each video."""
    named = [[{"start": start, "end": end, "caption": words} for start, end, words in own] for own in rows]
    return Table.from_rows(named, times=("start", "end"), columns=("caption",))


def durations_column(durations: Sequence[float]) -> Blob:
    """The column `image_extra` with the duration of each video in seconds."""
    return Blob.of(json.dumps({"duration": duration}) for duration in durations)


def make_events(source: Source, row: int, size: Size) -> Events:
    """The events of video `row` of a source; `size` is (height, width) of its frames."""
    columns = source.columns
    found, extra = columns.tables[TABLE].of(row), columns.image_extra
    assert extra is not None, "a dataset of events states the duration of each video"
    times = torch.tensor([[event["start"], event["end"]] for event in found], dtype=torch.float64).reshape(-1, 2)
    captions = tuple(event["caption"] for event in found)
    duration = json.loads(extra[row])["duration"]
    return Events(size, times, captions, duration, classes=CLASSES, source=columns.names.text(row))


def source_of_events(
    clips: Sequence[Clip],
    events: Sequence[Events],
    *,
    names: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
) -> Source:
    """The source of a dataset of videos in memory.

    Args:
        clips: the videos.
        events: the events of each video.
        names: unique names; by default 000000.mp4, 000001.mp4, ….
        splits: name of the split of each video; by default all are in "all".

    Raises:
        InputError: lengths differ, a name occurs twice, or events are for frames of another size.
    """
    for what, values in (("events", events), ("names", names), ("splits", splits)):
        if values is not None and len(values) != len(clips):
            raise InputError(f"there are {len(clips)} videos, but {len(values)} {what}; there must be one per video")
    for i, (clip, own) in enumerate(zip(clips, events, strict=True)):
        if clip.image_size != own.image_size:
            raise InputError(
                f"video {i} has frames of {list(clip.image_size)} pixels, but its events are for {list(own.image_size)}"
            )
    names = [f"{i:06d}.mp4" for i in range(len(clips))] if names is None else list(names)
    again = next((name for name, count in Counter(names).items() if count > 1), None)
    if again is not None:
        raise InputError(f"two videos have the name {again!r}, but names must be unique")
    known = tuple(dict.fromkeys(splits)) if splits is not None else ("all",)
    rows = [
        [(start, end, words) for (start, end), words in zip(own.times.tolist(), own.captions, strict=True)]
        for own in events
    ]
    columns = Columns.of_images(
        names=Blob.of(names),
        heights=np.array([clip.image_size[0] for clip in clips], np.int32),
        widths=np.array([clip.image_size[1] for clip in clips], np.int32),
        image_ids=np.arange(1, len(clips) + 1, dtype=np.int64),
        splits=np.array([known.index(name) for name in splits] if splits is not None else [0] * len(clips), np.int8),
        image_extra=durations_column([own.duration for own in events]),
        tables={TABLE: events_table(rows)},
    )
    return Source(columns, CLASSES, kind="events", images=list(clips), split_names=known)


def event_problems(columns: Columns) -> Iterator[tuple[str, str, int]]:
    """(rule, what is wrong, index of the video) of events that cannot be learnt."""
    extra = columns.image_extra
    for i in range(columns.images):
        duration = json.loads(extra[i])["duration"] if extra is not None else 0.0
        if not 0 < duration < float("inf"):
            yield "event-invalid", f"its duration is {duration} s, but must be above 0", i
            continue
        rows: list[dict[str, Any]] = columns.tables[TABLE].of(i)
        wrong = wrong_time([(row["start"], row["end"]) for row in rows], duration)
        if wrong is not None:
            yield "event-invalid", wrong.partition(";")[0], i
        empty = sum(not row["caption"].strip() for row in rows)
        if empty:
            yield "event-without-words", f"{empty} of its {len(rows)} events have an empty sentence", i
        if not rows:
            yield "video-without-events", "has no events", i

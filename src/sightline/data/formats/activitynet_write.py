"""Writing ActivityNet Captions: videos in one folder per split, and their events in captions/SPLIT.json."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.video_writer import VideoWriter
from sightline.errors import InputError
from sightline.structures import Clip, Events

CAPTIONS = "captions"
_WHOLE = "captions"
"""Name of the file of a dataset without splits: its name must not be that of a split."""


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset of events as SPLIT/NAME.mp4 and captions/SPLIT.json; without splits videos/ and captions.json.

    Clips in memory are written as H.264 without visible loss; their frames keep their times.

    Args:
        dataset: a dataset of kind "events".
        out: an existing folder.
        symlink: link to the videos instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.

    Raises:
        InputError: two videos have the same name without folder and suffix, by which the captions refer to them.
    """
    names = [Path(dataset.image_name(i)).name for i in range(len(dataset))]
    in_memory = dataset.source.images is not None
    if in_memory:
        names = [f"{files.without_suffix(name)}.mp4" for name in names]
    files.require_distinct(names, [files.without_suffix(name) for name in names], "an entry of the captions")
    whole = dataset.splits == ("all",)
    entries: dict[str, dict[str, Any]] = {split: {} for split in dataset.splits}
    for i, name in enumerate(names):
        split = dataset.split_of(i)
        path = out / ("videos" if whole else split) / name
        if in_memory:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_clip(dataset.image(i), path)
        else:
            _copy(dataset, i, path, symlink)
        events = dataset.target(i)
        assert isinstance(events, Events), "the labels are events"
        entries[split][files.without_suffix(name)] = events.to_dict()
    (out / CAPTIONS).mkdir(exist_ok=True)
    for split, own in entries.items():
        text = json.dumps(own, ensure_ascii=False)
        (out / CAPTIONS / f"{_WHOLE if whole else split}.json").write_text(text, encoding="utf-8")
    return files.splits_lost(dataset)


def _copy(dataset: Dataset, i: int, path: Path, symlink: bool) -> None:
    source = dataset.path(i)
    if source is None or not source.is_file():
        raise InputError(f"the video {source} does not exist; add it, or remove its label")
    path.parent.mkdir(parents=True, exist_ok=True)
    if symlink:
        path.symlink_to(source.absolute())
    else:
        shutil.copyfile(source, path)


def _write_clip(clip: Tensor, path: Path) -> None:
    assert isinstance(clip, Clip), "a dataset of events in memory holds clips"
    pixels = clip.as_subclass(Tensor)
    pixels = (pixels * 255).round().byte() if pixels.is_floating_point() else pixels
    frames = pixels.expand(3, -1, -1, -1).permute(1, 2, 3, 0).cpu().numpy()
    step = clip.duration / clip.frames
    writer = VideoWriter(path, 1 / step, crf=12)
    for frame, time in zip(frames, clip.times, strict=True):
        writer.add(frame, time)
    writer.close()

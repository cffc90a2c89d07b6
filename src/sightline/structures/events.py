"""Events in a video: intervals of time, each described by a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.classes import Classes
from sightline.structures.size import Size
from sightline.structures.whole_image import WholeImage

ROUNDING = 0.05
"""Seconds by which an event may end after its video: datasets round times and durations."""


@dataclass(frozen=True, repr=False, eq=False)
class Events(WholeImage):
    """The target or prediction of dense video captioning: N events of one video.

    Attributes:
        image_size: (height, width) of a frame in pixels.
        times: [N, 2] float, start and end in seconds from the beginning of the video.
        captions: one sentence per event.
        duration: length of the video in seconds.
        scores: [N] float in [0, 1], confidence in each event of a prediction; None for targets.
        classes: ("event",), or None.
        source: file or item that the events belong to, or None.

    Raises:
        InputError: a number of rows differs, an event does not end after its start, or it is outside the video.
    """

    image_size: Size
    times: Tensor
    captions: tuple[str, ...]
    duration: float
    scores: Tensor | None = None
    classes: Classes | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        what = f"{self.source}: " if self.source else ""
        times = torch.as_tensor(self.times)
        times = times.reshape(-1, 2) if times.numel() == 0 else times
        times = times if times.is_floating_point() else times.float()
        captions = tuple(self.captions)
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "captions", captions)
        object.__setattr__(self, "duration", float(self.duration))
        if times.ndim != 2 or times.shape[1] != 2:
            raise InputError(f"{what}times have shape {list(times.shape)}, but must be [events, 2]: start and end")
        if len(captions) != len(times):
            raise InputError(f"{what}there are {len(captions)} captions for {len(times)} events; give one per event")
        if not 0 < self.duration < math.inf:
            raise InputError(f"{what}the duration is {self.duration:g} s, but must be above 0")
        if self.scores is not None and tuple(self.scores.shape) != (len(times),):
            raise InputError(f"{what}scores have shape {list(self.scores.shape)}, but there are {len(times)} events")
        wrong = wrong_time(times.tolist(), self.duration)
        if wrong is not None:
            raise InputError(f"{what}{wrong}")

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, chosen: Any) -> Events:
        """The events selected by a bool mask [N], a slice, or ids."""
        if isinstance(chosen, slice):
            rows = torch.arange(len(self))[chosen]
        else:
            rows = torch.as_tensor(chosen)
            rows = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows.to(torch.int64).reshape(-1)
        captions = tuple(self.captions[i] for i in rows.tolist())
        own = rows.to(self.times.device)
        scores = None if self.scores is None else self.scores[own]
        return replace(self, times=self.times[own], captions=captions, scores=scores)

    def __repr__(self) -> str:
        where = f"of {self.source}: " if self.source else ""
        rows = [
            f"{start:.1f}–{end:.1f} s {caption!r}"
            for (start, end), caption in zip(self.times.tolist()[:3], self.captions, strict=False)
        ]
        left = f" and {len(self) - 3} more" if len(self) > 3 else ""
        return f"Events({where}{len(self)} in {self.duration:g} s: {', '.join(rows)}{left})"

    def to_columns(self) -> dict[str, list[Any]]:
        """One row per event: image (the video), start and end in seconds, caption, and score if there is one."""
        starts, ends = self.times.T.tolist() if len(self) else ([], [])
        columns = {"image": [self.source] * len(self), "start": starts, "end": ends, "caption": list(self.captions)}
        return columns if self.scores is None else columns | {"score": self.scores.tolist()}

    def to_dict(self) -> dict[str, Any]:
        """The events as JSON values: "duration", "timestamps" and "sentences" as in ActivityNet Captions, and "scores"
        if there are any."""
        times = [[round(float(t), 3) for t in row] for row in self.times.tolist()]
        values: dict[str, Any] = {"duration": round(self.duration, 3), "timestamps": times}
        values["sentences"] = list(self.captions)
        return values | ({} if self.scores is None else {"scores": [round(float(s), 6) for s in self.scores.tolist()]})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], image_size: Size, source: str | None = None) -> Events:
        """The events that `to_dict` returned.

        Raises:
            InputError: an entry is missing, or the events are not valid.
        """
        missing = [name for name in ("duration", "timestamps", "sentences") if name not in values]
        if missing:
            raise InputError(f"{source or 'the events'} have no {missing[0]!r}; add it")
        scores = values.get("scores")
        times = torch.tensor(values["timestamps"], dtype=torch.float64).reshape(-1, 2)
        known = None if scores is None else torch.tensor(scores, dtype=torch.float32)
        return cls(image_size, times, tuple(values["sentences"]), values["duration"], known, source=source)


def wrong_time(times: Sequence[Sequence[float]], duration: float) -> str | None:
    """What is wrong with the first invalid (start, end) of a video of `duration` seconds; None if all are valid."""
    for row, (start, end) in enumerate(times):
        if not (math.isfinite(start) and math.isfinite(end)) or start >= end:
            return f"event {row} is from {start:g} s to {end:g} s, but must end after its start; correct or remove it"
        if start < -ROUNDING or end > duration + ROUNDING:
            return (
                f"event {row} is from {start:g} s to {end:g} s, but the video is {duration:g} s long; correct or "
                "remove it"
            )
    return None

"""A baseline for dense video captioning that sees no picture: the same events for every video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sightline.errors import InputError
from sightline.evaluation.blind_captions import typical_caption
from sightline.ops.intervals import interval_iou
from sightline.structures import Events

OVERLAPS = (0.3, 0.5, 0.7, 0.9)
"""The temporal IoUs τ of the metrics."""
_STEPS = 20
"""Starts and ends of the intervals that are tried are multiples of 1 / 20 of a video."""


@dataclass(frozen=True)
class BlindBaseline:
    """Predicts the same events for every video, at the same fractions of its duration and with the same sentence.

    Attributes:
        intervals: (start, end) of each event as a fraction of the duration, the most useful first.
        caption: the sentence of every event.
    """

    intervals: tuple[tuple[float, float], ...]
    caption: str

    @classmethod
    def of(cls, targets: Sequence[Events], count: int | None = None) -> BlindBaseline:
        """The baseline for the events of training videos.

        Intervals are chosen one by one, each the one with which the mean recall over the temporal IoUs 0.3, 0.5, 0.7
        and 0.9 rises most. The sentence is the one with the highest mean caption score by the others
        (`typical_caption`).

        Args:
            targets: the events of the training videos.
            count: number of events to predict for each video; by default the mean number of events, rounded.

        Raises:
            InputError: there are no events.
        """
        own = [target for target in targets if len(target)]
        if not own:
            raise InputError("the baseline needs labelled events; give the targets of videos with events")
        wanted = max(1, round(sum(map(len, own)) / len(own))) if count is None else count
        events = torch.cat([target.times.double() / target.duration for target in own])
        grid = torch.tensor(
            [(a / _STEPS, b / _STEPS) for a in range(_STEPS) for b in range(a + 1, _STEPS + 1)], dtype=torch.float64
        )
        overlaps = interval_iou(grid, events)
        close = overlaps[..., None] >= torch.tensor(OVERLAPS)  # [intervals, events, 4]
        weight = torch.cat([torch.full((len(t),), 1 / len(t), dtype=torch.float64) for t in own])
        found = torch.zeros(close.shape[1:], dtype=torch.bool)
        chosen = []
        for _ in range(wanted):
            missed = close & ~found
            gains = (missed.sum(2) * weight).sum(1) + 1e-6 * (missed.any(2) * overlaps).mean(1)  # of equals the closest
            best = int(gains.argmax())
            found |= close[best]
            chosen.append((float(grid[best, 0]), float(grid[best, 1])))
        return cls(tuple(chosen), typical_caption([words for target in own for words in target.captions]))

    def predict(self, target: Events) -> Events:
        """The events that the baseline predicts for the video of a target; it uses only the video's duration."""
        times = torch.tensor(self.intervals, dtype=torch.float64) * target.duration
        scores = 1 / torch.arange(1, len(times) + 1, dtype=torch.float32)
        return Events(target.image_size, times, (self.caption,) * len(times), target.duration, scores)

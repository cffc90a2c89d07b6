"""Follow objects through the frames of a video: each gets a number that stays the same.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022, algorithm 1: detections
with high scores are matched first, to all tracks; then those with low scores to the tracks that are left and were seen
in the last frame, because an object that is partly hidden has a low score; tracks begin only with high scores. Both
matchings are minimum-cost assignments of 1 − IoU between detected boxes and the boxes that the tracks predict.

Departures: the motion is predicted by an alpha-beta filter of position and velocity in seconds instead of a Kalman
filter, so that frames may be any time apart; an object has its number from its first frame on; objects of different
classes are not matched; appearance is not used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.deploy.predictions import are_objects
from sightline.errors import InputError
from sightline.ops.boxes import box_iou
from sightline.ops.matching import assign
from sightline.runtime.values import require_number
from sightline.structures import Instances

LOW = 0.1
"""Scores below this are ignored."""
FIRST_IOU = 0.2
"""Minimum IoU with the predicted box in the first matching; the paper's code has 0.2 (a cost of 0.8)."""
SECOND_IOU = 0.5
"""Minimum IoU in the second matching, of detections with low scores."""
PATIENCE = 1.0
"""Seconds for which an object that is not found is remembered (30 frames in the paper)."""
_POSITION, _VELOCITY = 0.85, 0.4
"""Weights of a new box for the position and the velocity of its track."""


@dataclass
class _Track:
    """A tracked object.

    Attributes:
        number: its number, from 1.
        label: its class.
        box: [4] (centre x, y, width, height) at `time`, smoothed.
        velocity: [4] per second.
        time: when it was last seen, in seconds.
        seen: number of detections.
    """

    number: int
    label: int
    box: Tensor
    time: float
    velocity: Tensor = field(default_factory=lambda: torch.zeros(4))
    seen: int = 1

    def predicted(self, time: float) -> Tensor:
        """[4] xyxy at a time. The size is not extrapolated."""
        centre = self.box[:2] + self.velocity[:2] * (time - self.time)
        half = self.box[2:] / 2
        return torch.cat([centre - half, centre + half])

    def found(self, box: Tensor, time: float) -> None:
        """Correct position and velocity by a detected box [4] xyxy."""
        measured = torch.cat([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])
        passed = max(time - self.time, 1e-6)
        expected = torch.cat([self.box[:2] + self.velocity[:2] * passed, self.box[2:]])
        wrong = measured - expected
        self.velocity = self.velocity + wrong * ((1.0 if self.seen == 1 else _VELOCITY) / passed)
        self.box = expected + wrong * _POSITION
        self.time = time
        self.seen += 1


class Tracker:
    """Numbers the objects of one video. Call `update` with the objects of each frame in turn.

    Args:
        threshold: minimum score of objects that begin a track, and of the first matching.
        patience: seconds for which an object that is not found keeps its number.
        low: minimum score of objects of the second matching.

    Raises:
        InputError: a number is out of its range.
    """

    def __init__(self, threshold: float = 0.5, patience: float = PATIENCE, low: float = LOW):
        self.threshold = require_number("threshold", threshold, 0, 1, "give 0.5 if in doubt", "a score")
        self.patience = require_number("patience", patience, 0, 3600, "give 1 second if in doubt", "seconds")
        self.low = min(low, self.threshold)
        self.count = 0
        self._tracks: list[_Track] = []
        self._last = -1.0

    def update(self, result: Instances, time: float) -> Instances:
        """Number the objects of the next frame.

        Args:
            result: the objects with boxes, labels and scores, also those with low scores.
            time: of the frame, in seconds, later than the one before.

        Returns:
            The objects that belong to a track, with the field `tracks` [N] int64.

        Raises:
            InputError: the objects have no boxes or scores, or the time is not later.
        """
        if not are_objects(result) or "boxes" not in result or "scores" not in result:
            raise InputError("only objects with boxes and scores can be tracked; predict with a detector")
        if not time > self._last:
            raise InputError(
                f"the frame at {time:g} s is not later than the one at {self._last:g} s; give times in order"
            )
        boxes, scores = result.boxes.detach().cpu().float(), result.scores.detach().cpu()
        labels = result.labels.cpu() if "labels" in result else torch.zeros(len(result), dtype=torch.int64)
        self._tracks = [track for track in self._tracks if time - track.time <= self.patience + 1e-9]
        numbers = torch.zeros(len(result), dtype=torch.int64)
        high = (scores >= self.threshold).nonzero().flatten()
        low = ((scores >= self.low) & (scores < self.threshold)).nonzero().flatten()
        left = self._match(self._tracks, high, boxes, labels, time, FIRST_IOU, numbers)
        just_seen = [track for track in left if track.time >= self._last]
        self._match(just_seen, low, boxes, labels, time, SECOND_IOU, numbers)
        for i in high[numbers[high] == 0].tolist():
            self.count += 1
            sides = boxes[i, 2:] - boxes[i, :2]
            box = torch.cat([boxes[i, :2] + sides / 2, sides])
            self._tracks.append(_Track(self.count, int(labels[i]), box, time))
            numbers[i] = self.count
        self._last = time
        kept = numbers > 0
        return result[kept].replace(tracks=numbers[kept])

    def _match(
        self,
        tracks: list[_Track],
        rows: Tensor,
        boxes: Tensor,
        labels: Tensor,
        time: float,
        least: float,
        numbers: Tensor,
    ) -> list[_Track]:
        """Match detections `rows` to tracks, write their numbers, and return the tracks that are left."""
        if not tracks or not len(rows):
            return tracks
        expected = torch.stack([track.predicted(time) for track in tracks])
        iou = box_iou(boxes[rows], expected).nan_to_num(nan=0.0)
        same = labels[rows][:, None] == torch.tensor([track.label for track in tracks])
        cost = (1 - iou).masked_fill(~same | (iou < least), float("inf"))
        found, matched = assign(cost.numpy())
        for i, k in zip(rows[torch.from_numpy(found)].tolist(), matched.tolist(), strict=True):
            tracks[k].found(boxes[i], time)
            numbers[i] = tracks[k].number
        taken = set(matched.tolist())
        return [track for k, track in enumerate(tracks) if k not in taken]

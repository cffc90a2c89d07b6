"""How many objects a source of proposals finds: recall by the number of proposals, and by the overlap asked for.

Hosang, Benenson, Dollár, Schiele, "What makes for effective detection proposals?", PAMI 2016, sections 4 and 5; average
recall over IoU 0.50 to 0.95 as COCO has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.errors import InputError
from sightline.evaluation._table import short
from sightline.ops.boxes import box_iou
from sightline.structures import Instances

COUNTS = (50, 100, 300, 1000, 2000)
THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)


@dataclass
class ProposalResult:
    """Recall of proposals. `print(result)` shows it as a table.

    Attributes:
        counts: the best so many proposals of an image that are looked at.
        recall: [len(counts), 10], the part of the objects that one of them overlaps with IoU 0.50, 0.55 … 0.95 at
            least; nan without objects.
        objects, images: how many there were.
        proposals: how many there were for an image, on average.
        overlaps: [len(counts), objects], the best overlap of each object.
        targets, predictions: what was compared, where kept.
        task: "proposal".
        notes: what a reader of the numbers should know, one sentence each.
        measured: "data" and "split" that were measured, where they are known.
    """

    counts: tuple[int, ...]
    recall: NDArray[np.float64]
    objects: int
    images: int
    proposals: float
    overlaps: NDArray[np.float64] = field(repr=False)
    targets: Sequence[Instances] | None = field(default=None, repr=False)
    predictions: Sequence[Instances] | None = field(default=None, repr=False)
    task: str = "proposal"
    notes: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def metrics(self) -> dict[str, float | None]:
        """ "recall50@300": at IoU 0.50 with 300 proposals an image; "AR@300": the mean over IoU 0.50 to 0.95.

        None where there are no objects.
        """
        values: dict[str, float | None] = {}
        for count, row in zip(self.counts, self.recall, strict=True):
            for name, value in ((f"recall50@{count}", row[0]), (f"AR@{count}", row.mean())):
                values[name] = float(value) if self.objects else None
        return values

    def curve(self, count: int, steps: int = 51) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Overlaps from 0.5 to 1, and the recall at each of them with `count` proposals an image (one of `counts`)."""
        if count not in self.counts:
            raise InputError(f"recall was measured at {', '.join(map(str, self.counts))} proposals, not at {count}")
        thresholds = np.linspace(0.5, 1, steps)
        best = self.overlaps[self.counts.index(count)]
        return thresholds, (best[None] >= thresholds[:, None]).mean(1) if self.objects else np.full(steps, np.nan)

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """Everything for JSON; with `details` the recall at every overlap, too."""
        out: dict[str, Any] = {
            "task": self.task,
            "protocol": "class-agnostic recall",
            "images": self.images,
            "objects": self.objects,
            "detections": round(self.proposals * self.images),
            "metrics": self.metrics,
            "reasons": {} if self.objects else dict.fromkeys(self.metrics, "there are no objects in these labels"),
            "notes": list(self.notes),
        } | ({"measured": dict(self.measured)} if self.measured else {})
        if details:
            out["recall"] = {
                str(count): dict(zip([f"{t:.2f}" for t in THRESHOLDS], np.round(row, 4).tolist(), strict=True))
                for count, row in zip(self.counts, self.recall, strict=True)
                if self.objects
            }
        return out

    def __repr__(self) -> str:
        return short(self)

    def __str__(self) -> str:
        lines = [f"{self.objects} objects in {self.images} images, {self.proposals:.0f} proposals an image"]
        lines.append("proposals  recall (IoU 0.50)  recall (IoU 0.70)  average recall (0.50 to 0.95)")
        for count, row in zip(self.counts, self.recall, strict=True):
            lines.append(f"{count:9d}  {row[0]:17.3f}  {row[4]:17.3f}  {row.mean():29.3f}")
        lines += [f"Note: {note}." for note in self.notes]
        return "\n".join(lines)


def evaluate_proposals(
    targets: Sequence[Instances], proposals: Sequence[Tensor | Instances], counts: Sequence[int] = COUNTS
) -> ProposalResult:
    """Measure proposals against the labelled objects, whatever their class. Crowd regions do not count.

    Args:
        targets: labels of each image.
        proposals: boxes [P, 4] of each image, best first, in the same pixels; or what a proposal network answered.
        counts: the best so many of an image are looked at.

    Returns:
        Recall; an object counts as found by any proposal that overlaps it enough, and a proposal may find several.

    Raises:
        InputError: there are not as many proposals as targets, or a count is below 1.
    """
    if len(targets) != len(proposals):
        raise InputError(f"there are {len(targets)} targets but proposals for {len(proposals)} images; give one each")
    if not counts or min(counts) < 1:
        raise InputError(f"counts are {list(counts)}, but must be at least one number of proposals, each at least 1")
    best: list[NDArray[np.float64]] = [np.zeros((len(counts), 0))]
    total = 0
    for target, found in zip(targets, proposals, strict=True):
        boxes = (found.boxes if isinstance(found, Instances) else found).detach().cpu().to(torch.float64)
        total += len(boxes)
        objects = target.boxes.detach().cpu().to(torch.float64)
        if "crowd" in target:
            objects = objects[~target.crowd.cpu()]
        rising = torch.zeros(len(objects), 1, dtype=torch.float64)  # column n: the best of the first n proposals
        if len(boxes) and len(objects):
            rising = torch.cat([rising, box_iou(objects, boxes).cummax(1).values], 1)
        best.append(np.stack([rising[:, min(count, rising.shape[1] - 1)].numpy() for count in counts]))
    overlaps = np.concatenate(best, 1)
    number = overlaps.shape[1]
    recall = np.full((len(counts), len(THRESHOLDS)), np.nan)
    if number:
        recall = (overlaps[:, None] >= THRESHOLDS[:, None] - 1e-12).mean(2)
    return ProposalResult(tuple(counts), recall, number, len(targets), total / max(1, len(targets)), overlaps)

"""Evaluate proposals: recall by the number of proposals and by the IoU threshold.

Hosang, Benenson, Dollár, Schiele, "What makes for effective detection proposals?", PAMI 2016, sections 4 and 5; average
recall over IoU 0.50 to 0.95 as in COCO.
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
from sightline.evaluation._table import aligned, number, short
from sightline.evaluation.collected import CollectedMeasure
from sightline.evaluation.intervals import percentiles, resampled_sums
from sightline.ops.boxes import box_iou
from sightline.structures import Classes, Instances
from sightline.structures.tabular import html_of

COUNTS = (50, 100, 300, 1000, 2000)
THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
HEADLINE = ("AR@300", "recall50@300", "AR@1000", "recall50@1000")
"""The metrics recorded after each epoch; the first decides which epoch is best."""
_RANKED_AT = 300
"""Number of proposals per image by which images and classes are ranked."""


@dataclass
class ProposalResult:
    """Recall of proposals. `print(result)` shows it as a table.

    Attributes:
        counts: numbers of best proposals per image at which recall is computed.
        recall: [len(counts), 10], the fraction of objects that a proposal overlaps with an IoU of at least 0.50, 0.55 …
            0.95; NaN without objects.
        objects, images: number of objects and images.
        proposals: mean number of proposals per image.
        overlaps: [len(counts), objects], the best IoU of each object.
        image_of: int64 [objects], index of each object's image.
        labels: int64 [objects], class of each object; -1 if unknown.
        classes: class names; None if unknown.
        names: the name of each image.
        targets, predictions: what was compared, if kept.
        task: "proposal".
        notes: remarks for the reader of the metrics, one sentence each.
        measured: "data" and "split" of the evaluation, if known.
    """

    counts: tuple[int, ...]
    recall: NDArray[np.float64]
    objects: int
    images: int
    proposals: float
    overlaps: NDArray[np.float64] = field(repr=False)
    image_of: NDArray[np.int64] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    classes: Classes | None = None
    names: list[str] | None = field(default=None, repr=False)
    targets: Sequence[Instances] | None = field(default=None, repr=False)
    predictions: Sequence[Instances] | None = field(default=None, repr=False)
    task: str = "proposal"
    notes: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def metrics(self) -> dict[str, float | None]:
        """ "recall50@300": at IoU 0.50 with 300 proposals per image; "AR@300": the mean over IoU 0.50 to 0.95.

        None without objects.
        """
        values: dict[str, float | None] = {}
        for count, row in zip(self.counts, self.recall, strict=True):
            for name, value in ((f"recall50@{count}", row[0]), (f"AR@{count}", row.mean())):
                values[name] = float(value) if self.objects else None
        return values

    @property
    def reasons(self) -> dict[str, str]:
        """For each metric that is None, the reason; metrics of one class have the key "class/metric"."""
        reasons = {} if self.objects else dict.fromkeys(self.metrics, "there are no objects in these labels")
        for name, row in self.per_class.items():
            reasons |= {f"{name}/{key}": f"no object of {name!r} in these labels" for key in row if row[key] is None}
        return reasons

    @property
    def headline(self) -> tuple[str, ...]:
        """The metrics of `HEADLINE` that were computed; if there are none, recall at the largest number."""
        own = tuple(name for name in HEADLINE if name in self.metrics)
        return own or (f"AR@{max(self.counts)}", f"recall50@{max(self.counts)}")

    @property
    def ranked_at(self) -> int:
        """Number of proposals by which images and classes are ranked: 300, else the largest of `counts`."""
        return _RANKED_AT if _RANKED_AT in self.counts else max(self.counts)

    @property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """By class name: "AR@300", "recall50@300" (see `ranked_at`) and "objects"; empty without class names."""
        best = self.overlaps[self.counts.index(self.ranked_at)]
        rows: dict[str, dict[str, Any]] = {}
        for k, name in enumerate(self.classes or ()):
            own = best[self.labels == k]
            found = _reached(own).mean(1) if len(own) else None
            rows[name] = {
                f"AR@{self.ranked_at}": None if found is None else float(found.mean()),
                f"recall50@{self.ranked_at}": None if found is None else float(found[0]),
                "objects": len(own),
            }
        return rows

    @property
    def image_recall(self) -> NDArray[np.float64]:
        """[images], the fraction of each image's objects found at IoU 0.50 (see `ranked_at`); NaN without objects."""
        found = _reached(self.overlaps[self.counts.index(self.ranked_at)])[0]
        objects = np.bincount(self.image_of, minlength=self.images)
        right = np.bincount(self.image_of, weights=found, minlength=self.images)
        return np.divide(right, objects, out=np.full(self.images, np.nan), where=objects > 0)

    def found(self, image: int) -> NDArray[np.bool_]:
        """For each object of an image that counts: whether a proposal overlaps it by 0.50 (see `ranked_at`)."""
        found: NDArray[np.bool_] = _reached(self.overlaps[self.counts.index(self.ranked_at)])[0]
        return found[self.image_of == image]

    @property
    def threshold(self) -> None:
        """None: predictions are not filtered by score."""
        return None

    def worst_first(self) -> NDArray[np.int64]:
        """Indices of the images by ascending recall; of equals, the one with more missed objects first.

        Images without objects come last.
        """
        recall = self.image_recall
        objects = np.bincount(self.image_of, minlength=self.images)
        missed = objects * (1 - np.nan_to_num(recall, nan=1.0))
        return np.lexsort((-missed, recall)).astype(np.int64)  # NaN sorts last

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals over images of every metric, by name; empty without objects."""
        if not self.objects:
            return {}
        each = np.zeros((self.images, len(self.counts) * len(THRESHOLDS) + 1))
        reached = _reached(self.overlaps).transpose(1, 0, 2).reshape(-1, self.objects)  # [counts × overlaps, objects]
        np.add.at(each, self.image_of, np.vstack([reached, np.ones(self.objects)]).T)
        sums = resampled_sums(each)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = (sums[:, :-1] / sums[:, -1:]).reshape(len(sums), len(self.counts), len(THRESHOLDS))
        samples = {}
        for place, count in enumerate(self.counts):
            samples[f"recall50@{count}"] = recall[:, place, 0]
            samples[f"AR@{count}"] = recall[:, place].mean(1)
        return percentiles(samples, level)

    def curve(self, count: int, steps: int = 51) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """IoU thresholds from 0.5 to 1, and the recall at each with `count` proposals per image (one of `counts`)."""
        if count not in self.counts:
            raise InputError(f"recall was computed at {', '.join(map(str, self.counts))} proposals, not at {count}")
        thresholds = np.linspace(0.5, 1, steps)
        best = self.overlaps[self.counts.index(count)]
        return thresholds, (best[None] >= thresholds[:, None]).mean(1) if self.objects else np.full(steps, np.nan)

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also the recall at every IoU and of every image."""
        out: dict[str, Any] = {
            "task": self.task,
            "protocol": "class-agnostic recall",
            "images": self.images,
            "objects": self.objects,
            "detections": round(self.proposals * self.images),
            "classes": list(self.classes or ()),
            "metrics": self.metrics,
            "reasons": self.reasons,
            "per_class": self.per_class,
            "notes": list(self.notes),
        } | ({"measured": dict(self.measured)} if self.measured else {})
        if details:
            out["recall"] = {
                str(count): dict(zip([f"{t:.2f}" for t in THRESHOLDS], np.round(row, 4).tolist(), strict=True))
                for count, row in zip(self.counts, self.recall, strict=True)
                if self.objects
            }
            found = [None if np.isnan(v) else round(v, 6) for v in self.image_recall.tolist()]
            out["image_recall"] = dict(zip(self.names, found, strict=True)) if self.names else found
        return out

    def __repr__(self) -> str:
        return short(self)

    _repr_html_ = html_of

    def __str__(self) -> str:
        lines = [f"{self.objects} objects in {self.images} images, {self.proposals:.0f} proposals per image"]
        lines.append("proposals  recall (IoU 0.50)  recall (IoU 0.70)  average recall (0.50 to 0.95)")
        for count, row in zip(self.counts, self.recall, strict=True):
            lines.append(f"{count:9d}  {row[0]:17.3f}  {row[4]:17.3f}  {row.mean():29.3f}")
        if self.per_class:
            at = self.ranked_at
            by_recall = sorted(self.per_class.items(), key=lambda row: -(row[1][f"AR@{at}"] or -1.0))
            heads = ["class", "objects", f"recall50@{at}", f"AR@{at}"]
            rows = [
                [name, str(row["objects"]), number(row[f"recall50@{at}"]), number(row[f"AR@{at}"])]
                for name, row in by_recall
            ]
            lines += ["", *aligned([heads, *rows], [False, True, True, True])]
        lines += [f"Note: {note}." for note in self.notes]
        return "\n".join(lines)


class ProposalMeasure(CollectedMeasure[ProposalResult]):
    """Collects the objects and proposals of each image. Classes are those of the objects."""

    def compared(self, names: Sequence[str] | None) -> ProposalResult:
        return evaluate_proposals(self.targets, self.predictions, classes=self.classes, names=names)


def evaluate_proposals(
    targets: Sequence[Instances],
    proposals: Sequence[Tensor | Instances],
    counts: Sequence[int] = COUNTS,
    classes: Classes | None = None,
    names: Sequence[str] | None = None,
) -> ProposalResult:
    """Compare proposals with the labelled objects of all classes. Crowd regions do not count.

    Args:
        targets: labels of each image.
        proposals: boxes [P, 4] of each image, best first, in the same pixels; or the results of a proposal network.
        counts: numbers of best proposals per image at which recall is computed.
        classes: names of the labels' classes, for the recall of each.
        names: the name of each image, for reports; by default the targets' sources.

    Returns:
        The recall. An object counts as found by any proposal that overlaps it enough; a proposal may find several.

    Raises:
        InputError: the numbers of targets, proposals and names differ, or a count is below 1.
    """
    if len(targets) != len(proposals):
        raise InputError(
            f"there are {len(targets)} targets but proposals for {len(proposals)} images; give equally many"
        )
    if names is not None and len(names) != len(targets):
        raise InputError(f"there are {len(names)} names but {len(targets)} images; give one for each image")
    if not counts or min(counts) < 1:
        raise InputError(f"counts are {list(counts)}, but must be one or more numbers of proposals, each at least 1")
    best: list[NDArray[np.float64]] = [np.zeros((len(counts), 0))]
    labels: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    total = 0
    for target, found in zip(targets, proposals, strict=True):
        boxes = (found if isinstance(found, Tensor) else found.boxes).detach().cpu().to(torch.float64)
        total += len(boxes)
        objects = target.boxes.detach().cpu().to(torch.float64)
        kinds = target.labels.cpu().numpy() if "labels" in target else np.full(len(objects), -1, np.int64)
        if "crowd" in target:
            counted = ~target.crowd.cpu()
            objects, kinds = objects[counted], kinds[counted.numpy()]
        rising = torch.zeros(len(objects), 1, dtype=torch.float64)  # column n: the best of the first n proposals
        if len(boxes) and len(objects):
            rising = torch.cat([rising, box_iou(objects, boxes).cummax(1).values], 1)
        best.append(np.stack([rising[:, min(count, rising.shape[1] - 1)].numpy() for count in counts]))
        labels.append(kinds)
    overlaps = np.concatenate(best, 1)
    objects_in = [part.shape[1] for part in best[1:]]
    recall = _reached(overlaps).mean(2).T if overlaps.shape[1] else np.full((len(counts), len(THRESHOLDS)), np.nan)
    return ProposalResult(
        counts=tuple(counts),
        recall=recall,
        objects=overlaps.shape[1],
        images=len(targets),
        proposals=total / max(1, len(targets)),
        overlaps=overlaps,
        image_of=np.repeat(np.arange(len(targets), dtype=np.int64), objects_in),
        labels=np.concatenate(labels),
        classes=classes,
        names=list(names) if names is not None else [t.source or f"image {i}" for i, t in enumerate(targets)],
    )


def _reached(overlaps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[…, objects] → [10, …, objects]: whether each overlap reaches each of `THRESHOLDS`."""
    reached: NDArray[np.bool_] = overlaps >= THRESHOLDS.reshape(-1, *[1] * overlaps.ndim) - 1e-12
    return reached

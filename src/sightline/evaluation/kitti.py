"""KITTI's evaluation of objects: AP40 of cuboids in 3-D and seen from above, and average orientation similarity, for
easy, moderate and hard objects.

Source: Geiger, Lenz, Urtasun, "Are we ready for autonomous driving?", CVPR 2012, section 3 (matching, difficulty,
orientation similarity); Simonelli et al., "Disentangling monocular 3D object detection", ICCV 2019, section 6 (40
recalls, which KITTI uses since); the published evaluation code for the order of matching and the choice of thresholds.

Precision is sampled at 41 thresholds, of which the first is left out. A class with fewer than about 41 objects has
fewer thresholds and cannot reach 1, as in the published code.

A class counts if its name is one of `OVERLAPS`, whatever its case. Regions marked as crowds stand for KITTI's DontCare.
They excuse wrong boxes, not wrong cuboids: in the published code, which compares them by the metric's own overlap, they
have no place in space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sightline.data.kitti_levels import DIFFICULTIES, EVALUATED, Difficulty
from sightline.evaluation._arrays import Bools, Floats, Ints
from sightline.evaluation._cuboid_rows import CuboidRows, observation_angle
from sightline.ops.boxes import box_iou
from sightline.ops.cuboid_iou import bev_iou, cuboid_iou
from sightline.structures import Classes, Instances

PROTOCOL = "KITTI AP40"
OVERLAPS = dict(zip(EVALUATED, (0.7, 0.5, 0.5), strict=True))
"""The minimum overlap of each class; an overlap must be larger."""
NEIGHBOURS = {"car": "van", "pedestrian": "person_sitting"}
"""Classes so similar that objects of them count neither as found nor as missed."""
RECALLS = 40


_WORDS = {
    "AP3D": "average precision in 3-D at 40 recalls",
    "APBEV": "average precision seen from above at 40 recalls",
    "AOS": "average orientation similarity, of boxes in the image",
}
MEANINGS = {f"KITTI_{kind}_{level}": f"{words}, {level}" for kind, words in _WORDS.items() for level in DIFFICULTIES}
HEADLINE = ("KITTI_AP3D_moderate", "KITTI_APBEV_moderate")
REASON = f"no object of {', '.join(OVERLAPS)} of this difficulty in these labels"


def applies(targets: Sequence[Instances]) -> bool:
    """Whether the labels have KITTI's attributes, without which there is no difficulty."""
    own = [target for target in targets if len(target)]
    return bool(own) and all("truncated" in target and "occluded" in target for target in own)


def kitti_metrics(
    targets: Sequence[Instances], predictions: Sequence[Instances], classes: Classes, rows: CuboidRows
) -> tuple[dict[str, float | None], dict[str, dict[str, Any]]]:
    """The metrics of `MEANINGS`: means over the evaluated classes, and by class name.

    Args:
        targets, predictions: one item per image; predictions with the ids of `classes`.
        classes: names of the classes.
        rows: the same objects and detections as rows.
    """
    images = _images(targets, predictions, rows)
    names = [name.lower() for name in classes]
    per_class: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(names):
        if name not in OVERLAPS:
            continue
        near = names.index(NEIGHBOURS[name]) if NEIGHBOURS.get(name) in names else -1
        own = per_class[classes[k]] = {}
        for level, difficulty in DIFFICULTIES.items():
            for kind in _WORDS:
                found = average_precision(images, k, near, difficulty, OVERLAPS[name], kind)
                own[f"KITTI_{kind}_{level}"] = found
    means: dict[str, float | None] = {}
    for metric in MEANINGS:
        values = [row[metric] for row in per_class.values() if row[metric] is not None]
        means[metric] = float(np.mean(values)) if values else None
    return means, per_class


@dataclass(frozen=True)
class Image:
    """The objects and detections of one image.

    Attributes:
        labels, heights, occluded, truncated, alphas: [N] of the objects that are no crowds.
        found_labels, found_heights, scores, found_alphas: [D] of the detections.
        overlaps: [N, D] by metric: of cuboids "AP3D", from above "APBEV", of boxes "AOS".
        dont_care: [D] the largest fraction of each detected box inside of one DontCare region.
    """

    labels: Ints
    heights: Floats
    occluded: Ints
    truncated: Floats
    alphas: Floats
    found_labels: Ints
    found_heights: Floats
    scores: Floats
    found_alphas: Floats
    overlaps: dict[str, Floats]
    dont_care: Floats


def _images(targets: Sequence[Instances], predictions: Sequence[Instances], rows: CuboidRows) -> list[Image]:
    count = len(targets)
    starts = np.searchsorted(rows.objects.image, np.arange(count + 1))
    found_starts = np.searchsorted(rows.detections.image, np.arange(count + 1))
    images = []
    for i, target in enumerate(targets):
        objects = rows.objects[np.arange(starts[i], starts[i + 1])]
        detections = rows.detections[np.arange(found_starts[i], found_starts[i + 1])]
        own = rows.object_cuboids[starts[i] : starts[i + 1]]
        found = rows.detection_cuboids[found_starts[i] : found_starts[i + 1]]
        clear = ~objects.crowd
        boxes, regions, other = (torch.from_numpy(v) for v in (objects.box[clear], objects.box[~clear], detections.box))
        cuboids, other_cuboids = torch.from_numpy(own[clear]), torch.from_numpy(found)
        inside = torch.minimum(other[:, None, 2:], regions[:, 2:]) - torch.maximum(other[:, None, :2], regions[:, :2])
        area = (other[:, 2:] - other[:, :2]).prod(1).clamp(min=1e-9)
        care = inside.clamp(min=0).prod(-1) / area[:, None]
        alphas, found_alphas = observation_angle(own[clear]), observation_angle(found)
        zero = torch.zeros(len(target), dtype=torch.float64)
        occluded, truncated = (
            target.fields.get(name, zero).double().numpy()[clear] for name in ("occluded", "truncated")
        )
        images.append(
            Image(
                objects.label[clear],
                boxes[:, 3].numpy() - boxes[:, 1].numpy(),
                occluded.astype(np.int64),
                truncated,
                alphas,
                detections.label,
                other[:, 3].numpy() - other[:, 1].numpy(),
                detections.score,
                found_alphas,
                {
                    "AP3D": cuboid_iou(cuboids, other_cuboids).numpy(),
                    "APBEV": bev_iou(cuboids, other_cuboids).numpy(),
                    "AOS": box_iou(boxes, other).numpy(),
                },
                care.amax(1).numpy() if len(regions) else np.zeros(len(other)),
            )
        )
    return images


def average_precision(
    images: Sequence[Image], label: int, neighbour: int, difficulty: Difficulty, overlap: float, kind: str
) -> float | None:
    """One metric of one class; None without objects of this difficulty.

    Args:
        images: the objects and detections.
        label, neighbour: ids of the class and of its neighbour; −1 for none.
        difficulty: objects beyond it are ignored.
        overlap: overlaps must be larger.
        kind: "AP3D", "APBEV" or "AOS".
    """
    taken = [_Taken.of(image, label, neighbour, difficulty, overlap, kind) for image in images]
    total = sum(int((own.ignored == 0).sum()) for own in taken)
    if not total:
        return None
    right = np.sort(np.concatenate([own.true_scores() for own in taken]))[::-1]
    thresholds = _thresholds(right, total)
    counts = np.zeros((3, len(thresholds)))  # true and false positives, and the similarity of the true ones
    for own in taken:
        counts += own.counts(thresholds)
    true, false, similar = counts
    value = (similar if kind == "AOS" else true) / np.maximum(true + false, 1)
    at = np.zeros(RECALLS + 1)
    at[: len(value)] = np.maximum.accumulate(value[::-1])[::-1]
    return float(at[1:].mean())


def _thresholds(scores: Floats, total: int) -> Floats:
    """The scores at which recall comes closest to each multiple of 1/40; `scores` of true positives, descending."""
    found = []
    recall = 0.0
    for i, score in enumerate(scores.tolist()):
        left, right = (i + 1) / total, (i + 2 if i + 1 < len(scores) else i + 1) / total
        if right - recall < recall - left and i + 1 < len(scores):
            continue
        found.append(score)
        recall += 1 / RECALLS
    return np.array(found)


@dataclass(frozen=True)
class _Taken:
    """An image as one class, difficulty and metric see it.

    Attributes:
        ignored: [N] 0 for an object that counts, 1 for one that does not, of those that are not of another class.
        found_ignored: [D] the same for detections.
        overlaps: [N, D] bool: whether they overlap enough; values in `overlap`.
    """

    ignored: Ints
    found_ignored: Ints
    overlap: Floats
    enough: Bools
    scores: Floats
    similarity: Floats
    dont_care: Bools

    @classmethod
    def of(cls, image: Image, label: int, neighbour: int, level: Difficulty, least: float, kind: str) -> _Taken:
        same, near = image.labels == label, image.labels == neighbour
        beyond = (image.occluded > level.occluded) | (image.truncated > level.truncated)
        beyond |= image.heights <= level.height
        rows = np.flatnonzero(same | near)
        columns = np.flatnonzero((image.found_labels == label) | (image.found_heights < level.height))
        low = image.found_heights[columns] < level.height
        overlap = image.overlaps[kind][np.ix_(rows, columns)]
        turn = image.alphas[rows, None] - image.found_alphas[columns]
        return cls(
            (near | beyond)[rows].astype(np.int64),
            low.astype(np.int64),
            overlap,
            overlap > least,
            image.scores[columns],
            (1 + np.cos(turn)) / 2,
            # a DontCare region is a box in the image alone: it has no place in space, and so no overlap of cuboids
            (image.dont_care[columns] > least) & (kind == "AOS"),
        )

    def true_scores(self) -> Floats:
        """Scores of the detections that find objects which count, when each object takes that of the highest score."""
        free = np.ones(len(self.scores), dtype=bool)
        found = []
        for ignored, enough in zip(self.ignored, self.enough, strict=True):
            open_to = np.flatnonzero(enough & free)
            if not len(open_to):
                continue
            best = open_to[self.scores[open_to].argmax()]
            free[best] = False
            if not ignored and not self.found_ignored[best]:
                found.append(self.scores[best])
        return np.array(found)

    def counts(self, thresholds: Floats) -> Floats:
        """[3, T] true positives, false positives and similarity at each threshold; objects take the largest overlap."""
        free = self.scores >= thresholds[:, None]
        true, similar = np.zeros(len(thresholds)), np.zeros(len(thresholds))
        every = np.arange(len(thresholds))
        for row, ignored in enumerate(self.ignored.tolist()):
            open_to = free & self.enough[row]
            counted_ones = open_to & (self.found_ignored == 0)
            # those that count go before ignored ones, of which the first is taken
            worth = np.where(counted_ones, 1 + self.overlap[row], open_to * 0.5)
            if not worth.shape[1]:
                continue
            best = worth.argmax(1)
            has = worth[every, best] > 0
            free[every[has], best[has]] = False
            right = has & counted_ones[every, best] & (not ignored)
            true += right
            similar += np.where(right, self.similarity[row, best], 0)
        wrong = free & (self.found_ignored == 0) & ~self.dont_care
        return np.stack([true, wrong.sum(1), similar])

"""Detectors that find every object of known images, and can be broken on purpose.

They know the labels of their images, so that nothing needs to be trained: each anchor, point or proposal regresses to
the object that it fits, with the class of this object, as a trained detector does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

import sightline as sl
from sightline.models.detection.candidates import Candidates, Selection, select
from sightline.models.detection.detector import Detections, Detector
from sightline.models.preprocess import Preprocess
from sightline.ops.anchors import base_anchors
from sightline.ops.boxes import box_iou
from sightline.structures import ImageBatch, Instances

SIZE = 96


@dataclass(frozen=True)
class Break:
    """How a detector is broken; by default it is not.

    Attributes:
        strides: strides of its maps; the anchors of a map are 2 to 3 strides large.
        nms_iou: of the last suppression.
        silent: a class whose logits are −∞.
        confused: whether every second object of an image is taken for the next class.
        faint: whether the score of every second object of an image is 0.27.
        max_detections: of the selection.
        proposals: maximum number of proposals.
    """

    strides: Sequence[int] = (4, 8, 16, 32)
    nms_iou: float = 0.6
    silent: int | None = None
    confused: bool = False
    faint: bool = False
    max_detections: int = 100
    proposals: int = 300


class Planted(Detector):
    """A detector of one kind for the images of a data set."""

    background_output = False

    def __init__(self, data: sl.Dataset, origin: Literal["anchor", "cell", "region"], broken: Break | None = None):
        super().__init__(data.classes, Preprocess((0.0,) * 3, (1.0,) * 3, min_size=SIZE, max_size=SIZE))
        self.origin, self.broken = origin, broken or Break()
        self.known = {}
        for i in range(len(data)):
            image, target = data[i]
            assert isinstance(target, Instances)
            self.known[self.preprocess([image])[0].tensor.numpy().tobytes()] = target

    def origins(self) -> tuple[Tensor, Tensor]:
        """[M, 4] anchors or cells, and their levels [M]."""
        found, levels = [], []
        for level, stride in enumerate(self.broken.strides):
            at = torch.arange(stride / 2, SIZE, stride)
            y, x = torch.meshgrid(at, at, indexing="ij")
            centres = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
            if self.origin == "cell":
                shapes = torch.tensor([[-0.5, -0.5, 0.5, 0.5]]) * stride
            else:
                shapes = base_anchors([2.0 * stride, 2.8 * stride], (0.5, 1.0, 2.0))
            found.append((centres + shapes).reshape(-1, 4))
            levels.append(torch.full((len(found[-1]),), level))
        return torch.cat(found), torch.cat(levels)

    def fitted(self, origins: Tensor, target: Instances) -> tuple[Tensor, Tensor]:
        """The object of each origin, −1 for none, and how well it fits, in [0, 1]."""
        boxes = target.boxes
        if self.origin == "cell":
            centre = (origins[:, None, :2] + origins[:, None, 2:]) / 2
            inside = torch.minimum(centre - boxes[:, :2], boxes[:, 2:] - centre) / (boxes[:, 2:] - boxes[:, :2])
            fit = inside.amin(2) * 2
            area = (boxes[:, 2:] - boxes[:, :2]).prod(1).expand_as(fit).masked_fill(fit <= 0, torch.inf)
            best = area.argmin(1)
            return torch.where(area.amin(1) < torch.inf, best, -1), fit.gather(1, best[:, None])[:, 0]
        overlap, best = box_iou(origins, boxes).max(1)
        return torch.where(overlap >= 0.5, best, -1), overlap

    def scored(self, origins: Tensor, levels: Tensor, target: Instances, per_class: bool) -> Candidates:
        objects, fit = self.fitted(origins, target)
        hit = objects >= 0
        noise = torch.rand(len(origins), 4, generator=torch.Generator().manual_seed(len(origins)))
        boxes, labels = origins.clone(), target.labels[objects.clamp(min=0)]
        goal = target.boxes[objects[hit]]
        side = (goal[:, 2:] - goal[:, :2]).repeat(1, 2)
        boxes[hit] = goal + (noise[hit] - 0.5) * 0.1 * side
        if self.broken.confused:
            labels = torch.where(objects % 2 == 1, (labels + 1) % len(self.classes), labels)
        logits = torch.full((len(origins), len(self.classes)), -5.0)
        logits[hit, labels[hit]] = 1.0 + 3 * fit[hit] + noise[hit, 0]
        if self.broken.faint:
            logits = torch.where((objects % 2 == 1)[:, None], logits.clamp(max=-1), logits)
        if self.broken.silent is not None:
            logits[:, self.broken.silent] = -torch.inf
        own = boxes[:, None].repeat(1, len(self.classes), 1) if per_class else boxes[:, None]
        return Candidates(own, logits, logits.sigmoid(), origins, levels)

    def targets(self, batch: ImageBatch) -> list[Instances]:
        return [self.known[image[None].contiguous().numpy().tobytes()] for image in batch.tensor]

    def candidates(self, batch: ImageBatch, regions: Sequence[Tensor] | None = None) -> list[Candidates]:
        origins, levels = self.origins()
        if self.origin != "region":
            return [self.scored(origins, levels, target, False) for target in self.targets(batch)]
        found = []
        for own, target in zip(self.proposal_candidates(batch), self.targets(batch), strict=True):
            rows, classes = select(own, self.proposal_selection())
            proposals = own.boxes_of(rows, classes)
            found.append(self.scored(proposals, torch.zeros_like(rows), target, True))
        return found

    def selection(self) -> Selection:
        b = self.broken
        return Selection(0.05, 1000, nms_iou=b.nms_iou, max_detections=b.max_detections)

    def proposal_candidates(self, batch: ImageBatch) -> list[Candidates]:
        origins, levels = self.origins()
        found = []
        for target in self.targets(batch):
            own = self.scored(origins, levels, target, False)
            best = torch.where(own.logits.isfinite(), own.logits, -5.0).amax(1, keepdim=True)
            found.append(Candidates(own.boxes, best, best.sigmoid(), origins, levels))
        return found

    def proposal_selection(self) -> Selection:
        return Selection(0.0, 1000, nms_iou=0.7, max_detections=self.broken.proposals, per_class=False, per_level=True)

    def process(self, batch: ImageBatch, targets: Any) -> tuple[Detections, dict[str, Tensor]]:
        found = []
        for own in self.candidates(batch):
            rows, classes = select(own, self.selection())
            scores = own.scores[rows, classes]
            found.append({"boxes": own.boxes_of(rows, classes), "labels": classes + 1, "scores": scores})
        return found, {}

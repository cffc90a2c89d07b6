"""Sightline's own detector with masks: dynamic convolutions on the same maps and points (Tian et al., "CondInst", 2020;
Lyu et al., "RTMDet", 2022, section 3.4). `nn/heads/dynamic_mask.py` lists the departures.

The loss is binary cross-entropy on the points of a grid over the box, as in YOLACT (Bolya et al. 2019, section 3.1),
and the dice loss of each object (CondInst, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.detector import Detections
from sightline.models.detection.plan import LATE_MOSAICS, plan
from sightline.models.detection.points import Points
from sightline.models.detection.sightline_detector import ENTRIES as DETECTORS
from sightline.models.detection.sightline_detector import Assignment, SightlineDetector, sightline_detector
from sightline.models.entry import Entry, extends
from sightline.models.model import Losses
from sightline.nn.heads.dynamic_mask import DynamicMaskHead, MaskFeatures
from sightline.nn.heads.mask import zero_loss
from sightline.ops.boxes import elementwise_iou
from sightline.ops.mask_grids import deferred_grids, grown_boxes, sample_masks
from sightline.runtime.sharing import batch_count
from sightline.structures import ImageBatch, Instances


@dataclass(frozen=True)
class MaskSettings:
    """Settings of the masks.

    Attributes:
        grid: number of rows and columns of the grid of points over each box.
        margin: fraction of the box's width and height by which the grid extends beyond each side, since predicted
            boxes are inexact.
        samples: maximum number of points per image whose mask is learned from, chosen at random (CondInst: 64).
        cross_entropy_weight, dice_weight: weights of the two losses.
    """

    grid: int = 28
    margin: float = 0.1
    samples: int = 64
    cross_entropy_weight: float = 1.0
    dice_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.grid < 2 or self.samples < 1:
            raise InputError(f"grid is {self.grid} and samples {self.samples}, but they must be at least 2 and 1")
        if not 0 <= self.margin <= 1:
            raise InputError(f"margin is {self.margin}, but must be a fraction of the box, 0 to 1")


MASKS = MaskSettings()


class SightlineMask(SightlineDetector):
    """`SightlineDetector` that also predicts masks: results have "masks" [N, H, W] bool in pixels of the image.

    Targets need the field "masks".

    Args:
        base: the detector whose parts are used.
        mask_head: the masks of selected points.
        mask_settings: settings of the masks.
    """

    target_fields = ("masks",)

    def __init__(self, base: SightlineDetector, mask_head: DynamicMaskHead, mask_settings: MaskSettings | None = None):
        super().__init__(**base.parts)
        self.backbone_keys = base.backbone_keys
        self.recipe_defaults, self.finetune_defaults = base.recipe_defaults, base.finetune_defaults
        self.mask_head = mask_head
        self.mask_settings = mask_settings or MASKS

    def extra_fields(self, found: Detections, maps: Sequence[Tensor], points: Points, batch: ImageBatch) -> Detections:
        """The detections with "masks" [D, M, M]: logits on a grid over the grown box."""
        counts = [len(own["points"]) for own in found]
        at = torch.cat([own["points"] for own in found])
        image = torch.arange(len(found), device=at.device).repeat_interleave(torch.tensor(counts, device=at.device))
        boxes = torch.cat([own["boxes"] for own in found])
        logits = self.mask_logits(maps, image, at, boxes, coarse=True).split(counts)
        plain = super().extra_fields(found, maps, points, batch)
        return [own | {"masks": part} for own, part in zip(plain, logits, strict=True)]

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Like every detector, with masks resized from their grids to the pixels of the image when they are read."""
        margin = self.mask_settings.margin
        results = super().finish(found, batch)
        return [
            r.replace(masks=deferred_grids(r.masks, grown_boxes(r.boxes.float(), margin), r.image_size))
            for r in results
        ]

    def mask_logits(
        self, maps: Sequence[Tensor], images: Tensor, points: Tensor, boxes: Tensor, coarse: bool = False
    ) -> Tensor:
        """Logits [P, M, M] of selected points, on grids over the grown `boxes` [P, 4] in pixels of the batch.

        With `coarse`, small boxes are computed on coarser grids, see `DynamicMaskHead`.
        """
        s = self.mask_settings
        return self.mask_head(maps, images, points, grown_boxes(boxes, s.margin), s.grid, coarse)

    def mask_logits_of(self, batch: ImageBatch, boxes: Tensor, rows: Tensor, classes: Tensor) -> Tensor:
        """Like `Detector.mask_logits_of`, on a grid over each grown box."""
        return self.mask_logits(self.maps(batch.tensor), torch.arange(len(rows), device=rows.device), rows, boxes)

    def part_level(self, batch: ImageBatch, box: Tensor, level: int) -> int:
        """The finest: all masks share features of it."""
        return 0

    def extra_losses(
        self,
        maps: Sequence[Tensor],
        boxes: Tensor,
        points: Points,
        assignment: Assignment,
        targets: Sequence[Instances],
    ) -> Losses:
        """The losses of the masks of assigned points, weighted by the points' quality.

        A mask is learned on the grid over its predicted box, as it will be predicted; or over the target's box while
        the prediction overlaps it by less than half.
        """
        s = self.mask_settings
        chosen = [self.chosen(matches) for matches in assignment.matches]
        image = torch.cat([torch.full_like(at, number) for number, at in enumerate(chosen)])
        at = torch.cat(chosen)
        weight = assignment.quality[image, at]
        total = batch_count(weight.sum(), 1e-6)
        if not len(at):
            zero = zero_loss(self.mask_head)
            return {"loss_mask": zero, "loss_dice": zero}
        regions, goals = [], []
        for number, (own, target) in enumerate(zip(chosen, targets, strict=True)):
            if not len(own):
                continue
            objects, predicted = assignment.matches[number, own], boxes[number, own].detach()
            true = target.boxes[objects].to(predicted.dtype)
            region = torch.where((elementwise_iou(predicted, true) > 0.5)[:, None], predicted, true)
            regions.append(region)
            goals.append(sample_masks(target.masks, objects, grown_boxes(region, s.margin), s.grid))
        logits = self.mask_logits(maps, image, at, torch.cat(regions))
        cross_entropy, dice = mask_terms(logits, torch.cat(goals))
        return {
            "loss_mask": s.cross_entropy_weight * (cross_entropy * weight).sum() / total,
            "loss_dice": s.dice_weight * (dice * weight).sum() / total,
        }

    def chosen(self, matches: Tensor) -> Tensor:
        """The points of one image whose masks are learned from: assigned ones, at most `samples`, at random."""
        at = (matches >= 0).nonzero().flatten()
        limit = self.mask_settings.samples
        return at if len(at) <= limit else at[torch.randperm(len(at), device=at.device)[:limit]]


def mask_terms(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice loss of each object [P], for logits and targets in [0, 1], both [P, M, M].

    The dice loss is 1 − 2 Σ p t / (Σ p² + Σ t²), as in CondInst (Milletari et al., "V-Net", 2016, section 3).
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((1, 2))
    p, t = logits.sigmoid().flatten(1), targets.flatten(1)
    dice = 1 - 2 * (p * t).sum(1) / (p.square().sum(1) + t.square().sum(1)).clamp(min=1e-5)
    return cross_entropy, dice


@extends(sightline_detector)
def sightline_mask(
    classes: Iterable[str],
    *,
    mask_channels: int = 8,
    mask_hidden: int = 32,
    masks: MaskSettings = MASKS,
    **arguments: Any,
) -> SightlineMask:
    """Sightline's own detector with masks. Other arguments as for `sightline_detector`.

    Args:
        classes: names of the classes.
        mask_channels: number of channels of the map that all masks share, and of the predicted convolutions.
        mask_hidden: number of channels of the convolutions that compute this map.
        masks: settings of the masks.
        arguments: additional arguments of `sightline_detector`.
    """
    base = sightline_detector(classes, **arguments)
    width, levels = base.neck.out_channels, len(base.strides)
    assert isinstance(width, int)
    features = MaskFeatures(width, mask_hidden, mask_channels)
    residual = bool(arguments.get("residual"))
    head = DynamicMaskHead(width, levels, mask_channels, features, base.strides[0] // 2, residual=residual)
    return SightlineMask(base, head, masks)


ENTRIES = tuple(
    Entry(
        name=f"{entry.name}_mask",
        builder=sightline_mask,
        task=entry.task,
        paper="Tian et al. 2020, CondInst; Lyu et al. 2022, RTMDet",
        summary=f"{entry.name} with masks by dynamic convolutions.",
        start=entry.start,
        fixed=entry.fixed,
        defaults=entry.defaults,
        recipe=entry.recipe,
        plan=partial(plan, bf16=False, mosaic_epochs=LATE_MOSAICS),
    )
    for entry in DETECTORS
)

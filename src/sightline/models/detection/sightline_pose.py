"""Sightline's own detector with keypoints, regressed by each point like its box: Maji et al., "YOLO-Pose", 2022.

The loss of an object's keypoints is 1 − OKS, the measure itself (section 3.3), with cross-entropy for whether each is
visible at all (section 3.4).

Departures from the paper, for short training runs: keypoints are predicted relative to the predicted box and in units
of it, not relative to the cell; the distance is added to the loss, because OKS has no gradient for keypoints that are
still far from their place; and each keypoint is then corrected by the finest map where it was guessed
(`PointRefinement`), because one cell knows little of what lies several cells away. Guesses and corrected keypoints have
the same losses.
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
from sightline.nn.heads.mask import zero_loss
from sightline.nn.heads.point_branch import PointBranch
from sightline.nn.heads.point_refinement import PointRefinement
from sightline.ops.keypoints import keypoint_sigmas, keypoint_similarity
from sightline.runtime.sharing import batch_count
from sightline.structures import ImageBatch, Instances


@dataclass(frozen=True)
class PoseSettings:
    """Settings of the keypoints.

    Attributes:
        similarity_weight: weight of 1 − OKS.
        offset_weight: weight of the distance between keypoint and target, in √area of the target's box.
        visibility_weight: weight of the cross-entropy of visibilities.
        min_visibility: keypoints with a lower score are marked as absent, except for the best of each object.
    """

    similarity_weight: float = 2.0
    offset_weight: float = 2.0
    visibility_weight: float = 0.5
    min_visibility: float = 0.5


POSE = PoseSettings()


class SightlinePose(SightlineDetector):
    """`SightlineDetector` that also predicts keypoints.

    Results have "keypoints" [N, P, 3] in pixels of the image, and "keypoint_scores" [N, P], the probability that the
    object has the keypoint. Targets need the field "keypoints".

    Args:
        base: the detector whose parts are used.
        keypoint_branch: x, y and visibility of P keypoints for selected points; their positions are then corrected.
        pose_settings: settings of the keypoints.
    """

    target_fields = ("keypoints",)
    sigmas: Tensor

    def __init__(
        self, base: SightlineDetector, keypoint_branch: PointBranch, pose_settings: PoseSettings | None = None
    ):
        super().__init__(**base.parts)
        self.backbone_keys = base.backbone_keys
        self.recipe_defaults, self.finetune_defaults = base.recipe_defaults, base.finetune_defaults
        self.keypoint_branch = keypoint_branch
        self.pose_settings = pose_settings or POSE
        self.num_keypoints = keypoint_branch.values.out_features // 3
        self.refinement = PointRefinement(keypoint_branch.values.in_features, self.num_keypoints, self.strides[0])
        self.register_buffer("sigmas", keypoint_sigmas(self.num_keypoints), persistent=False)

    def extra_fields(self, found: Detections, maps: Sequence[Tensor], points: Points, batch: ImageBatch) -> Detections:
        """The detections with "keypoints" [D, P, 3] in pixels of the batch, and "keypoint_scores" [D, P]."""
        counts = [len(own["points"]) for own in found]
        at = torch.cat([own["points"] for own in found])
        image = torch.arange(len(found), device=at.device).repeat_interleave(torch.tensor(counts, device=at.device))
        keypoints, scores = self.scored_keypoints(maps, image, at, torch.cat([own["boxes"] for own in found]))
        plain = super().extra_fields(found, maps, points, batch)
        return [
            own | {"keypoints": part, "keypoint_scores": score}
            for own, part, score in zip(plain, keypoints.split(counts), scores.split(counts), strict=True)
        ]

    def scored_keypoints(
        self, maps: Sequence[Tensor], images: Tensor, points: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The keypoints of selected points with visibilities: [D, P, 3] in pixels of the batch, and scores [D, P].

        Arguments as for `keypoints`.
        """
        place, logits = self.keypoints(maps, images, points, boxes)
        scores = logits.sigmoid()
        least = scores.amax(1, keepdim=True).clamp(max=self.pose_settings.min_visibility)
        visible = (scores >= least).to(place.dtype) * 2
        return torch.cat([place, visible[..., None]], -1), scores

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Like every detector, with keypoints in pixels of the image."""
        results = super().finish(found, batch)
        return [
            r.replace(keypoints=r.keypoints / r.keypoints.new_tensor([sx, sy, 1.0]))
            for r, (sx, sy) in zip(results, batch.scales, strict=True)
        ]

    def keypoints(self, maps: Sequence[Tensor], images: Tensor, points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The keypoints of selected points.

        Args:
            maps: the maps of the neck.
            images, points: [D] int64, image and number of each point.
            boxes: [D, 4] xyxy, the predicted boxes in pixels of the batch.

        Returns:
            [D, P, 2] x, y in pixels of the batch, and [D, P] logits of visibility.
        """
        _, place, logits = self.guessed(maps, images, points, boxes)
        return place, logits

    def guessed(
        self, maps: Sequence[Tensor], images: Tensor, points: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The positions that the points guess, x, y [D, P, 2] in pixels of the batch, then what `keypoints` returns."""
        known = self.keypoint_branch.features(maps, images, points)
        values = self.keypoint_branch.values(known).float().unflatten(1, (self.num_keypoints, 3))
        centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        guess = centre[:, None] + values[..., :2] * size[:, None]
        return guess, self.refinement(maps[0], images, known, guess), values[..., 2]

    def keypoint_logits_of(self, batch: ImageBatch, boxes: Tensor, rows: Tensor, classes: Tensor) -> Tensor:
        """Like `Detector.keypoint_logits_of`: whether each keypoint is visible, since the model has no heat maps."""
        images = torch.arange(len(rows), device=rows.device)
        return self.keypoints(self.maps(batch.tensor), images, rows, boxes)[1]

    def extra_losses(
        self,
        maps: Sequence[Tensor],
        boxes: Tensor,
        points: Points,
        assignment: Assignment,
        targets: Sequence[Instances],
    ) -> Losses:
        """The losses of the guessed and the corrected keypoints of assigned points, weighted by the points' quality."""
        image, at = (assignment.matches >= 0).nonzero(as_tuple=True)  # image by image
        if not len(at):
            batch_count(boxes.new_zeros(2), 1e-6)  # other processes may have some, and wait for this count
            zero = zero_loss(self.keypoint_branch, self.refinement)
            return {"loss_keypoint": zero, "loss_offset": zero, "loss_visibility": zero}
        goals, frames = [], []
        for matches, target in zip(assignment.matches, targets, strict=True):
            of = matches[matches >= 0]
            if not len(of):
                continue
            if target.keypoints.shape[1] != self.num_keypoints:
                raise InputError(
                    f"the objects have {target.keypoints.shape[1]} keypoints, but the model has {self.num_keypoints}; "
                    f"create it with num_keypoints={target.keypoints.shape[1]}"
                )
            goals.append(target.keypoints[of].float())
            frames.append(target.boxes[of].float())
        goal, frame = torch.cat(goals), torch.cat(frames)
        guess, place, logits = self.guessed(maps, image, at, boxes[image, at].detach())
        areas = (frame[:, 2:] - frame[:, :2]).prod(1)
        unlike, far = position_terms(guess, goal, areas, self.sigmas)
        similarity, offset, visibility = keypoint_terms(place, logits, goal, areas, self.sigmas)
        similarity, offset = similarity + unlike, offset + far
        s, weight = self.pose_settings, assignment.quality[image, at]
        labelled = weight * (goal[..., 2] > 0).any(1)
        of_labelled, of_all = batch_count(torch.stack([labelled.sum(), weight.sum()]), 1e-6)
        return {
            "loss_keypoint": s.similarity_weight * (similarity * labelled).sum() / of_labelled,
            "loss_offset": s.offset_weight * (offset * labelled).sum() / of_labelled,
            "loss_visibility": s.visibility_weight * (visibility * weight).sum() / of_all,
        }


def keypoint_terms(
    points: Tensor, logits: Tensor, targets: Tensor, areas: Tensor, sigmas: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The two terms of `position_terms` and the mean cross-entropy of visibilities of each object: three tensors [N].

    Args:
        points, targets, areas, sigmas: as for `position_terms`.
        logits: [N, P] of visibility.
    """
    there = (targets[..., 2] > 0).to(logits.dtype)
    visibility = F.binary_cross_entropy_with_logits(logits, there, reduction="none").mean(1)
    return (*position_terms(points, targets, areas, sigmas), visibility)


def position_terms(points: Tensor, targets: Tensor, areas: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """1 − OKS and the distance in √area of each object: two tensors [N].

    Both are means over labelled keypoints (visibility above 0), 0 for objects without any.

    Args:
        points: [N, P, 2] predicted x, y in pixels.
        targets: [N, P, 3] x, y in pixels and visibility.
        areas: [N] areas of the objects in pixels.
        sigmas: [P] tolerances, as for `keypoint_similarity`.
    """
    there = (targets[..., 2] > 0).to(points.dtype)
    count = there.sum(1).clamp(min=1)
    unlike = 1 - keypoint_similarity(points, targets[..., :2], areas, sigmas)
    # + 1e-6: the square root has no gradient at 0
    distance = ((points - targets[..., :2]).square().sum(-1) / areas.clamp(min=1)[:, None] + 1e-6).sqrt()
    return (unlike * there).sum(1) / count, (distance * there).sum(1) / count


@extends(sightline_detector)
def sightline_pose(
    classes: Iterable[str], *, num_keypoints: int = 17, pose: PoseSettings = POSE, **arguments: Any
) -> SightlinePose:
    """Sightline's own detector with keypoints. Other arguments as for `sightline_detector`.

    Args:
        classes: names of the classes.
        num_keypoints: P, keypoints per object; COCO's persons have 17. A training run takes the number of its data.
        pose: settings of the keypoints.
        arguments: additional arguments of `sightline_detector`.
    """
    if num_keypoints < 1:
        raise InputError(f"num_keypoints is {num_keypoints}, but objects need at least 1 keypoint")
    base = sightline_detector(classes, **arguments)
    width = base.neck.out_channels
    assert isinstance(width, int)
    residual = bool(arguments.get("residual"))
    return SightlinePose(base, PointBranch(width, 3 * num_keypoints, len(base.strides), residual=residual), pose)


ENTRIES = tuple(
    Entry(
        name=f"{entry.name}_pose",
        builder=sightline_pose,
        task=entry.task,
        paper="Maji et al. 2022, YOLO-Pose; Lyu et al. 2022, RTMDet",
        summary=f"{entry.name} with keypoints, regressed by each point.",
        start=entry.start,
        fixed=entry.fixed,
        defaults=entry.defaults,
        recipe=entry.recipe,
        plan=partial(plan, mosaic_epochs=LATE_MOSAICS),
    )
    for entry in DETECTORS
)

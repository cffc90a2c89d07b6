"""Masks and keypoints of detections, for exported models."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.deploy.exporting.dense_parts import DetectorPart, RegionPart
from sightline.deploy.exporting.operators import LEAST
from sightline.deploy.exporting.part import OBJECTS, as_batch, in_image, objects
from sightline.deploy.exporting.peak_operator import peaks
from sightline.deploy.exporting.region_operators import aligned_regions
from sightline.deploy.exporting.regions import as_rois, region_features
from sightline.deploy.exporting.selecting import Selected, selected
from sightline.models.detection.keypoint_rcnn import KeypointRCNN
from sightline.models.detection.mask_rcnn import MaskRCNN
from sightline.models.detection.sightline_mask import SightlineMask
from sightline.models.detection.sightline_pose import SightlinePose
from sightline.nn.heads.dynamic_mask import DynamicMaskHead
from sightline.nn.heads.mask import select_class
from sightline.ops.mask_grids import grid_coordinates, grown_boxes

_KEYPOINTS = {
    "keypoints": "[N, D, P, 3] float, x and y in pixels of the image, and visibility",
    "keypoint_scores": "[N, D, P] float, the score of each keypoint",
}


class MaskRegionPart(RegionPart):
    """Boxes and masks of Mask R-CNN."""

    kind = "masks in boxes"
    outputs = OBJECTS | {"masks": "[N, D, M, M] float, probabilities in the cells of a grid over each box"}

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        assert isinstance(model, MaskRCNN)
        maps, found = self.detected(batch, size)
        heads = model.roi_heads
        features = region_features(heads.mask_features, maps, as_rois(found.boxes), size)
        logits = heads.mask_predictor(heads.mask_head(features))
        masks = select_class(logits, found.labels.flatten()).float().sigmoid().unflatten(0, found.labels.shape)
        return (
            *objects(in_image(found.boxes, size, original), found.scores, self.classes_of(found)),
            _there(found, masks),
        )


class KeypointRegionPart(RegionPart):
    """Boxes and keypoints of Keypoint R-CNN."""

    outputs = OBJECTS | _KEYPOINTS

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        assert isinstance(model, KeypointRCNN)
        maps, found = self.detected(batch, size)
        heads, boxes = model.roi_heads, found.boxes.flatten(0, 1)
        features = region_features(heads.keypoint_features, maps, as_rois(found.boxes), size)
        points, scores = peaks(heads.keypoint_predictor(heads.keypoint_head(features)).float(), boxes)
        return (
            *objects(in_image(found.boxes, size, original), found.scores, self.classes_of(found)),
            *_keypoints(found, points, scores, size, original),
        )


class DetectorMaskPart(DetectorPart):
    """Boxes and masks of Sightline's own detector."""

    kind = "masks on grids"
    outputs = OBJECTS | {
        "masks": "[N, D, M, M] float, logits at the points of a grid over each mask box",
        "mask_boxes": "[N, D, 4] float, x1, y1, x2, y2 in pixels of the image, the boxes with a margin",
    }

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        assert isinstance(model, SightlineMask)
        maps = model.maps(batch)
        found = selected(model.candidates_of(maps, as_batch(batch)), model.selection(), size)
        images, places = points_of(found)
        masks = mask_grids(model, maps, images, places, found.boxes.flatten(0, 1)).unflatten(0, found.labels.shape)
        boxes = in_image(found.boxes, size, original)
        grown = grown_boxes(boxes.flatten(0, 1), model.mask_settings.margin).unflatten(0, found.labels.shape)
        return *objects(boxes, found.scores, found.labels), _there(found, masks), _there(found, grown)


class DetectorPosePart(DetectorPart):
    """Boxes and keypoints of Sightline's own detector."""

    outputs = OBJECTS | _KEYPOINTS

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        assert isinstance(model, SightlinePose)
        maps = model.maps(batch)
        found = selected(model.candidates_of(maps, as_batch(batch)), model.selection(), size)
        points, scores = model.scored_keypoints(maps, *points_of(found), found.boxes.flatten(0, 1))
        return (
            *objects(in_image(found.boxes, size, original), found.scores, found.labels),
            *_keypoints(found, points, scores, size, original),
        )


def points_of(found: Selected) -> tuple[Tensor, Tensor]:
    """Image and point of each detection, [N·D] int64 each; point 0 where there is no detection."""
    images = torch.arange(found.places.shape[0], device=found.places.device)[:, None].expand_as(found.places)
    return images.flatten(), torch.where(found.scores > LEAST, found.places, 0).flatten()


def mask_grids(model: SightlineMask, maps: list[Tensor], images: Tensor, places: Tensor, boxes: Tensor) -> Tensor:
    """Logits [P, M, M] of selected points, as `SightlineMask.mask_logits` with `coarse`.

    Both grids are computed for all points, since shapes are fixed.
    """
    head, s = model.mask_head, model.mask_settings
    regions = grown_boxes(boxes, s.margin)
    shared, weights = head.features(maps[0]).float(), head.branch(maps, images, places).float()
    rois = torch.cat([images[:, None].to(regions.dtype), regions * (1 / head.stride)], 1)
    fine = on_grids(head, shared, weights, rois, s.grid)
    if s.grid < 4:
        return fine
    half = s.grid // 2
    few = (regions[:, 2:] - regions[:, :2]).amax(1) <= half * head.stride
    coarse = on_grids(head, shared, weights, rois, half)[:, None]
    return torch.where(few[:, None, None], F.interpolate(coarse, (s.grid, s.grid), mode="bilinear")[:, 0], fine)


def on_grids(head: DynamicMaskHead, shared: Tensor, weights: Tensor, rois: Tensor, size: int) -> Tensor:
    """As `DynamicMaskHead.on_grids`, for regions [P, 5] in cells of the shared map: [P, size, size]."""
    inside = aligned_regions([shared], rois, torch.zeros_like(rois[:, 0], dtype=torch.int64), size, 1, True).flatten(2)
    place = grid_coordinates(size, rois.device).flatten(1).expand(rois.shape[0], -1, -1)
    return head.convolved(torch.cat([inside, place], 1), weights).reshape(-1, size, size)


def _keypoints(
    found: Selected, points: Tensor, scores: Tensor, size: Tensor, original: Tensor
) -> tuple[Tensor, Tensor]:
    """Keypoints [N·D, P, 3] in pixels of the batch and scores [N·D, P] → outputs `keypoints`, `keypoint_scores`."""
    factor = (original.float() / size.float()).flip(0)
    points = torch.cat([points[..., :2] * factor, points[..., 2:]], -1).unflatten(0, found.labels.shape)
    return _there(found, points), _there(found, scores.unflatten(0, found.labels.shape))


def _there(found: Selected, values: Tensor) -> Tensor:
    """Values [N, D, …], 0 where there is no detection."""
    there = found.scores > LEAST
    return torch.where(there.reshape(*there.shape, *(1 for _ in values.shape[2:])), values, 0)

"""Cuboids of detections, for exported models."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.deploy.exporting.dense_parts import RegionPart
from sightline.deploy.exporting.operators import LEAST
from sightline.deploy.exporting.part import OBJECTS, in_image, objects
from sightline.deploy.exporting.regions import as_rois, region_features
from sightline.deploy.exporting.selecting import Selected, at_places, falling
from sightline.models.spatial.cube_rcnn import CubeRCNN
from sightline.nn.heads.cuboid import RegionCameras
from sightline.nn.heads.mask import select_class
from sightline.ops.cuboids import cuboids_from_parts


class CuboidRegionPart(RegionPart):
    """Boxes and cuboids of Cube R-CNN."""

    kind = "cuboids"
    takes_cameras = True
    outputs = OBJECTS | {
        "cuboids": "[N, D, 9] float, centre x, y, z and sides w, h, l in metres, roll, pitch and yaw in radians, "
        "in the frame of the camera"
    }

    def forward(self, batch: Tensor, size: Tensor, original: Tensor, *cameras: Tensor) -> tuple[Tensor, ...]:
        """`cameras` is one tensor [N, 3, 3], upper triangular with a positive diagonal, in pixels of the image."""
        model, (intrinsics,) = self.model, cameras
        assert isinstance(model, CubeRCNN)
        maps, found = self.detected(batch, size)
        heads, labels = model.roi_heads, found.labels
        factor = torch.cat([(size.float() / original.float()).flip(0), torch.ones_like(size[:1], dtype=torch.float32)])
        each = (factor[:, None] * intrinsics)[:, None].expand(-1, labels.shape[1], -1, -1).flatten(0, 1)
        boxes = found.boxes.flatten(0, 1)
        views = RegionCameras(boxes, each, torch.eye(3, device=each.device).expand_as(each), size[0].to(boxes.dtype))
        features = region_features(heads.cuboid_features, maps, as_rois(found.boxes), size).flatten(1)
        outputs = heads.cuboid_predictor(heads.cuboid_head(features, views.geometry.to(features.dtype)))
        decoded = heads.coder(select_class(outputs, labels.flatten()), labels.flatten(), views)
        cuboids = cuboids_from_parts(*decoded.parts(views)).unflatten(0, labels.shape)
        certain = (-decoded.uncertainty).exp().unflatten(0, labels.shape)
        scores, order = falling(torch.where(found.scores > LEAST, found.scores * certain, LEAST))
        there = scores[..., None] > LEAST
        own = Selected(at_places(found.boxes, order), scores, labels.gather(1, order), order)
        return (
            *objects(in_image(own.boxes, size, original), own.scores, self.classes_of(own)),
            torch.where(there, at_places(cuboids, order), 0),
        )

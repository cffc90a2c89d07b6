"""The cuboid branch of region-based detectors: Brazil et al., "Omni3D: a large benchmark and model for 3D object
detection in the wild" (Cube R-CNN), CVPR 2023, section 4.

The four steps are apart: `CuboidHead` and `CuboidPredictor` (network), `CuboidRegionHeads.cuboid_targets` (assignment),
`cuboid_losses` (loss) and `CuboidCoder` (decoding).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.heads.box import RegionFeatures, RegionHeads, Samples
from sightline.nn.heads.mask import foreground, select_class, zero_loss
from sightline.ops.boxes import at_least_float32
from sightline.ops.cuboids import (
    corners_of,
    cuboid_parts,
    cuboids_from_parts,
    known_cuboids,
    moved_cuboids,
    project,
    straightened,
)
from sightline.ops.regions import roi_align
from sightline.ops.rotations import rotation_from_6d, view_rotation
from sightline.structures import ImageBatch, Instances

OUTPUTS = 13
"""Outputs per class: offset of the projected centre (2), depth (1), w, h, l (3), rotation (6), uncertainty (1)."""
GEOMETRY = 6
"""Numbers that describe where a region is in the view of the camera; see `RegionCameras.geometry`."""
_LIMIT = math.log(20)
"""Maximum of the logarithm of a side's ratio to the mean side of its class."""


@dataclass(frozen=True)
class RegionCameras:
    """Regions with the cameras of their images.

    The frame of a camera is straightened (`sightline.ops.cuboids.straightened`): an image that was mirrored or rotated
    shows a mirrored or rotated scene to an ordinary camera, and that is what can be learned from its pixels.

    Attributes:
        boxes: [R, 4] xyxy in pixels of the batch.
        intrinsics: [R, 3, 3] float, straightened camera matrices in pixels of the batch.
        frames: [R, 3, 3] float, from the camera frame of the labels to the straightened one.
        heights: [R] height of the region's image in pixels of the batch.
    """

    boxes: Tensor
    intrinsics: Tensor
    frames: Tensor
    heights: Tensor

    @classmethod
    def of(cls, regions: Sequence[Tensor], batch: ImageBatch) -> RegionCameras:
        """The regions [R_i, 4] of each image of a batch; every image must have a camera."""
        matrices = torch.stack([camera.intrinsics for camera in batch.require_cameras()])
        intrinsics, frames = straightened(matrices)
        boxes = torch.cat(list(regions))
        image = torch.repeat_interleave(torch.arange(len(regions)), torch.tensor([len(own) for own in regions]))
        heights = torch.tensor([height for height, _ in batch.sizes])
        boxes = at_least_float32(boxes)
        return cls(boxes, *(own[image].to(boxes) for own in (intrinsics, frames, heights)))

    @property
    def virtual(self) -> Tensor:
        """[R] factor from metres of depth to virtual depth (section 4.2).

        The virtual depth is the depth at which a camera whose focal length is the height of its image would see the
        object as large: z · H / f. (The paper's camera has f = H = 512, for which this is equation 3.)
        """
        return self.heights / self.intrinsics[:, 1, 1]

    @property
    def geometry(self) -> Tensor:
        """[R, 6] the place and size of each region in the view, about in [−2, 2].

        Position of the centre, the upper and the lower side relative to the principal point, logarithms of width and
        height, all in heights of the image; and the logarithm of the focal length in these heights.
        """
        x1, y1, x2, y2 = self.boxes.unbind(1)
        h, cx, cy = self.heights, self.intrinsics[:, 0, 2], self.intrinsics[:, 1, 2]
        wide, high = ((x2 - x1).clamp(min=1) / h).log(), ((y2 - y1).clamp(min=1) / h).log()
        place = [((x1 + x2) / 2 - cx) / h, (y1 - cy) / h, (y2 - cy) / h]
        return torch.stack([*(2 * own for own in place), wide + 1.5, high + 1.5, -self.virtual.log()], 1)

    def points(self, pixels: Tensor, depths: Tensor) -> Tensor:
        """The points [R, 3] in the straightened frame with these pixels [R, 2] and depths [R] in metres."""
        (fx, skew, cx), (_, fy, cy), _ = (row.unbind(-1) for row in self.intrinsics.unbind(-2))
        y = (pixels[:, 1] - cy) / fy
        x = (pixels[:, 0] - cx - skew * y) / fx
        return torch.stack([x, y, torch.ones_like(y)], -1) * depths[:, None]

    def __getitem__(self, rows: Tensor) -> RegionCameras:
        return RegionCameras(self.boxes[rows], self.intrinsics[rows], self.frames[rows], self.heights[rows])


@dataclass(frozen=True)
class Decoded:
    """What the outputs of the predictor mean, in the straightened frames.

    Attributes:
        pixels: [R, 2] the projected centres in pixels of the batch.
        depths: [R] z of the centres in metres.
        sides: [R, 3] w, h, l in metres.
        allocentric: [R, 3, 3] rotations relative to the direction of the centre (`view_rotation`).
        uncertainty: [R] μ ≥ 0.
    """

    pixels: Tensor
    depths: Tensor
    sides: Tensor
    allocentric: Tensor
    uncertainty: Tensor

    def parts(self, cameras: RegionCameras) -> tuple[Tensor, Tensor, Tensor]:
        """Centres [R, 3], sides [R, 3] and rotations [R, 3, 3] of the cuboids."""
        centres = cameras.points(self.pixels, self.depths)
        return centres, self.sides, view_rotation(centres) @ self.allocentric

    def __getitem__(self, rows: Tensor) -> Decoded:
        return Decoded(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


class CuboidCoder(nn.Module):
    """Decodes the outputs of the predictor (section 4.1).

    Args:
        class_sides: [K + 1, 3] mean w, h, l of each output's class in metres.
        virtual_depth: mean and standard deviation of the logarithm of the objects' virtual depth.
    """

    class_sides: Tensor

    def __init__(self, class_sides: Tensor, virtual_depth: tuple[float, float]):
        super().__init__()
        self.virtual_depth = virtual_depth
        self.register_buffer("class_sides", class_sides, persistent=False)

    def forward(self, outputs: Tensor, labels: Tensor, cameras: RegionCameras) -> Decoded:
        """Outputs [R, 13] of the classes `labels` [R] → what they mean."""
        offsets, depth, sides, rotation, uncertainty = outputs.to(cameras.boxes.dtype).split((2, 1, 3, 6, 1), 1)
        centres = (cameras.boxes[:, :2] + cameras.boxes[:, 2:]) / 2
        mean, deviation = self.virtual_depth
        virtual = (mean + deviation * depth[:, 0].clamp(-8, 8)).exp()
        return Decoded(
            centres + offsets * (cameras.boxes[:, 2:] - cameras.boxes[:, :2]),
            virtual / cameras.virtual,
            self.class_sides[labels].to(sides) * sides.clamp(-_LIMIT, _LIMIT).exp(),
            rotation_from_6d(rotation),
            F.softplus(uncertainty[:, 0]),
        )


class CuboidHead(nn.Module):
    """Region features and their geometry in the view → [R, hidden].

    Args:
        inputs: number of values of the features of a region.
        hidden: width of both fully connected layers.
    """

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden + GEOMETRY, hidden)
        self.out_features = hidden + GEOMETRY

    def forward(self, x: Tensor, geometry: Tensor) -> Tensor:
        hidden = F.relu(self.fc1(x.flatten(1)))
        hidden = F.relu(self.fc2(torch.cat([hidden, geometry], 1)))
        return torch.cat([hidden, geometry], 1)


class CuboidPredictor(nn.Module):
    """The outputs of every class: [R, F] → [R, K + 1, 13]; the first belongs to the background and is unused."""

    outputs_per_class = {"cuboid_pred": OUTPUTS}

    def __init__(self, inputs: int, num_classes: int):
        super().__init__()
        self.cuboid_pred = nn.Linear(inputs, (num_classes + 1) * OUTPUTS)
        nn.init.normal_(self.cuboid_pred.weight, std=0.001)
        bias = torch.zeros(num_classes + 1, OUTPUTS)
        bias[:, 6] = bias[:, 10] = 1  # the first two columns of no rotation
        self.cuboid_pred.bias.data = bias.flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.cuboid_pred(x).unflatten(1, (-1, OUTPUTS))


class CuboidRegionHeads(RegionHeads):
    """Regions → classes, boxes and cuboids. Detections get a field "cuboids", losses five of cuboids.

    Args:
        boxes: the two branches of Faster R-CNN.
        cuboid_features: function that crops the features of regions for this branch.
        cuboid_head: features and geometry → [R, F].
        cuboid_predictor: [R, F] → [R, K + 1, 13].
        coder: decodes these outputs.
        depth_size: height and width of the grid of depths that is added to the features of a region; 0 for none.
    """

    def __init__(
        self,
        boxes: RegionHeads,
        cuboid_features: RegionFeatures,
        cuboid_head: CuboidHead,
        cuboid_predictor: CuboidPredictor,
        coder: CuboidCoder,
        depth_size: int = 0,
    ):
        super().__init__(boxes.region_features, boxes.box_head, boxes.box_predictor, boxes.settings)
        self.cuboid_features = cuboid_features
        self.cuboid_head = cuboid_head
        self.cuboid_predictor = cuboid_predictor
        self.coder = coder
        self.depth_size = depth_size

    def detect(
        self, maps: dict[str, Tensor], proposals: Sequence[Tensor], batch: ImageBatch
    ) -> list[dict[str, Tensor]]:
        """The detections with "cuboids" [N, 9] in the camera frame of the image, best first.

        Cuboids are predicted in the detected boxes. The score is that of the class times exp(−μ) (section 4.3).
        """
        found = super().detect(maps, proposals, batch)
        regions = [fields["boxes"] for fields in found]
        labels = torch.cat([fields["labels"] for fields in found])
        decoded, cameras = self.decoded(maps, regions, labels, batch)
        cuboids = moved_cuboids(cuboids_from_parts(*decoded.parts(cameras)), cameras.frames.mT)
        certain = (-decoded.uncertainty).exp()
        results = []
        counts = [len(own) for own in regions]
        for fields, cuboid, factor in zip(found, cuboids.split(counts), certain.split(counts), strict=True):
            scores, order = (fields["scores"] * factor).sort(descending=True, stable=True)
            results.append(
                {
                    "boxes": fields["boxes"][order],
                    "labels": fields["labels"][order],
                    "scores": scores,
                    "cuboids": cuboid[order],
                }
            )
        return results

    def region_losses(
        self, maps: dict[str, Tensor], samples: Samples, batch: ImageBatch, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """The losses of classes, boxes and cuboids."""
        losses = super().region_losses(maps, samples, batch, targets)
        regions, objects, labels = foreground(samples)
        cuboids = self.cuboid_targets(objects, targets)
        known = known_cuboids(cuboids)
        if not known.any():
            zero = zero_loss(self.cuboid_head, self.cuboid_predictor)
            return losses | dict.fromkeys(LOSSES, zero)
        decoded, cameras = self.decoded(maps, regions, labels, batch)
        return losses | cuboid_losses(decoded[known], cuboids[known].to(cameras.boxes.dtype), cameras[known])

    def decoded(
        self, maps: dict[str, Tensor], regions: Sequence[Tensor], labels: Tensor, batch: ImageBatch
    ) -> tuple[Decoded, RegionCameras]:
        """The decoded outputs for the regions [R_i, 4] of each image and their classes [ΣR]."""
        cameras = RegionCameras.of(regions, batch)
        outputs = select_class(self.predict_cuboids(maps, regions, batch, cameras), labels)
        return self.coder(outputs, labels, cameras), cameras

    def predict_cuboids(
        self, maps: dict[str, Tensor], regions: Sequence[Tensor], batch: ImageBatch, cameras: RegionCameras
    ) -> Tensor:
        """The outputs of every class [ΣR, K + 1, 13] for the regions of all images."""
        features = self.cuboid_features(maps, regions, batch).flatten(1)
        if self.depth_size:
            far = depth_channels(batch, self.coder.virtual_depth)
            own = [boxes.to(far.dtype) for boxes in regions]
            pooled = roi_align(far, own, self.depth_size)
            features = torch.cat([features, pooled.flatten(1).to(features.dtype)], 1)
        return self.cuboid_predictor(self.cuboid_head(features, cameras.geometry.to(features.dtype)))

    @torch.no_grad()
    def cuboid_targets(self, objects: Sequence[Tensor], targets: Sequence[Instances]) -> Tensor:
        """The cuboid of each region's object: [ΣR, 9], NaN where it is unknown."""
        none = objects[0].new_zeros(0, 9, dtype=torch.float32)
        return torch.cat(
            [target.cuboids.float()[own] if len(own) else none for own, target in zip(objects, targets, strict=True)]
        )


LOSSES = ("loss_centre", "loss_depth", "loss_sides", "loss_rotation", "loss_cuboid", "loss_uncertainty")
"""The losses of cuboids, by name."""


def cuboid_losses(decoded: Decoded, cuboids: Tensor, cameras: RegionCameras) -> dict[str, Tensor]:
    """The disentangled losses of corners, with their uncertainty (section 4.2, equations 4 to 6).

    Each of the first four has the prediction of one group and the target in all others, so that groups do not disturb
    each other; the fifth has the predictions of all. Centre, depth and sides are compared corner by corner (L1). With
    a predicted rotation the corners are sets, compared by their Chamfer distance, because a cuboid turned onto itself
    is the same. Distances are divided by the size of the object (the root mean square of its sides).

    Args:
        decoded: the predictions.
        cuboids: [R, 9] targets in the camera frame of the labels.
        cameras: the regions with their cameras.
    """
    centres, sides, rotations = cuboid_parts(moved_cuboids(cuboids, cameras.frames))
    pixels, depths = project(centres[:, None], cameras.intrinsics)[:, 0], centres[:, 2]
    corners = corners_of(centres, sides, rotations)
    size = sides.square().mean(1).sqrt()
    turned = view_rotation(centres) @ decoded.allocentric
    apart = {
        "loss_centre": _mean_l1(corners_of(cameras.points(decoded.pixels, depths), sides, rotations), corners),
        "loss_depth": _mean_l1(corners_of(cameras.points(pixels, decoded.depths), sides, rotations), corners),
        "loss_sides": _mean_l1(corners_of(centres, decoded.sides, rotations), corners),
        "loss_rotation": _chamfer(corners_of(centres, sides, turned), corners),
        "loss_cuboid": _chamfer(corners_of(*decoded.parts(cameras)), corners),
    }
    mu = decoded.uncertainty
    certain = math.sqrt(2) * (-mu).exp() / size
    return {name: (certain * loss).mean() for name, loss in apart.items()} | {"loss_uncertainty": mu.mean()}


def _mean_l1(found: Tensor, corners: Tensor) -> Tensor:
    """[R] mean L1 distance of the corners [R, 8, 3] in metres, corner by corner."""
    return (found - corners).abs().sum(-1).mean(-1)


def _chamfer(found: Tensor, corners: Tensor) -> Tensor:
    """[R] mean L1 distance of each corner [R, 8, 3] to the nearest one of the other cuboid, in both directions."""
    apart = (found[:, :, None] - corners[:, None]).abs().sum(-1)
    return (apart.amin(1).mean(1) + apart.amin(2).mean(1)) / 2


def depth_channels(batch: ImageBatch, virtual_depth: tuple[float, float]) -> Tensor:
    """The depth maps of a batch as two channels: [N, 2, H, W] float32.

    The first is the logarithm of the virtual depth, standardised as the objects' is; 0 where it is unknown. The second
    is 1 where it is known. Images without a depth map are unknown everywhere.
    """
    mean, deviation = virtual_depth
    height, width = batch.tensor.shape[-2:]
    channels = torch.zeros(len(batch), 2, height, width, device=batch.tensor.device)
    for own, camera, (tall, wide) in zip(channels, batch.cameras, batch.sizes, strict=True):
        if camera is None or camera.depth is None:
            continue
        focal = float(straightened(camera.intrinsics)[0][1, 1])
        metres = camera.depth.to(channels.device, torch.float32) * camera.depth_scale
        known = metres > 0  # False for NaN
        own[1, :tall, :wide] = known
        far = ((metres.clamp(min=1e-6) * tall / focal).log() - mean) / deviation
        own[0, :tall, :wide] = torch.where(known, far, torch.zeros_like(far))
    return channels

"""FCOS: Tian, Shen, Chen, He, "FCOS: fully convolutional one-stage object detection", ICCV 2019; centre sampling and
centre-ness beside the distances: the same authors' "FCOS: a simple and strong anchor-free object detector", 2020.

The four steps are separate methods: `network`, `assign`, `losses`, `decode`.

Departures, all as in the published weights: locations are at the top-left corners of the cells, not at their centres;
distances are in cells of the map, and a ReLU keeps them non-negative; P6 is computed from P5. A distance at the limit
between two levels is assigned to both, as in the paper; torchvision assigns it to neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.candidate_parts import dense_selection
from sightline.models.detection.candidates import Candidates, DenseCandidates, Encoded, Selection
from sightline.models.detection.detector import SMALL_RATE, Detections, Detector, head_outputs
from sightline.models.detection.parts import (
    STRIDES,
    SelectionSettings,
    best_candidates,
    class_targets,
    level_anchors,
    pyramid,
    suppressed,
)
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import SIZE, InputSize, Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, PyramidName, build_backbone
from sightline.nn.heads.fcos import FCOSHead
from sightline.ops.anchors import base_anchors
from sightline.ops.boxes import box_area, decode_distances, encode_distances
from sightline.ops.losses import generalized_box_iou_loss, sigmoid_focal_loss
from sightline.runtime.sharing import batch_count
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class FCOSSettings(SelectionSettings):
    """Settings of FCOS, in addition to those of `SelectionSettings`.

    Attributes:
        radius: centre sampling radius: maximum distance of a location from the centre of its object in x and in y, in
            cells.
        ranges: range of the largest of the four distances for each level: level l has `ranges[l]` to `ranges[l + 1]`,
            in pixels of the batch.
        alpha, gamma: parameters of the focal loss: weight of positives, and exponent of the modulating factor.
        min_score: boxes with a lower score are removed (0.05 in the paper; the published weights came with 0.2).
    """

    radius: float = 1.5
    ranges: tuple[float, ...] = (0.0, 64.0, 128.0, 256.0, 512.0, 1e8)
    alpha: float = 0.25
    gamma: float = 2.0
    nms_iou: float = 0.6

    def __post_init__(self) -> None:
        if len(self.ranges) != len(STRIDES) + 1 or list(self.ranges) != sorted(self.ranges):
            raise InputError(f"ranges are {self.ranges}, but must be {len(STRIDES) + 1} ascending numbers, in pixels")


class FCOS(Detector):
    """Backbone → pyramid → class, distances to the sides of the box, and centre-ness of every location (figure 2).

    Args:
        classes: names of the classes.
        preprocess: preprocessing of images into a batch.
        backbone: batch [N, C, H, W] → maps by name, from fine to coarse.
        head: maps → scores [N, H·W, K + 1] (output 0 is unused, as in the published weights), distances [N, H·W, 4] and
            centre-ness [N, H·W] of each level.
        settings: thresholds and limits.
        output_ids: as in `Detector`.
    """

    class_layers = r"head\.classification_head\.cls_logits\."

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        head: nn.Module,
        settings: FCOSSettings | None = None,
        output_ids: Sequence[int] | None = None,
    ):
        super().__init__(classes, preprocess, output_ids)
        self.backbone = backbone
        self.head = head
        self.cells = [base_anchors([stride], [1.0]) for stride in STRIDES]
        self.settings = settings or FCOSSettings()

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the three losses."""
        maps, logits, distances, centreness = self.network(batch.tensor)
        anchors = self.anchors(maps, batch)
        if targets is None:
            return self.decode(logits, distances, centreness, anchors, batch.sizes), {}
        return [], self.losses(logits, distances, centreness, anchors, self.assign(anchors, targets), targets)

    def network(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Batch [N, C, H, W] → maps, scores, distances and centre-ness of each level.

        Shapes: scores [N, S_l, K + 1] and centre-ness [N, S_l] before the sigmoid, distances [N, S_l, 4] in cells.
        """
        maps = list(self.backbone(images).values())
        return (maps, *self.head(maps))

    def anchors(self, maps: Sequence[Tensor], batch: ImageBatch) -> list[Tensor]:
        """A square of the size of a cell around each location, for each level: [S_l, 4] xyxy in pixels of the batch."""
        return level_anchors(self.cells, maps, batch)

    def assign(self, anchors: Sequence[Tensor], targets: Sequence[Instances]) -> Tensor:
        """[N, S] index of the object of each location, or −1 (2019, section 3.2; 2020, sections 2.1 and 2.2)."""
        s = self.settings
        limits = [a.new_tensor(s.ranges[level : level + 2]).expand(len(a), 2) for level, a in enumerate(anchors)]
        return torch.stack(
            [match_locations(t.boxes, torch.cat(list(anchors)), torch.cat(limits), s.radius) for t in targets]
        )

    def losses(
        self,
        logits: Sequence[Tensor],
        distances: Sequence[Tensor],
        centreness: Sequence[Tensor],
        anchors: Sequence[Tensor],
        matches: Tensor,
        targets: Sequence[Instances],
    ) -> dict[str, Tensor]:
        """Equation 2: focal loss of all locations; GIoU loss and binary cross-entropy of the centre-ness of positives.

        All losses are divided by the number of positive locations in the batch. The GIoU loss replaces −log IoU, as in
        the 2020 version. Shapes of each level: logits [N, S_l, K + 1], distances [N, S_l, 4], centreness [N, S_l],
        anchors [S_l, 4]; matches [N, S].
        """
        s = self.settings
        scores, positive = torch.cat(list(logits), 1), matches >= 0
        labels = class_targets(scores, matches, targets)
        boxes = torch.cat([t.boxes[m[m >= 0]] for t, m in zip(targets, matches, strict=True)])
        cells = torch.cat(list(anchors)).expand(len(targets), -1, -1)[positive]
        found = decode_distances(torch.cat(list(distances), 1)[positive].float(), cells)
        central = torch.cat(list(centreness), 1)[positive].float()
        count = batch_count(positive.sum())
        return {
            "loss_classification": sigmoid_focal_loss(scores, labels, s.alpha, s.gamma, reduction="sum") / count,
            "loss_box": generalized_box_iou_loss(found, boxes, reduction="sum") / count,
            "loss_centerness": F.binary_cross_entropy_with_logits(
                central, centreness_targets(boxes, cells), reduction="sum"
            )
            / count,
        }

    @torch.no_grad()
    def decode(
        self,
        logits: Sequence[Tensor],
        distances: Sequence[Tensor],
        centreness: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Sequence[Size],
    ) -> Detections:
        """The best boxes of each image after per-class NMS; labels 1 … K.

        The score is the geometric mean of the class probability and the centre-ness (2020, section 2.3).
        """
        s = self.settings
        scores, ids, labels = best_candidates(logits, s.candidates, centreness)
        chosen = torch.cat(list(distances), 1).gather(1, ids[..., None].expand(-1, -1, 4))
        return suppressed(decode_distances(chosen.float(), torch.cat(list(anchors))[ids]), scores, labels, sizes, s)

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        """Like `Detector.candidates`: every location, whose origin is its cell."""
        maps, logits, distances, centreness = self.network(batch.tensor)
        anchors = self.anchors(maps, batch)
        classes, cells = self.of_classes(torch.cat(logits, 1)).float(), torch.cat(anchors)
        scores = (classes.sigmoid() * torch.cat(centreness, 1).float().sigmoid()[..., None]).sqrt()
        encoded = Encoded(torch.cat(distances, 1).float(), cells, decode_distances)
        return DenseCandidates.decoded(encoded, classes, scores, cells, [a.shape[0] for a in anchors])

    def map_layers(self) -> list[nn.Module]:
        """The maps of the backbone."""
        return map_layers(self.backbone)

    def selection(self) -> Selection:
        return dense_selection(self.settings)

    def points_fit(self, candidates: Candidates, boxes: Tensor) -> Tensor:
        """Like `Detector.points_fit`, by the rule of training: near the centre, and of the level of this size."""
        s = self.settings
        limits = boxes.new_tensor([s.ranges[level : level + 2] for level in range(len(STRIDES))])
        return suitable(boxes, candidates.origins, limits[candidates.levels], s.radius).any(1)


@torch.no_grad()
def match_locations(boxes: Tensor, cells: Tensor, limits: Tensor, radius: float) -> Tensor:
    """Match each location to the smallest object that contains it, is near its centre, and fits the size of its level.

    Args:
        boxes: [G, 4] xyxy boxes of the objects.
        cells: [S, 4] xyxy, a square of the size of a cell around each location.
        limits: [S, 2] minimum and maximum of the largest of a location's four distances, in pixels.
        radius: maximum distance to the object's centre in x and in y, in cells.

    Returns:
        [S] int64 index of the object, or −1 for background.

    Source: Tian et al., FCOS, 2019, section 3.2; centre sampling: the 2020 version, section 2.1.
    """
    if not len(boxes):
        return torch.full((len(cells),), -1, dtype=torch.int64, device=cells.device)
    suits = suitable(boxes, cells, limits, radius)
    area, smallest = box_area(boxes)[:, None].masked_fill(~suits, torch.inf).min(0)
    return torch.where(area < torch.inf, smallest, -1)


def suitable(boxes: Tensor, cells: Tensor, limits: Tensor, radius: float) -> Tensor:
    """Whether each location may be matched to each object: bool [G, S]. Arguments as for `match_locations`."""
    to_sides = encode_distances(boxes[:, None], cells, normalize=False)  # [G, S, 4]
    to_centre = (to_sides[..., :2] - to_sides[..., 2:]).abs().amax(-1) / 2
    farthest = to_sides.amax(-1)
    suits = (to_sides.amin(-1) > 0) & (to_centre < radius * (cells[:, 2] - cells[:, 0]))
    return suits & (farthest >= limits[:, 0]) & (farthest <= limits[:, 1])


def centreness_targets(boxes: Tensor, cells: Tensor) -> Tensor:
    """Centre-ness targets [P] of locations in boxes [P, 4]: 1 at the centre, 0 at the sides (2019, equation 3)."""
    left, top, right, bottom = encode_distances(boxes, cells, normalize=False).unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (across * down).sqrt()


SETTINGS = FCOSSettings()


def fcos(
    classes: Iterable[str],
    *,
    backbone: PyramidName = "resnet50",
    in_channels: int = 3,
    options: BackboneOptions = OPTIONS,
    size: InputSize = SIZE,
    p6_from: Literal["c5", "p5"] = "p5",
    channels: int = 256,
    depth: int = 4,
    settings: FCOSSettings = SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> FCOS:
    """FCOS with P3 to P7 on any backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        options: normalisation of the backbone, and how many of its layers are trained.
        size: size that images are resized to.
        p6_from: input of P6: the backbone's last map ("c5") or the pyramid's ("p5").
        channels: number of channels of the pyramid and the heads, a multiple of 32 (256 in the paper).
        depth: number of convolutions in each tower (4 in the paper).
        settings: thresholds and limits.
        output_ids: as in `Detector`.
    """
    names, net = Classes(classes), build_backbone(backbone, in_channels, options, known=PyramidName)
    levels = pyramid(net, options.trainable_layers, channels, p6_from)
    head = FCOSHead(channels, head_outputs(names, output_ids) + 1, depth)
    model = FCOS(names, imagenet_preprocess(in_channels, size), levels, head, settings, output_ids)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Tian et al. 2019, FCOS: fully convolutional one-stage object detection"

ENTRIES = (
    Entry(name="fcos", builder=fcos, task="detection", paper=_PAPER, start={"norm": "frozen"}),
    Entry(
        name="fcos_resnet50_fpn",
        builder=fcos,
        task="detection",
        paper=_PAPER,
        summary="ResNet-50 with P3 to P7: 32,269,600 parameters with 90 classes and frozen norms.",
        start={"norm": "frozen", "trainable_layers": 3},
        fixed={"backbone": "resnet50", "p6_from": "p5"},
    ),
    Entry(
        name="fcos_mobilenet_v2_fpn",
        builder=fcos,
        task="detection",
        paper=_PAPER,
        summary="MobileNet v2, for training on CPUs: small images, and a narrower and shallower pyramid and heads.",
        fixed={"backbone": "mobilenet_v2", "p6_from": "c5"},
        defaults={"min_size": 320, "max_size": 512, "channels": 128, "depth": 2},
        recipe=SMALL_RATE,
    ),
)

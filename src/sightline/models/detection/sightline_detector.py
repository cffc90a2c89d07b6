"""Sightline's own detector: small and anchor-free, for small datasets and short training on CPUs.

It combines parts from several papers:

- a backbone of cross-stage partial blocks (Wang et al. 2020) with ELAN's gradient paths (Wang et al. 2022) and pyramid
  pooling (He et al. 2014);
- path aggregation (Liu et al. 2018) with the same width on all levels, and a decoupled head (Ge et al., "YOLOX", 2021)
  whose levels share convolutions, but not normalisation layers (Lyu et al., "RTMDet", 2022);
- one point per cell, with distributions over its four distances and their focal loss (Li et al., "Generalized focal
  loss", 2020, section 3.2), in addition to complete IoU (Zheng et al. 2020);
- task-aligned assignment, and classification targets equal to the quality of the prediction (Feng et al., "TOOD", 2021,
  section 3.2).

Ablations, in AP50:95 of short training runs of `sightline_n` on scenes and on blood cells (one run against the mean of
three runs, so differences up to 0.01 are within noise; see `docs/sightline_detector.md`): mosaic +0.071 and +0.005;
switching it off for the last part of training +0.009 and +0.012; plain cross-entropy with quality targets +0.119 and
+0.005 over varifocal loss, +0.042 and −0.004 over quality focal loss; distribution focal loss +0.029 and +0.014; twice
the learning rate +0.023 and −0.005; 13 instead of 9 points per object +0.019 and −0.011. Complete instead of
generalized IoU, mixup, α and weight averaging made no difference beyond noise.

The four steps are separate methods: `network`, `assign`, `losses`, `decode`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.candidates import DenseCandidates, Encoded, Selection
from sightline.models.detection.detector import Detections, Detector
from sightline.models.detection.plan import plan
from sightline.models.detection.points import Points, cell_centres, points_inside
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.csp import CSPBackbone
from sightline.nn.backbones.features import Network
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, PyramidName, build_backbone
from sightline.nn.heads.decoupled import DecoupledHead
from sightline.nn.necks.pan import PathAggregation
from sightline.ops.boxes import clip_boxes_to_image, elementwise_iou
from sightline.ops.geometry import resize_target
from sightline.ops.losses import (
    complete_box_iou_loss,
    distribution_focal_loss,
    generalized_box_iou_loss,
    quality_focal_loss,
    varifocal_loss,
)
from sightline.ops.suppression import batched_nms
from sightline.ops.task_alignment import match_task_aligned
from sightline.runtime.sharing import batch_count
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class DenseSettings:
    """Settings of the detector.

    Attributes:
        top: maximum number of points per object (TOOD, section 4.1: 13).
        alpha, beta: exponents of the class score and of the IoU in the alignment metric (TOOD: 1 and 6).
        class_loss: "quality" (quality focal loss), "varifocal" (VarifocalNet) or "plain" cross-entropy.
        box_loss: "complete" or "generalized" IoU.
        class_weight, box_weight, distance_weight: weights of the three losses (PP-YOLOE, section 2.2: 1, 2.5 and 0.5).
        min_score: boxes with a lower score are removed.
        candidates: maximum number of boxes per image before NMS.
        nms_iou: IoU above which NMS removes the lower-scoring box of the same class.
        max_detections: maximum number of detections per image.
    """

    top: int = 13
    alpha: float = 1.0
    beta: float = 6.0
    class_loss: Literal["quality", "varifocal", "plain"] = "plain"
    box_loss: Literal["complete", "generalized"] = "complete"
    class_weight: float = 1.0
    box_weight: float = 2.5
    distance_weight: float = 0.5
    min_score: float = 0.005
    candidates: int = 1000
    nms_iou: float = 0.65
    max_detections: int = 300

    def __post_init__(self) -> None:
        for name, known in (
            ("class_loss", ("quality", "varifocal", "plain")),
            ("box_loss", ("complete", "generalized")),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}, but it must be one of {', '.join(known)}")


class Assignment(NamedTuple):
    """The targets of each point.

    Attributes:
        matches: [N, A] int64 index of the object, or −1.
        quality: [N, A] target score, 0 without an object.
    """

    matches: Tensor
    quality: Tensor


class SightlineDetector(Detector):
    """Backbone → neck → head: class scores and one box for each cell of three maps.

    Args:
        classes: names of the K classes.
        preprocess: preprocessing of images into a batch.
        backbone: batch [N, C, H, W] → maps at strides 8, 16, 32.
        neck: maps → maps with the same number of channels on all levels.
        head: maps → scores [N, A, K] and sides [N, A, 4·R].
        settings: loss weights, thresholds and limits.
        multi_scale: in training, each batch is resized by a random factor from 1 − `multi_scale` to 1 + `multi_scale`
            (Redmon and Farhadi, "YOLO9000", 2017, section 2); 0 disables it.
    """

    class_layers = r"head\.classes\.\d+\.(weight|bias)"
    background_output = False
    recipe_defaults: dict[str, Any] = {"augmentation": "mosaic", "lr": 4e-3, "batch_size": 8, "ema": 0.999}
    strides = (8, 16, 32)

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        neck: nn.Module,
        head: DecoupledHead,
        settings: DenseSettings | None = None,
        multi_scale: float = 0.0,
    ):
        super().__init__(classes, preprocess)
        if not 0 <= multi_scale < 1:
            raise InputError(f"multi_scale is {multi_scale}, but must be at least 0 and below 1, such as 0.25")
        self.backbone, self.neck, self.head = backbone, neck, head
        self.settings = settings or DenseSettings()
        self.multi_scale = multi_scale

    @property
    def parts(self) -> dict[str, Any]:
        """The arguments of the constructor, for models that add a head to this one."""
        names = ("classes", "preprocess", "backbone", "neck", "head", "settings", "multi_scale")
        return {name: getattr(self, name) for name in names}

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None
    ) -> tuple[ImageBatch, list[Instances] | None]:
        """Like every detector; in training with `multi_scale`, at a random scale."""
        batch, moved = super().prepare(images, targets)
        if moved is None or not self.training or not self.multi_scale:
            return batch, moved
        factor = 1 + self.multi_scale * (2 * float(torch.rand(())) - 1)
        divisor = self.preprocess.divisor
        height, width = batch.tensor.shape[-2:]
        size = tuple(max(1, round(side * factor / divisor)) * divisor for side in (height, width))
        if size == (height, width):
            return batch, moved
        scale = (size[1] / width, size[0] / height)
        tensor = F.interpolate(batch.tensor, size=size, mode="bilinear", align_corners=False)
        sizes = [(max(1, round(h * scale[1])), max(1, round(w * scale[0]))) for h, w in batch.sizes]
        moved = [resize_target(t, scale, s) for t, s in zip(moved, sizes, strict=True)]
        return replace(batch, tensor=tensor, sizes=sizes), moved

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the three losses."""
        if self.training and max(batch.tensor.shape[-2:]) <= self.strides[-1] and len(batch.tensor) == 1:
            raise InputError(
                "a batch of one image has a single value a channel in the coarsest map, which cannot be normalised; "
                "train with larger batches, or give image_size=64 or more"
            )
        maps = self.maps(batch.tensor)
        scores, sides = self.head(maps)
        points = self.points(batch)
        if targets is None:
            found = self.decode(scores, sides, points, batch.sizes)
            return self.extra_fields(found, maps, points, batch), {}
        scores, sides = scores.float(), sides.float()
        boxes = self.boxes(sides, points)
        assignment = self.assign(scores, boxes, points, targets)
        losses = self.losses(scores, sides, boxes, points, assignment, targets)
        return [], losses | self.extra_losses(maps, boxes, points, assignment, targets)

    def extra_fields(self, found: Detections, maps: Sequence[Tensor], points: Points, batch: ImageBatch) -> Detections:
        """Hook for models with additional heads: the detections with the fields of these heads instead of "points".

        Args:
            found: as `decode` returns them; "points" are the points that the detections were decoded from.
            maps: the maps of the neck.
            points: of `points`.
            batch: the batch.
        """
        return [{name: value for name, value in own.items() if name != "points"} for own in found]

    def extra_losses(
        self,
        maps: Sequence[Tensor],
        boxes: Tensor,
        points: Points,
        assignment: Assignment,
        targets: Sequence[Instances],
    ) -> Losses:
        """Hook for models with additional heads: their losses.

        Args:
            maps: the maps of the neck.
            boxes: [N, A, 4] as predicted.
            points: of `points`.
            assignment: of `assign`.
            targets: labels are outputs of the head, 1 … K.
        """
        return {}

    def maps(self, images: Tensor) -> list[Tensor]:
        """Batch [N, C, H, W] → the maps of the neck, from fine to coarse."""
        maps = self.backbone(images)
        return self.neck(list(maps.values()) if isinstance(maps, Mapping) else maps)

    def network(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Batch [N, C, H, W] → scores [N, A, K] before the sigmoid, sides [N, A, 4·R] before the softmax."""
        return self.head(self.maps(images))

    def points(self, batch: ImageBatch) -> Points:
        """The centres of all cells, in the order of levels, rows and columns."""
        height, width = batch.tensor.shape[-2:]
        return cell_centres((height, width), self.strides, batch.tensor.device)

    def boxes(self, sides: Tensor, points: Points) -> Tensor:
        """Boxes [..., A, 4] xyxy in pixels of the batch, from the means of distributions [..., A, 4·R]."""
        return self._decoded(sides, torch.cat([points.centres, points.strides[:, None]], 1))

    def _decoded(self, sides: Tensor, points: Tensor) -> Tensor:
        """As `boxes`, of points [..., 3]: centre x and y, stride."""
        bins = self.head.bins
        spread = sides.unflatten(-1, (4, bins)).softmax(-1)
        distances = (spread * torch.arange(bins, dtype=spread.dtype, device=spread.device)).sum(-1)
        centres, strides = points[..., :2], points[..., 2:]
        left_top, right_bottom = (distances * strides).chunk(2, -1)
        return torch.cat([centres - left_top, centres + right_bottom], -1)

    @torch.no_grad()
    def assign(self, scores: Tensor, boxes: Tensor, points: Points, targets: Sequence[Instances]) -> Assignment:
        """Assign an object and a target score to each point, based on the current predictions (TOOD, section 3.2).

        Candidates are the points inside the box of an object. If there are none, it is the point nearest to its centre.

        Args:
            scores: [N, A, K] before the sigmoid.
            boxes: [N, A, 4] as predicted.
            points: of `points`.
            targets: labels are outputs of the head, 1 … K.
        """
        s, (count, length) = self.settings, scores.shape[:2]
        lengths = torch.tensor([len(t) for t in targets], device=scores.device)
        image = torch.arange(count, device=scores.device).repeat_interleave(lengths)  # of each object of the batch
        target_boxes, labels = torch.cat([t.boxes for t in targets]), torch.cat([t.labels for t in targets])
        objects, point = points_inside(points, target_boxes).nonzero(as_tuple=True)
        row = image[objects]
        iou = elementwise_iou(target_boxes[objects], boxes[row, point])
        probability = scores[row, point, labels[objects] - 1].sigmoid()
        shape = (len(target_boxes), count * length)
        matches, quality = match_task_aligned(
            objects, row * length + point, probability, iou, shape, s.top, s.alpha, s.beta
        )
        matches, first = matches.view(count, length), (lengths.cumsum(0) - lengths)[:, None]
        return Assignment(torch.where(matches >= 0, matches - first, matches), quality.view(count, length))

    def losses(
        self,
        scores: Tensor,
        sides: Tensor,
        boxes: Tensor,
        points: Points,
        assignment: Assignment,
        targets: Sequence[Instances],
    ) -> dict[str, Tensor]:
        """The classification loss of all points, and the box losses of positive points, weighted by their quality.

        All are summed over the batch and divided by the sum of the qualities.
        """
        s = self.settings
        matches, quality = assignment
        class_targets = torch.zeros_like(scores)
        matched_boxes = []
        for i, target in enumerate(targets):
            point = (matches[i] >= 0).nonzero().flatten()
            objects = matches[i, point]
            class_targets[i, point, target.labels[objects] - 1] = quality[i, point]
            matched_boxes.append(target.boxes[objects].to(boxes.dtype))
        image, point = (matches >= 0).nonzero(as_tuple=True)  # in the order of `matched_boxes`: image by image
        target_boxes, weight = torch.cat(matched_boxes), quality[image, point]
        total = batch_count(quality.sum())
        if s.class_loss == "quality":
            class_terms = quality_focal_loss(scores, class_targets)
        elif s.class_loss == "varifocal":
            class_terms = varifocal_loss(scores, class_targets)
        else:
            class_terms = F.binary_cross_entropy_with_logits(scores, class_targets, reduction="none")
        box_loss = complete_box_iou_loss if s.box_loss == "complete" else generalized_box_iou_loss
        centres, strides = points.centres[point], points.strides[point, None]
        distances = torch.cat([centres - target_boxes[:, :2], target_boxes[:, 2:] - centres], 1) / strides
        bins = sides[image, point].unflatten(-1, (4, self.head.bins))
        distance_terms = distribution_focal_loss(bins, distances).mean(1)
        return {
            "loss_classification": s.class_weight * class_terms.sum() / total,
            "loss_box": s.box_weight * (box_loss(boxes[image, point], target_boxes) * weight).sum() / total,
            "loss_distance": s.distance_weight * (distance_terms * weight).sum() / total,
        }

    @torch.no_grad()
    def decode(self, scores: Tensor, sides: Tensor, points: Points, sizes: Sequence[Size]) -> list[dict[str, Tensor]]:
        """The best boxes of each image after per-class NMS; labels are outputs of the head, 1 … K.

        "points" [D] are the indices of the points that the boxes were decoded from, for `extra_fields`.
        Scores and boxes are only computed for possible candidates: the best P (box, class) pairs belong to the P points
        with the highest maximum class score.
        """
        s, results = self.settings, []
        best_classes = scores.amax(-1).float().sigmoid()
        for logits, best, side, size in zip(scores, best_classes, sides, sizes, strict=True):
            place = (best > s.min_score).nonzero().flatten()
            if len(place) > s.candidates:
                place = place[best[place].topk(s.candidates).indices]
            every = logits[place].float().sigmoid().flatten()  # of each point and class
            score, at = every.topk(min(s.candidates, len(every)))
            score, at = score[score > s.min_score], at[score > s.min_score]
            place, label = place[at // logits.shape[1]], at % logits.shape[1]
            here = Points(points.centres[place], points.strides[place])
            box = clip_boxes_to_image(self.boxes(side[place].float(), here), size)
            keep = batched_nms(box, score, label, s.nms_iou)[: s.max_detections]
            own = {"boxes": box[keep], "labels": label[keep] + 1, "scores": score[keep], "points": place[keep]}
            results.append(own)
        return results

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        """Like `Detector.candidates`: every point, whose origin is its cell."""
        return self.candidates_of(self.maps(batch.tensor), batch)

    def candidates_of(self, maps: Sequence[Tensor], batch: ImageBatch) -> DenseCandidates:
        """The candidates of a batch from the maps of the neck."""
        scores, sides = self.head(maps)
        logits, points = scores.float(), self.points(batch)
        half = points.strides[:, None] / 2
        cells = torch.cat([points.centres - half, points.centres + half], 1)
        height, width = batch.tensor.shape[-2:]
        counts = [(height // stride) * (width // stride) for stride in self.strides]
        encoded = Encoded(sides.float(), torch.cat([points.centres, points.strides[:, None]], 1), self._decoded)
        return DenseCandidates.decoded(encoded, logits, logits.sigmoid(), cells, counts)

    def map_layers(self) -> list[nn.Module]:
        """The maps of the neck."""
        return map_layers(self.neck)

    def selection(self) -> Selection:
        s = self.settings
        return Selection(s.min_score, s.candidates, "image", nms_iou=s.nms_iou, max_detections=s.max_detections)


SETTINGS = DenseSettings()


def sightline_detector(
    classes: Iterable[str],
    *,
    backbone: PyramidName | None = None,
    channels: Sequence[int] = (16, 32, 64, 128, 256),
    blocks: Sequence[int] = (1, 1, 1, 1),
    width: int = 64,
    neck_blocks: int = 1,
    residual: bool = False,
    separable: bool = False,
    head_depth: int = 2,
    in_channels: int = 3,
    image_size: int = 640,
    multi_scale: float = 0.0,
    options: BackboneOptions = OPTIONS,
    settings: DenseSettings = SETTINGS,
) -> SightlineDetector:
    """Sightline's own detector; by default the small one.

    Args:
        classes: names of the classes.
        backbone: name of the classification network whose maps of strides 8, 16 and 32 are used; None for a
            `CSPBackbone`, which is made for training from random weights.
        channels, blocks: number of channels and of blocks of the stem and the stages of a `CSPBackbone`.
        width: number of channels of the neck and the head.
        neck_blocks: number of residual pairs in each block of the neck.
        residual: whether neck and head start as the identity, see `PathAggregation`. A detector on a pretrained
            backbone needs it to learn in few steps.
        separable: whether the neck's 3×3 convolutions are depthwise separable; the head's always are.
        head_depth: number of convolutions of each branch of the head.
        in_channels: number of channels of the images.
        image_size: length in pixels that the longer side is resized to, keeping the aspect ratio; a multiple of 32.
            Above 960, the distributions of distances have more than 16 bins, so that they cover the largest objects.
        multi_scale: as in `SightlineDetector`.
        options: normalisation and trainable layers of `backbone`.
        settings: loss weights, thresholds and limits.
    """
    names = Classes(classes)
    if image_size < 32 or image_size % 32:
        near = max(32, round(image_size / 32) * 32)
        raise InputError(f"image_size is {image_size}, but the maps need a multiple of 32; give {near}")
    body: nn.Module
    net: Network | None = None
    if backbone is None:
        body = CSPBackbone(channels, blocks, in_channels)
        out_channels = body.out_channels
    else:
        net = build_backbone(backbone, in_channels, options, num_classes=1, known=PyramidName)
        body = net.maps((8, 16, 32), options.trainable_layers)
        out_channels = body.channels
    neck = PathAggregation(out_channels, width, neck_blocks, residual=residual, separable=separable)
    # distance from the centre to the sides of an object as large as the image, in cells of the coarsest map
    reach = math.ceil(image_size * (1 + multi_scale) / 2 / 32)
    head = DecoupledHead(
        width, len(names), len(out_channels), bins=max(16, reach + 1), depth=head_depth, residual=residual
    )
    preprocess = imagenet_preprocess(in_channels, min_size=image_size, max_size=image_size, divisor=32, antialias=True)
    model = SightlineDetector(names, preprocess, body, neck, head, settings, multi_scale)
    if net is not None:
        model.backbone_keys = shared_keys(net, model)
        model.recipe_defaults = model.recipe_defaults | {"augmentation": "default"}
        model.finetune_defaults = {"lr": 3e-3, "backbone_lr_factor": 0.5}
    return model


# summary, channels, blocks, width, neck_blocks
_SIZES = {
    "n": ("The small one, for CPUs.", (16, 32, 64, 128, 256), (1, 1, 1, 1), 64, 1),
    "s": ("Twice as wide.", (32, 64, 128, 256, 512), (1, 1, 1, 1), 128, 1),
    "m": ("Three times as wide and twice as deep.", (48, 96, 192, 384, 768), (1, 2, 2, 2), 192, 2),
}
# name and title of the networks whose published weights a detector can start from
_PRETRAINED = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "efficientnet_lite1": "EfficientNet-Lite1",
    "efficientnet_lite2": "EfficientNet-Lite2",
    "mobilenet_v2": "MobileNet v2",
    "mobilenet_v3_large": "MobileNet v3 large",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
}
_PAPER = "Feng et al. 2021, TOOD; Lyu et al. 2022, RTMDet"

ENTRIES = (
    *(
        Entry(
            name=f"sightline_{size}",
            builder=sightline_detector,
            task="detection",
            paper=_PAPER,
            summary=summary,
            fixed={"channels": channels, "blocks": blocks, "width": width, "neck_blocks": neck_blocks},
            plan=plan,
        )
        for size, (summary, channels, blocks, width, neck_blocks) in _SIZES.items()
    ),
    *(
        Entry(
            name=f"sightline_{name.removeprefix('efficientnet_')}",
            builder=sightline_detector,
            task="detection",
            paper=_PAPER,
            summary=f"Its neck and head on a pretrained {title}.",
            start={"norm": "frozen"},
            fixed={"backbone": name, "residual": True},
            defaults={"width": 96, "separable": True, "head_depth": 1},
            plan=plan,
        )
        for name, title in _PRETRAINED.items()
    ),
)

"""PP-YOLO: Long et al., "PP-YOLO: an effective and efficient implementation of object detector", 2020: YOLO v3
(Redmon and Farhadi 2018) with ten additions, each of which can be disabled.

The four steps are separate methods: `network`, `assign`, `losses`, `decode`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.class_outputs import Output, outputs_in_groups
from sightline.models.detection.candidates import DenseCandidates, Method, Selection
from sightline.models.detection.detector import SMALL_RATE, Detections, Detector, head_outputs
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.models.weights import shared_keys
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.resnet_vd import resnet18_vd, resnet50_vd
from sightline.nn.heads.yolo_v3 import Places, YOLOv3Head
from sightline.nn.necks.yolo_v3 import YOLOv3Neck
from sightline.ops.boxes import MAX_LOG_RATIO, box_convert, box_iou, clip_boxes_to_image, shape_iou
from sightline.ops.losses import iou_loss
from sightline.ops.matrix_nms import matrix_nms
from sightline.ops.suppression import batched_nms
from sightline.structures import Classes, ImageBatch, Instances, Size

Anchors = Sequence[Sequence[Sequence[float]]]
"""(width, height) in pixels of the batch, of each anchor of each level, from fine to coarse."""

_ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)  # YOLO v3, section 2.3: width and height in pixels, from fine to coarse
_TWO_LEVELS = (((10, 14), (23, 27), (37, 58)), ((81, 82), (135, 169), (344, 319)))  # of its small version
_DROP = (0.1, 3)  # DropBlock's probability and side
_LEAST_SIDE = 1e-2  # minimum side of an object in pixels, for a finite logarithm


@dataclass(frozen=True)
class PPYOLOSettings:
    """Settings of PP-YOLO.

    With `grid=1, iou=0, suppression="greedy"`, losses and decoding are those of YOLO v3. Its paper uses an ignore IoU
    of 0.5, its published configuration 0.7.

    Attributes:
        grid: α of grid-sensitive decoding: the centre is at α·σ(x) − (α − 1) / 2 of a cell, so that the borders of the
            cell are reached at finite x. 1 gives YOLO v3's σ(x).
        ignore_iou: predictions with a higher IoU with an object that they are not assigned to are not trained as
            background.
        iou: weight of the IoU loss; 0 disables it.
        iou_aware: weight of the loss of the predicted IoU.
        iou_power: α of the score class · objectness^(1 − α) · IoU^α, for networks that predict the IoU.
        suppression: "linear" or "gaussian" for matrix NMS, or "greedy" for NMS.
        nms_iou: IoU above which greedy NMS removes the lower-scoring box of the same class.
        min_score: boxes with a lower score are removed, before and after NMS.
        candidates: maximum number of boxes per image before NMS.
        max_detections: maximum number of detections per image.

    Raises:
        InputError: a setting is out of range.
    """

    grid: float = 1.05
    ignore_iou: float = 0.7
    iou: float = 2.5
    iou_aware: float = 1.0
    iou_power: float = 0.4
    suppression: str = "linear"
    nms_iou: float = 0.45
    min_score: float = 0.01
    candidates: int = 1000
    max_detections: int = 100

    def __post_init__(self) -> None:
        if self.suppression not in ("linear", "gaussian", "greedy"):
            raise InputError(
                f"suppression is {self.suppression!r}, but must be 'linear', 'gaussian' (matrix NMS) or 'greedy'"
            )
        if self.grid < 1:
            raise InputError(f"grid is {self.grid}, but must be at least 1: below, no centre reaches a cell's border")
        if not 0 <= self.iou_power <= 1:
            raise InputError(f"iou_power is {self.iou_power}, but must lie between 0 and 1")


class Outputs(NamedTuple):
    """The network's outputs for D predictions, before any activation.

    Attributes:
        places: [N, D, 4], (x, y) inside the cell, and (width, height) relative to the anchor.
        objectness: [N, D].
        iou: [N, D] predicted IoU with the object; None if the network does not predict it.
        classes: [N, D, K].
    """

    places: Tensor
    objectness: Tensor
    iou: Tensor | None
    classes: Tensor


class PPYOLO(Detector):
    """Backbone → three maps → neck → head → boxes at every cell and anchor (figure 2).

    Args:
        classes: names of the classes.
        preprocess: preprocessing of images into a batch whose sides are multiples of the coarsest stride.
        backbone: batch → feature maps, from fine to coarse.
        neck: fuses the maps, from coarse to fine.
        head: maps → outputs of each prediction.
        anchors: (width, height) of each level's anchors in pixels of the batch, from fine to coarse.
        settings: loss weights, thresholds and limits.
        output_ids: as in `Detector`.

    Departures: the targets of x and y are transformed by the inverse of grid-sensitive decoding, so that the loss has
    its minimum at the object (the paper does not specify this); if several objects are assigned to one prediction, the
    last is used; objectness is initialised to 0.01 (see `YOLOv3Head`). The paper's schedule of 250 000 steps with a
    batch size of 192 is left to the recipe.
    """

    origin = "anchor"
    class_layers = r"^head\.predictors\.\d+\.(weight|bias)$"
    background_output = False
    recipe_defaults: dict[str, Any] = {
        "ema": 0.9998,
        "clip_norm": 35.0,
    }  # section 3.2; losses are summed over each image, so gradients are large

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: FeatureMaps,
        neck: nn.Module,
        head: YOLOv3Head,
        anchors: Anchors,
        settings: PPYOLOSettings | None = None,
        output_ids: Sequence[int] | None = None,
    ):
        super().__init__(classes, preprocess, output_ids)
        self.backbone, self.neck, self.head = backbone, neck, head
        self.shapes = [torch.tensor(level, dtype=torch.float32) for level in anchors]
        self.settings = settings or PPYOLOSettings()

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """For each anchor: box and objectness, the IoU if it is predicted, then the classes."""
        found = outputs_in_groups(self.output_names, shape[0], own=5 + self.head.iou_aware)
        return [] if found is None else [found]

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the losses."""
        outputs, places = self.network(batch.tensor), self.places(batch)
        if targets is None:
            return self.decode(outputs, places, batch.sizes), {}
        boxes = self.boxes(outputs, places)
        matches, ignored = self.assign(boxes.detach(), places, targets)
        return [], self.losses(outputs, boxes, places, matches, ignored, targets)

    def network(self, images: Tensor) -> Outputs:
        """Batch [N, C, H, W], H and W multiples of the coarsest stride → outputs of each prediction."""
        height, width, step = images.shape[-2], images.shape[-1], max(self.backbone.strides)
        if height % step or width % step:
            raise InputError(
                f"the batch is {height}×{width} pixels, but both sides must be multiples of {step}, the coarsest "
                f"map's stride; pad it to {-(-height // step) * step}×{-(-width // step) * step}"
            )
        raw = self.head(self.neck(list(self.backbone(images).values())))
        after = 5 + self.head.iou_aware
        return Outputs(raw[..., :4], raw[..., 4], raw[..., 5] if self.head.iou_aware else None, raw[..., after:])

    def places(self, batch: ImageBatch) -> Places:
        """Cell, stride and anchor of each prediction."""
        height, width = batch.tensor.shape[-2:]
        sizes = [(height // step, width // step) for step in self.backbone.strides]
        return Places.of([s.to(batch.tensor.device) for s in self.shapes], sizes, self.backbone.strides)

    def boxes(self, outputs: Outputs, places: Places) -> Tensor:
        """The predicted boxes: [N, D, 4] xyxy in pixels of the batch, float32.

        YOLO v3, section 2.1, and YOLO v4 (Bochkovskiy et al. 2020), section 3.4 for the grid.
        """
        grid, numbers = self.settings.grid, outputs.places.float()
        within = grid * numbers[..., :2].sigmoid() - (grid - 1) / 2
        centres = (places.cells + within) * places.strides[:, None]
        sides = places.anchors * numbers[..., 2:].clamp(max=MAX_LOG_RATIO).exp()
        return box_convert(torch.cat([centres, sides], -1), "cxcywh", "xyxy")

    def assign(self, boxes: Tensor, places: Places, targets: Sequence[Instances]) -> tuple[Tensor, Tensor]:
        """Assign each object to the cell of its centre and the anchor, among all levels, of the most similar shape.

        Other predictions that overlap an object well are ignored (YOLO v3, section 2.1).

        Args:
            boxes: the predicted boxes [N, D, 4].
            places: cell and anchor of each prediction.
            targets: targets of each image.

        Returns:
            [N, D] int64 index of the object of each prediction, or −1; and [N, D] bool, whether it is ignored.
        """
        matches = torch.full(boxes.shape[:2], -1, dtype=torch.int64, device=boxes.device)
        ignored = torch.zeros_like(matches, dtype=torch.bool)
        shapes = torch.cat(list(places.shapes))
        level_of = torch.cat([torch.full((len(s),), i, device=boxes.device) for i, s in enumerate(places.shapes)])
        anchor_of = torch.cat([torch.arange(len(s), device=boxes.device) for s in places.shapes])
        for i, target in enumerate(targets):
            if not len(target):
                continue
            centres, sides = box_convert(target.boxes, "xyxy", "cxcywh").split(2, -1)
            best = shape_iou(sides, shapes).nan_to_num().argmax(1)
            level = level_of[best]
            step = level.new_tensor(list(places.steps))[level]
            limits = level.new_tensor([(w, h) for h, w in places.sizes])[level] - 1
            cell = torch.minimum((centres / step[:, None]).floor().long().clamp(min=0), limits)
            ids = places.ids(level, anchor_of[best], cell[:, 0], cell[:, 1])
            objects = torch.arange(len(ids), device=ids.device)
            matches[i] = matches[i].scatter_reduce(0, ids, objects, "amax")
            overlaps = box_iou(target.boxes, boxes[i]).amax(0)
            ignored[i] = (overlaps > self.settings.ignore_iou) & (matches[i] < 0)
        return matches, ignored

    def losses(
        self,
        outputs: Outputs,
        boxes: Tensor,
        places: Places,
        matches: Tensor,
        ignored: Tensor,
        targets: Sequence[Instances],
    ) -> Losses:
        """The losses of YOLO v3, section 2.1, and PP-YOLO, section 3.2: summed over each image, averaged over images.

        Centres: cross-entropy. Sizes: absolute error of the logarithm. Both, and the IoU loss 1 − IoU, are weighted by
        2 − (area of the object / area of the image). Objectness: binary cross-entropy of all predictions that are not
        ignored. Classes: binary cross-entropy. Predicted IoU: cross-entropy with the actual IoU.
        """
        s, count = self.settings, len(matches)
        image, place = (matches >= 0).nonzero(as_tuple=True)
        own = matches[image, place]
        firsts = own.new_tensor([sum(len(t) for t in targets[:i]) for i in range(count)])
        target_boxes = torch.cat([t.boxes for t in targets])[firsts[image] + own].float()
        labels = torch.cat([t.labels for t in targets])[firsts[image] + own] - 1
        areas = target_boxes.new_tensor([t.image_size[0] * t.image_size[1] for t in targets])
        centres, sides = box_convert(target_boxes, "xyxy", "cxcywh").split(2, -1)
        sides = sides.clamp(min=_LEAST_SIDE)
        small = 2 - sides.prod(-1) / areas[image]
        within = centres / places.strides[place, None] - places.cells[place]
        within = ((within + (s.grid - 1) / 2) / s.grid).clamp(0, 1)
        numbers = outputs.places[image, place].float()
        centre = F.binary_cross_entropy_with_logits(numbers[:, :2], within, reduction="none").sum(-1)
        size = (numbers[:, 2:] - torch.log(sides / places.anchors[place])).abs().sum(-1)
        objectness = F.binary_cross_entropy_with_logits(
            outputs.objectness.float(), (matches >= 0).float(), reduction="none"
        )
        classes = outputs.classes[image, place].float()
        wanted_classes = F.one_hot(labels, classes.shape[-1]).to(classes.dtype)
        losses = {
            "loss_centre": (centre * small).sum() / count,
            "loss_size": (size * small).sum() / count,
            "loss_objectness": objectness.masked_fill(ignored, 0.0).sum() / count,
            "loss_classification": F.binary_cross_entropy_with_logits(classes, wanted_classes, reduction="sum") / count,
        }
        apart = iou_loss(boxes[image, place], target_boxes)
        if s.iou > 0:
            losses["loss_iou"] = s.iou * (apart * small).sum() / count
        if outputs.iou is not None:
            true = (1 - apart.detach()).clamp(0, 1)
            predicted = outputs.iou[image, place].float()
            aware = F.binary_cross_entropy_with_logits(predicted, true, reduction="sum")
            losses["loss_iou_aware"] = s.iou_aware * aware / count
        return losses

    @torch.no_grad()
    def decode(self, outputs: Outputs, places: Places, sizes: Sequence[Size]) -> Detections:
        """The best boxes of each image after per-class NMS; labels are columns of the head, 1 … K."""
        s, results = self.settings, []
        scores = self.scores(outputs)
        for score, boxes, size in zip(scores, self.boxes(outputs, places), sizes, strict=True):
            values, ids = score.flatten().topk(min(s.candidates, score.numel()))
            ids = ids[values > s.min_score]
            place, label = ids // score.shape[1], ids % score.shape[1]
            found, value = clip_boxes_to_image(boxes[place], size), values[: len(ids)]
            if s.suppression == "greedy":
                keep = batched_nms(found, value, label, s.nms_iou)
                value = value[keep]
            else:
                keep, value = matrix_nms(found, value, label, s.suppression, score_threshold=s.min_score)
            keep, value = keep[: s.max_detections], value[: s.max_detections]
            results.append({"boxes": found[keep], "labels": label[keep] + 1, "scores": value})
        return results

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        """Like `Detector.candidates`; origins are anchors around the centres of their cells."""
        outputs, places = self.network(batch.tensor), self.places(batch)
        centres = (places.cells + 0.5) * places.strides[:, None]
        origins = box_convert(torch.cat([centres, places.anchors], 1), "cxcywh", "xyxy")
        counts = [height * width * len(s) for (height, width), s in zip(places.sizes, places.shapes, strict=True)]
        logits, scores = self.of_classes(outputs.classes.float()), self.of_classes(self.scores(outputs))
        return DenseCandidates(self.boxes(outputs, places), logits, scores, origins, counts)

    def map_layers(self) -> list[nn.Module]:
        """The maps of the neck."""
        return map_layers(self.neck)

    def selection(self) -> Selection:
        """Matrix NMS by default, which lowers the scores of overlapping boxes."""
        s = self.settings
        method: Method = "nms" if s.suppression == "greedy" else "matrix_nms"
        return Selection(
            s.min_score,
            s.candidates,
            "image",
            method=method,
            nms_iou=s.nms_iou,
            max_detections=s.max_detections,
            decay="linear" if s.suppression == "linear" else "gaussian",
        )

    def scores(self, outputs: Outputs) -> Tensor:
        """Scores [N, D, K] of each class: class · objectness, or class · objectness^(1 − α) · IoU^α."""
        object_score = outputs.objectness.float().sigmoid()
        if outputs.iou is not None:
            power = self.settings.iou_power
            object_score = object_score ** (1 - power) * outputs.iou.float().sigmoid() ** power
        return outputs.classes.float().sigmoid() * object_score[..., None]

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """Width and height of the anchors, [A, 2], in pixels of an image of size `image_size`."""
        height, width = self.preprocess.resized(image_size)
        shapes = torch.cat(self.shapes)
        return shapes * shapes.new_tensor([image_size[1] / width, image_size[0] / height])


SETTINGS = PPYOLOSettings()


def pp_yolo_resnet50_vd(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 608,
    deformable: bool = True,
    coord_conv: bool = True,
    spp: bool = True,
    drop_block: bool = True,
    iou_aware: bool = True,
    anchors: Anchors | None = None,
    settings: PPYOLOSettings = SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> PPYOLO:
    """The paper's network: 47,046,327 parameters with 80 classes.

    With the running statistics of the normalisation layers, this is the paper's 44.93 · 2²⁰ (table 2, I); without
    CoordConv, SPP and predicted IoU it is 43.89 · 2²⁰ (B). The paper's ImageNet weights are published in the format of
    another framework. A classifier of the same network with keys such as `conv1.0.weight` and
    `layer1.0.downsample.1.weight` loads into the backbone, deformable or not.

    Args:
        classes: names of the classes.
        in_channels: number of channels of the images.
        image_size: side of the square that images are resized to, in pixels, a multiple of 32.
        deformable: whether the backbone's last stage has deformable convolutions.
        coord_conv: whether the neck's 1×1 convolutions and the head's first convolution are `CoordConv` layers.
        spp: whether there is spatial pyramid pooling at the coarsest level.
        drop_block: whether the neck has DropBlock in training.
        iou_aware: whether the IoU of each box is predicted and used in its score.
        anchors: (width, height) of the anchors of each level in pixels of the resized image, from fine to coarse; by
            default those of YOLO v3 for COCO.
        settings: loss weights, thresholds and limits, including grid-sensitive decoding, IoU loss and matrix NMS.
        output_ids: as in `Detector`.

    Raises:
        InputError: the image size is not a multiple of 32, or the anchors do not fit the levels.
    """
    net = resnet50_vd(in_channels=in_channels, deformable=deformable)
    backbone = net.maps_of(net.stages[1:])
    neck = YOLOv3Neck(backbone.channels, coord_conv=coord_conv, spp=spp, drop_block=_DROP if drop_block else None)
    return _pp_yolo(
        net, classes, backbone, neck, anchors or _ANCHORS, in_channels, image_size, iou_aware, settings, output_ids
    )


def pp_yolo_resnet18_vd(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 416,
    deformable: bool = False,
    coord_conv: bool = True,
    spp: bool = True,
    drop_block: bool = True,
    iou_aware: bool = True,
    anchors: Anchors | None = None,
    settings: PPYOLOSettings = SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> PPYOLO:
    """PP-YOLO on ResNet-18-vd: two levels, no pairs of convolutions in the neck; 19,099,492 parameters with 80 classes.

    Not in the paper; its authors published a model of this size later. Arguments as for `pp_yolo_resnet50_vd`.
    """
    net = resnet18_vd(in_channels=in_channels, deformable=deformable)
    backbone = net.maps_of(net.stages[2:])
    drop = _DROP if drop_block else None
    neck = YOLOv3Neck(backbone.channels, pairs=0, coord_conv=coord_conv, spp=spp, drop_block=drop)
    return _pp_yolo(
        net, classes, backbone, neck, anchors or _TWO_LEVELS, in_channels, image_size, iou_aware, settings, output_ids
    )


def pp_yolo_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 320,
    coord_conv: bool = True,
    spp: bool = True,
    drop_block: bool = True,
    iou_aware: bool = True,
    anchors: Anchors | None = None,
    settings: PPYOLOSettings = SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> PPYOLO:
    """PP-YOLO on MobileNet v2, for CPUs: three levels and a narrow neck; 2,799,110 parameters with 80 classes.

    The neck has no pairs of convolutions and a quarter of the width. Not in the paper. Arguments as of
    `pp_yolo_resnet50_vd`.
    """
    net = mobilenet_v2(in_channels=in_channels)
    backbone = net.maps_of(net.stages[-3:])
    drop = _DROP if drop_block else None
    neck = YOLOv3Neck(backbone.channels, 128, 0, coord_conv=coord_conv, spp=spp, drop_block=drop)
    model = _pp_yolo(
        net, classes, backbone, neck, anchors or _ANCHORS, in_channels, image_size, iou_aware, settings, output_ids
    )
    model.recipe_defaults = model.recipe_defaults | SMALL_RATE
    return model


def _pp_yolo(
    net: nn.Module,
    classes: Iterable[str],
    backbone: FeatureMaps,
    neck: YOLOv3Neck,
    anchors: Anchors,
    in_channels: int,
    image_size: int,
    iou_aware: bool,
    settings: PPYOLOSettings,
    output_ids: Sequence[int] | None,
) -> PPYOLO:
    step = max(backbone.strides)
    if image_size < step or image_size % step:
        low = max(image_size // step * step, step)
        raise InputError(
            f"image_size is {image_size}, but it must be a multiple of {step}, the coarsest map's stride; "
            f"give {low} or {low + step}"
        )
    pairs = all(len(shape) == 2 and min(shape) > 0 for level in anchors for shape in level)
    if len(anchors) != len(backbone.strides) or not all(anchors) or not pairs:
        raise InputError(
            f"anchors are {anchors!r}, but must be {len(backbone.strides)} lists, one per level from fine to coarse, "
            "of pairs (width, height) above 0; `sightline anchors DATA` computes them from a dataset"
        )
    names = Classes(classes)
    head = YOLOv3Head(neck.channels, [len(a) for a in anchors], head_outputs(names, output_ids), iou_aware)
    preprocess = Preprocess(
        for_channels(IMAGENET_MEAN, in_channels),
        for_channels(IMAGENET_STD, in_channels),
        fixed_size=(image_size, image_size),
        divisor=step,
    )
    model = PPYOLO(names, preprocess, backbone, neck, head, anchors, settings, output_ids)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Long et al. 2020, PP-YOLO: an effective and efficient implementation of object detector"

ENTRIES = (
    Entry(name="pp_yolo_resnet50_vd", builder=pp_yolo_resnet50_vd, task="detection", paper=_PAPER),
    Entry(name="pp_yolo_resnet18_vd", builder=pp_yolo_resnet18_vd, task="detection", paper=_PAPER),
    Entry(
        name="pp_yolo_mobilenet_v2",
        builder=pp_yolo_mobilenet_v2,
        task="detection",
        paper=_PAPER,
        backbone="mobilenet_v2",
    ),
)

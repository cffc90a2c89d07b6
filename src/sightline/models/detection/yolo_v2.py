"""YOLO v2: Redmon and Farhadi, "YOLO9000: better, faster, stronger", CVPR 2017, section 2.

Each cell of the last map predicts A boxes relative to anchors, which k-means clustering finds in the data. The centre
of a box stays in its cell ("direct location prediction"), and each box has its own class scores. The network is fully
convolutional, and the image size changes every ten batches in training.

The four steps are separate methods: `network`, `assign`, `losses`, `decode`.

Departure: a 1×1 convolution reduces the passthrough from 26 × 26 × 512 to 64 channels, so that 13 × 13 × 256 are
concatenated with the last map, as in the authors' configuration files; the paper's text has no such layer and
13 × 13 × 2048.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.class_outputs import Output, outputs_in_groups
from sightline.models.detection.candidates import DenseCandidates, Selection
from sightline.models.detection.detector import SMALL_RATE, Detections, Detector
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.models.weights import shared_keys
from sightline.nn.backbones.darknet import darknet19
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.heads.yolo_v2 import RegionOutputs, YOLOv2Head, region_boxes, split_region
from sightline.ops.anchor_clusters import shape_iou
from sightline.ops.boxes import (
    box_convert,
    box_iou,
    clip_boxes_to_image,
    denormalize_boxes,
    elementwise_iou,
    normalize_boxes,
)
from sightline.ops.suppression import batched_nms
from sightline.structures import Classes, ImageBatch, Instances, Size

STRIDE = 32
Anchors = Sequence[Sequence[float]]
"""(width, height) of each anchor in cells of 32 pixels."""

VOC_ANCHORS: Anchors = (
    (1.3221, 1.73145),
    (3.19275, 4.00944),
    (5.05587, 8.09892),
    (9.47112, 4.84053),
    (11.2364, 10.0071),
)
COCO_ANCHORS: Anchors = (
    (0.57273, 0.677385),
    (1.87446, 2.06253),
    (3.33843, 5.47434),
    (7.88282, 3.52778),
    (9.77052, 9.16828),
)
"""The authors' anchors for images of 416 × 416 pixels, 13 × 13 cells, from their configuration files."""


@dataclass(frozen=True)
class YOLOv2Settings:
    """Settings of YOLO v2.

    Attributes:
        coordinates, objects, no_objects, classes: loss weights of the box coordinates, of the objectness of responsible
            boxes, of the objectness of boxes without an object, and of the classes.
        rescore: whether the target objectness of responsible boxes is their IoU with the object, instead of 1.
        ignore_iou: boxes with a higher IoU with an object that they are not responsible for are not trained as
            background.
        prior: weight of a loss early in training, which trains all other boxes to be their anchors at the centre of
            their cells; 0 disables it.
        prior_images: number of training images for which the prior loss is used.
        min_score: boxes with a lower score are removed.
        nms_iou: IoU above which NMS removes the lower-scoring box of the same class.
        candidates: maximum number of (box, class) pairs per image before NMS.
        max_detections: maximum number of detections per image.
    """

    coordinates: float = 1.0
    objects: float = 5.0
    no_objects: float = 1.0
    classes: float = 1.0
    rescore: bool = True
    ignore_iou: float = 0.6
    prior: float = 0.01
    prior_images: int = 12_800
    min_score: float = 0.005
    nms_iou: float = 0.45
    candidates: int = 1000
    max_detections: int = 100


class Assignment(NamedTuple):
    """The targets of the predicted boxes; M of them are responsible for an object.

    Attributes:
        places: four int64 [M]: image, row, column and anchor of each responsible box.
        labels: [M] int64, class 0 … K − 1 of its object.
        centres: [M, 2], offset of the object's centre from the cell's top-left corner, in cells.
        sides: [M, 2], logarithms of the object's width and height relative to the anchor.
        ious: [M], IoU of the predicted box with its object.
        empty: [N, H, W, A] bool, the boxes that are trained as background.
    """

    places: tuple[Tensor, Tensor, Tensor, Tensor]
    labels: Tensor
    centres: Tensor
    sides: Tensor
    ious: Tensor
    empty: Tensor


class YOLOv2(Detector):
    """Backbone → maps of stride 16 and 32 → head → region map → boxes.

    The paper does not specify the loss. It is that of the authors' program, darknet: half the squared differences of
    (σ(tx), σ(ty), tw, th) and of objectness, and the cross-entropy of the classes, without the weight 2 − w·h of later
    versions. If several objects are assigned to the same anchor of a cell, the first is used (darknet: the last).

    The size of training images is drawn from PyTorch's default generator every ten batches (before accumulation of
    gradients). The number of images and batches seen and the current size are part of the state dict (`seen`), so that
    a resumed training continues in the same way. They are not loaded from weights of other classes.

    Args:
        classes: names of the K classes.
        preprocess: preprocessing of images into a batch of a fixed size.
        backbone: batch [N, channels, H, W] → maps of stride 16 and 32.
        head: those two maps → region map [N, A·(5 + K), H / 32, W / 32].
        anchors: (width, height) of the anchors in cells, the same for all image sizes.
        sizes: sides of the square training images in pixels; empty for that of `preprocess`.
        settings: loss weights and thresholds.
        output_ids: as for `Detector`.
    """

    origin = "anchor"
    class_layers = r"^(head\.last\.|seen$)"
    background_output = False
    batches_a_size = 10

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: FeatureMaps,
        head: nn.Module,
        anchors: Anchors,
        sizes: Sequence[int] = (),
        settings: YOLOv2Settings | None = None,
        output_ids: Sequence[int] | None = None,
    ):
        super().__init__(classes, preprocess, output_ids)
        self.backbone = backbone
        self.head = head
        self.sizes = tuple(sizes)
        self.settings = settings or YOLOv2Settings()
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)
        # number of images and batches seen in training, and the current image size
        self.register_buffer("seen", torch.zeros(3, dtype=torch.int64))

    anchors: Tensor
    seen: Tensor

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None
    ) -> tuple[ImageBatch, list[Instances] | None]:
        """Like every detector; in training, at the current training size (section 2, "Multi-scale training")."""
        if targets is None or not self.training:
            return super().prepare(images, targets)
        self.preprocess.check(images)
        whole = self.preprocess.fixed_size
        try:
            if self.sizes:
                side = self._training_size()
                self.preprocess.fixed_size = (side, side)
            batch, moved = super().prepare(images, targets)
        finally:
            self.preprocess.fixed_size = whole
        self.seen[0] += len(images)
        self.seen[1] += 1
        return batch, moved

    def _training_size(self) -> int:
        _, batches, side = self.seen.tolist()
        if batches % self.batches_a_size == 0 or side not in self.sizes:
            side = self.sizes[int(torch.randint(len(self.sizes), ()))]
            self.seen[2] = side
        return side

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """For each anchor: box and objectness, then the classes. What was seen was seen of other classes."""
        found = None if key == "seen" else outputs_in_groups(self.output_names, shape[0], own=5)
        return [] if found is None else [found]

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the losses."""
        outputs = self.split(self.network(batch.tensor))
        if targets is None:
            return self.decode(outputs, batch.sizes), {}
        return [], self.losses(outputs, self.assign(outputs, targets))

    def network(self, images: Tensor) -> Tensor:
        """Batch [N, C, H, W] → region map [N, A·(5 + K), H / 32, W / 32]."""
        return self.head(*self.backbone(images).values())

    def split(self, tensor: Tensor) -> RegionOutputs:
        """The region map → its parts, in float32."""
        return split_region(tensor, len(self.anchors))

    def anchor_shapes(self, size: Size) -> Tensor:
        """Width and height of the anchors, [A, 2], in pixels of an image of size `size`."""
        height, width = self.preprocess.resized(size)
        return self.anchors * STRIDE * self.anchors.new_tensor([size[1] / width, size[0] / height])

    @torch.no_grad()
    def assign(self, outputs: RegionOutputs, targets: Sequence[Instances]) -> Assignment:
        """Assign each object to the cell that contains its centre, and the anchor with the most similar shape."""
        boxes = region_boxes(outputs, self.anchors)
        height, width, anchors = outputs.objects.shape[1:]
        size = boxes.new_tensor([width, height])
        found = box_convert(boxes, "cxcywh", "xyxy")
        empty = torch.ones_like(outputs.objects, dtype=torch.bool)
        parts: list[tuple[Tensor, ...]] = []
        for image, target in enumerate(targets):
            target_boxes = normalize_boxes(target.boxes, target.image_size)
            if len(target):
                best = box_iou(found[image].reshape(-1, 4), target_boxes).nan_to_num().amax(1)
                empty[image] = (best <= self.settings.ignore_iou).view(height, width, anchors)
            place = box_convert(target_boxes, "xyxy", "cxcywh")
            middle, shape = place[:, :2] * size, place[:, 2:] * size
            # a centre on the far border is inside, too
            column, row = (v.long().clamp(0, n - 1) for v, n in zip(middle.unbind(1), (width, height), strict=True))
            anchor = shape_iou(shape, self.anchors).argmax(1) if len(target) else row
            cell = (row * width + column) * anchors + anchor
            first = _first(cell)
            row, column, anchor, shape = row[first], column[first], anchor[first], shape[first]
            empty[image, row, column, anchor] = False
            iou = elementwise_iou(found[image, row, column, anchor], target_boxes[first], eps=1e-12)
            parts.append(
                (
                    torch.full_like(row, image),
                    row,
                    column,
                    anchor,
                    target.labels[first] - 1,  # the head has no background output
                    middle[first] - torch.stack([column, row], -1),
                    (shape.clamp(min=1e-6) / self.anchors[anchor]).log(),
                    iou,
                )
            )
        image_, row, column, anchor, labels, centres, sides, ious = (torch.cat(v) for v in zip(*parts, strict=True))
        return Assignment((image_, row, column, anchor), labels, centres, sides, ious, empty)

    def losses(self, outputs: RegionOutputs, assigned: Assignment) -> Losses:
        """The weighted losses, summed over the boxes and divided by the number of images.

        "loss_box", "loss_objectness" and "loss_classification" of responsible boxes; "loss_no_object" of background
        boxes; "loss_prior" of all boxes that are not responsible, which is 0 after the first `prior_images` images. The
        classification loss is the negative log-likelihood; all others are half the squared differences.
        """
        s, at, count = self.settings, assigned.places, len(outputs.objects)
        objects = outputs.objects.sigmoid()
        objectness_targets = assigned.ious if s.rescore else torch.ones_like(assigned.ious)
        apart = (outputs.centres[at] - assigned.centres).square() + (outputs.sides[at] - assigned.sides).square()
        terms = {
            "loss_box": s.coordinates / 2 * apart.sum(),
            "loss_objectness": s.objects / 2 * (objects[at] - objectness_targets).square().sum(),
            "loss_no_object": s.no_objects / 2 * objects[assigned.empty].square().sum(),
            "loss_classification": s.classes * self.class_loss(outputs.classes[at], assigned.labels),
        }
        if self._has_prior:
            others = torch.ones_like(assigned.empty)
            others[at] = False
            early = (self.seen[0] <= s.prior_images).to(objects.dtype)
            moved = (outputs.centres - 0.5).square() + outputs.sides.square()
            terms["loss_prior"] = early * s.prior / 2 * moved[others].sum()
        return {name: term / count for name, term in terms.items()}

    @property
    def _has_prior(self) -> bool:
        return self.settings.prior > 0 and self.settings.prior_images > 0

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum of the negative log-likelihoods of labels [M] for logits [M, K]."""
        return F.cross_entropy(logits, labels, reduction="sum")

    @torch.no_grad()
    def decode(self, outputs: RegionOutputs, sizes: Sequence[Size]) -> Detections:
        """The best boxes of each image after per-class NMS.

        The score is P(class | object), by softmax, times objectness.
        """
        results = []
        for (box, confidence), logit in zip(self.placed(outputs, sizes), outputs.classes.flatten(1, 3), strict=True):
            which, label, score = self.scores(confidence, logit)
            best = score.argsort(stable=True, descending=True)[: self.settings.candidates]
            box, label, score = box[which[best]], label[best], score[best]
            keep = batched_nms(box, score, label, self.settings.nms_iou)[: self.settings.max_detections]
            results.append({"boxes": box[keep], "labels": label[keep] + 1, "scores": score[keep]})
        return results

    def placed(self, outputs: RegionOutputs, sizes: Sequence[Size]) -> list[tuple[Tensor, Tensor]]:
        """The boxes [D, 4] of each image, clipped to it, and their objectness [D], 0 for boxes outside the image."""
        boxes = box_convert(region_boxes(outputs, self.anchors), "cxcywh", "xyxy").flatten(1, 3)
        found = []
        for box, confidence, size in zip(boxes, outputs.objects.flatten(1).sigmoid(), sizes, strict=True):
            box = clip_boxes_to_image(denormalize_boxes(box, size), size)
            found.append((box, confidence * (box[:, 2:] > box[:, :2]).all(1)))
        return found

    def score_table(self, objects: Tensor, logits: Tensor) -> Tensor:
        """Objectness [..., D] and logits [..., D, K] → scores [..., D, K]."""
        return objects[..., None] * logits.softmax(-1)

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        """Like `Detector.candidates`; origins are anchors around the centres of their cells.

        Boxes outside the image have scores of 0.
        """
        outputs = self.split(self.network(batch.tensor))
        middle = torch.full_like(outputs.centres[:1], 0.5)
        still = RegionOutputs(middle, torch.zeros_like(middle), outputs.objects[:1], outputs.classes[:1])
        anchors = box_convert(region_boxes(still, self.anchors), "cxcywh", "xyxy").flatten(0, 3)
        canvas: Size = (batch.tensor.shape[-2], batch.tensor.shape[-1])
        origins, logits = denormalize_boxes(anchors, canvas), outputs.classes.flatten(1, 3)
        boxes = box_convert(region_boxes(outputs, self.anchors), "cxcywh", "xyxy").flatten(1, 3)
        boxes = clip_boxes_to_image(denormalize_boxes(boxes, canvas), canvas)  # every image fills the batch
        objects = outputs.objects.flatten(1).sigmoid() * (boxes[..., 2:] > boxes[..., :2]).all(-1)
        scores = self.of_classes(self.score_table(objects, logits))
        return DenseCandidates(boxes, self.of_classes(logits), scores, origins, [origins.shape[0]])

    def map_layers(self) -> list[nn.Module]:
        """The map that the last convolution reads."""
        return map_layers(self.head)

    def selection(self) -> Selection:
        s = self.settings
        return Selection(s.min_score, s.candidates, "image", nms_iou=s.nms_iou, max_detections=s.max_detections)

    def scores(self, objects: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Objectness [D] and logits [D, K] → box, class and score of each (box, class) pair above the minimum score."""
        score = self.score_table(objects, logits)
        which, label = (score > self.settings.min_score).nonzero(as_tuple=True)
        return which, label, score[which, label]


def _first(cells: Tensor) -> Tensor:
    """Indices of the first occurrence of each value of [M], in order."""
    same = cells[:, None] == cells[None]
    return (~same.tril(-1).any(1)).nonzero().flatten()


SETTINGS = YOLOv2Settings()


def yolo_v2_darknet19(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 416,
    anchors: list[list[float]] | None = None,
    sizes: list[int] | None = None,
    settings: YOLOv2Settings = SETTINGS,
) -> YOLOv2:
    """The paper's network: 50,962,889 parameters with COCO's 80 classes.

    Darknet-19's convolutions, two more with 1024 channels, the passthrough from 26 × 26 × 512 (64 channels, then
    13 × 13 × 256), one more convolution, and the output layer. `recipe_defaults` holds the paper's training settings
    (section 2, "Training for detection") except for its augmentation. Departures from darknet's weights: images are
    normalised as for ImageNet classifiers, and space-to-depth uses the usual channel order.

    Args:
        classes: names of the classes.
        in_channels: number of channels of the images.
        image_size: side of the square that images are resized to, in pixels, a multiple of 32.
        anchors: (width, height) of each anchor, in cells of 32 pixels; by default the authors' anchors for COCO, scaled
            by `image_size` / 416. `sightline anchors DATA` computes anchors from a dataset.
        sizes: sides of the training images, multiples of 32; [] uses only `image_size`. By default all multiples of 32
            from 320/416 to 608/416 of `image_size`, which are the paper's 320, 352 … 608.
        settings: loss weights and thresholds.
    """
    return _paper(YOLOv2, classes, in_channels, image_size, anchors, sizes, settings)


def yolo_v2_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 256,
    anchors: list[list[float]] | None = None,
    sizes: list[int] | None = None,
    settings: YOLOv2Settings = SETTINGS,
) -> YOLOv2:
    """YOLO v2 on MobileNet v2, with the passthrough from its map of stride 16, for training on CPUs.

    Departures: the backbone; a head with 256 instead of 1024 channels, and 32 channels for the fine map.

    Args:
        classes, in_channels, anchors, sizes, settings: as for `yolo_v2_darknet19`.
        image_size: side of the square that images are resized to, in pixels, a multiple of 32.
    """
    return _small(YOLOv2, classes, in_channels, image_size, anchors, sizes, settings)


def _paper(kind: type[Any], *common: Any, **more: Any) -> Any:
    model = _assemble(kind, darknet19(in_channels=common[1]), (4, 5), 1024, 64, *common, **more)
    model.recipe_defaults = {
        "epochs": 160,
        "optimizer": "sgd",
        "lr": 1e-3,
        "weight_decay": 5e-4,
        "batch_size": 8,
        "accumulate": 8,  # 64 images per step
        "warmup_steps": 1000,
        "schedule": "step",
        "milestones": (60 / 160, 90 / 160),
    }
    return model


def _small(kind: type[Any], *common: Any, **more: Any) -> Any:
    model = _assemble(kind, mobilenet_v2(in_channels=common[1]), (3, 4), 256, 32, *common, **more)
    model.recipe_defaults = model.recipe_defaults | SMALL_RATE
    return model


def _assemble(
    kind: type[Any],
    net: nn.Module,
    taken: tuple[int, int],
    width: int,
    passed: int,
    classes: Iterable[str],
    in_channels: int,
    image_size: int,
    anchors: Anchors | None,
    sizes: Sequence[int] | None,
    settings: YOLOv2Settings,
    *,
    outputs: int | None = None,
    usual: Anchors = COCO_ANCHORS,
    usual_size: int = 416,
    **more: Any,
) -> Any:
    names = Classes(classes)
    if sizes is None:
        low, high = (max(1, round(image_size * v / 416 / STRIDE)) for v in (320, 608))
        sizes = [STRIDE * n for n in range(low, high + 1)]
    for what, side in (("image_size", image_size), *(("a training size", side) for side in sizes)):
        if side < STRIDE or side % STRIDE:
            near = max(1, round(side / STRIDE)) * STRIDE
            raise InputError(f"{what} is {side}, but must be a multiple of the stride {STRIDE}, such as {near}")
    if anchors is None:
        anchors = [[v * image_size / usual_size for v in shape] for shape in usual]
    if not anchors or not all(_is_shape(shape) for shape in anchors):
        raise InputError(f"anchors are {anchors}, but must be pairs of width and height in cells, above 0")
    stages: Any = net.stages
    body = net.maps_of([stages[i] for i in taken])  # type: ignore[operator]
    fine, coarse = body.channels
    head = YOLOv2Head(fine, coarse, len(anchors), outputs or len(names), width=width, passed=passed)
    mean, std = for_channels(IMAGENET_MEAN, in_channels), for_channels(IMAGENET_STD, in_channels)
    preprocess = Preprocess(mean, std, fixed_size=(image_size, image_size), divisor=1)
    model = kind(names, preprocess, body, head, anchors, sizes, settings, **more)
    model.backbone_keys = shared_keys(net, model)
    return model


def _is_shape(shape: Sequence[float]) -> bool:
    return len(shape) == 2 and all(0 < v < math.inf for v in shape)


_PAPER = "Redmon and Farhadi 2017, YOLO9000: better, faster, stronger"

ENTRIES = (
    Entry(name="yolo_v2_darknet19", builder=yolo_v2_darknet19, task="detection", paper=_PAPER, backbone="darknet19"),
    Entry(
        name="yolo_v2_mobilenet_v2",
        builder=yolo_v2_mobilenet_v2,
        task="detection",
        paper=_PAPER,
        backbone="mobilenet_v2",
    ),
)

"""YOLO v1: Redmon et al., "You only look once: unified, real-time object detection", CVPR 2016.

The image is divided into S × S cells. The cell that contains the centre of an object is responsible for it. Each cell
predicts B boxes and one set of C class probabilities. The output of the network is a tensor of shape S × S × (5B + C).

The four steps are separate methods: `network`, `assign`, `losses`, `decode`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.class_outputs import Output, outputs_in_groups
from sightline.models.detection.candidates import Candidates, DenseCandidates, Selection
from sightline.models.detection.detector import SMALL_RATE, Detections, Detector
from sightline.models.detection.localiser import encode_place
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.models.weights import shared_keys
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.yolo_v1 import YOLOv1Net
from sightline.nn.heads.yolo_v1 import GridHead, YOLOv1Head
from sightline.ops.boxes import box_convert, clip_boxes_to_image, denormalize_boxes, elementwise_iou
from sightline.ops.suppression import batched_nms
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class YOLOv1Settings:
    """Settings of YOLO v1.

    Attributes:
        coordinates, objects, no_objects, classes: loss weights (equation 3) of the box coordinates, of the confidence
            of responsible boxes, of the confidence of all other boxes, and of the class probabilities.
        min_score: boxes with a lower class-specific confidence are removed.
        nms_iou: IoU above which NMS removes the lower-scoring box of the same class.
        max_detections: maximum number of detections per image.
    """

    coordinates: float = 5.0
    objects: float = 1.0
    no_objects: float = 0.5
    classes: float = 1.0
    min_score: float = 0.01
    nms_iou: float = 0.5
    max_detections: int = 100


class Outputs(NamedTuple):
    """The parts of the network's output.

    Attributes:
        places: [N, S, S, B, 4], (x, y, √w, √h): centre relative to the cell's top-left corner, as a fraction of the
            cell; square roots of width and height as fractions of the image.
        confidences: [N, S, S, B]: probability of an object times IoU of the box.
        classes: [N, S, S, C]: probability of each class, given an object.
    """

    places: Tensor
    confidences: Tensor
    classes: Tensor


class Assignment(NamedTuple):
    """The targets of each cell.

    Attributes:
        labels: [N, S, S] int64, class 0 … C − 1 of the object in the cell, or −1 without an object.
        places: [N, S, S, 4], (x, y, √w, √h) of that object.
        responsible: [N, S, S, B] bool, whether the predicted box is responsible for the object.
        ious: [N, S, S, B] IoU of each predicted box with the object of its cell.
    """

    labels: Tensor
    places: Tensor
    responsible: Tensor
    ious: Tensor


class YOLOv1(Detector):
    """Backbone → head → grid → boxes.

    Details that the paper does not specify are those of the authors' program, darknet: if several objects have their
    centres in one cell, only the first one in the order of the target is used (darknet shuffles the objects first); if
    no box of a cell overlaps its object, the nearest box is responsible.

    The outputs are linear and can have any value. Departure: they are clipped to [0, 1] for scores. A negative √w or √h
    is decoded as a side of 0, which never gives a detection; the loss uses the output itself, so that its gradient
    increases the side.

    Args:
        classes: names of the C classes.
        preprocess: preprocessing of images into a batch of a fixed size.
        backbone: batch [N, channels, H, W] → map.
        head: map → [N, S, S, 5B + C].
        grid: S.
        boxes: B.
        settings: loss weights and thresholds.
    """

    class_layers = r"^head\.last\."
    background_output = False

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        head: nn.Module,
        grid: int,
        boxes: int = 2,
        settings: YOLOv1Settings | None = None,
    ):
        super().__init__(classes, preprocess)
        self.backbone = backbone
        self.head = head
        self.grid, self.boxes = grid, boxes
        self.settings = settings or YOLOv1Settings()

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """For each cell, unless all share one convolution: B boxes with their confidences, then the classes."""
        found = outputs_in_groups(self.output_names, shape[0], own=5 * self.boxes)
        return [] if found is None else [found]

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the five losses."""
        outputs = self.split(self.network(batch.tensor))
        if targets is None:
            return self.decode(outputs, batch.sizes), {}
        return [], self.losses(outputs, self.assign(outputs, targets))

    def network(self, images: Tensor) -> Tensor:
        """Batch [N, C, H, W] → [N, S, S, 5B + C]: (x, y, √w, √h, confidence) of each box, then the classes."""
        return self.head(self.backbone(images))

    def split(self, tensor: Tensor) -> Outputs:
        """[N, S, S, 5B + C] → its parts, in float32."""
        boxes = tensor[..., : 5 * self.boxes].unflatten(-1, (self.boxes, 5)).float()
        return Outputs(boxes[..., :4], boxes[..., 4], tensor[..., 5 * self.boxes :].float())

    @torch.no_grad()
    def assign(self, outputs: Outputs, targets: Sequence[Instances]) -> Assignment:
        """The object of each cell, and the box of the cell that is responsible for it (section 2.2).

        It is the box with the highest IoU with the object; if none overlaps it, the one with the smallest root mean
        square difference of (x, y, w, h), as fractions of the image. Ties are resolved to the first box.
        """
        labels, places = (torch.stack(parts) for parts in zip(*map(self.objects_of_cells, targets), strict=True))
        found, expected = self.to_boxes(outputs.places), self.to_boxes(places[..., None, :])
        ious = elementwise_iou(box_convert(found, "cxcywh", "xyxy"), box_convert(expected, "cxcywh", "xyxy"), eps=1e-12)
        apart = (found - expected).square().mean(-1).sqrt()
        likeness = torch.where(ious.amax(-1, keepdim=True) > 0, ious, -apart)
        responsible = F.one_hot(likeness.argmax(-1), self.boxes).bool() & (labels >= 0)[..., None]
        return Assignment(labels, places, responsible, ious)

    def objects_of_cells(self, target: Instances) -> tuple[Tensor, Tensor]:
        """The object whose centre is in each cell: class [S, S], −1 without an object, and encoded box [S, S, 4]."""
        s, count = self.grid, len(target)
        x, y, *roots = encode_place(target.boxes, target.image_size).unbind(-1)
        column, row = ((v * s).long().clamp(0, s - 1) for v in (x, y))  # a centre on the far border is inside, too
        place = torch.stack([x * s - column, y * s - row, *roots], -1)
        ids = torch.arange(count, device=row.device)
        # index of each cell's first object, or `count`
        first = row.new_full((s * s,), count).scatter_reduce(0, row * s + column, ids, "amin")
        held = first < count
        labels = torch.full_like(first, -1)
        labels[held] = target.labels[first[held]] - 1  # the head has no background output
        places = place.new_zeros(s * s, 4)
        places[held] = place[first[held]]
        return labels.reshape(s, s), places.reshape(s, s, 4)

    def to_boxes(self, places: Tensor) -> Tensor:
        """Decode (x, y, √w, √h) [N, S, S, B, 4] to boxes (cx, cy, w, h) [N, S, S, B, 4], as fractions of the image."""
        cell = torch.arange(self.grid, device=places.device)
        row, column = (v[..., None] for v in torch.meshgrid(cell, cell, indexing="ij"))  # [S, S, 1]
        x, y, root_w, root_h = places.unbind(-1)
        sides = root_w.clamp(min=0).square(), root_h.clamp(min=0).square()
        return torch.stack([(x + column) / self.grid, (y + row) / self.grid, *sides], -1)

    def losses(self, outputs: Outputs, assigned: Assignment) -> Losses:
        """The terms of equation 3, weighted and divided by the number of images.

        "loss_centre" and "loss_size" of responsible boxes; "loss_objectness" between their confidence and their IoU;
        "loss_no_object" between the confidence of all other boxes and 0; "loss_classification" of cells with an object.
        All are sums of squared differences.
        """
        s, held = self.settings, assigned.labels >= 0
        responsible = assigned.responsible
        place = (outputs.places[responsible] - assigned.places[held]).square()  # both cell by cell: one box per cell
        confidence = (outputs.confidences - assigned.ious * responsible).square()
        class_targets = F.one_hot(assigned.labels[held], len(self.classes))
        terms = {
            "loss_centre": s.coordinates * place[:, :2].sum(),
            "loss_size": s.coordinates * place[:, 2:].sum(),
            "loss_objectness": s.objects * confidence[responsible].sum(),
            "loss_no_object": s.no_objects * confidence[~responsible].sum(),
            "loss_classification": s.classes * (outputs.classes[held] - class_targets).square().sum(),
        }
        return {name: term / len(held) for name, term in terms.items()}

    @torch.no_grad()
    def decode(self, outputs: Outputs, sizes: Sequence[Size]) -> Detections:
        """The best boxes of each image after per-class NMS.

        The score is P(class | object) times the box's confidence (equation 1).
        """
        s, results = self.settings, []
        for box, score, size in zip(self.boxes_in(outputs, sizes), self.scores(outputs), sizes, strict=True):
            box = clip_boxes_to_image(box, size)
            solid = (box[:, 2:] > box[:, :2]).all(1, keepdim=True)
            which, label = ((score > s.min_score) & solid).nonzero(as_tuple=True)
            box, score, label = box[which], score[which, label], label + 1
            keep = batched_nms(box, score, label, s.nms_iou)[: s.max_detections]
            results.append({"boxes": box[keep], "labels": label[keep], "scores": score[keep]})
        return results

    def boxes_in(self, outputs: Outputs, sizes: Sequence[Size]) -> Tensor:
        """Boxes [N, S·S·B, 4] xyxy in pixels of images of these sizes (height, width), not clipped."""
        boxes = box_convert(self.to_boxes(outputs.places), "cxcywh", "xyxy").flatten(1, 3)
        return torch.stack([denormalize_boxes(box, size) for box, size in zip(boxes, sizes, strict=True)])

    def scores(self, outputs: Outputs) -> Tensor:
        """Scores [N, S·S·B, C]: confidence times class probability, both clipped to [0, 1] (equation 1)."""
        scores = outputs.confidences.clamp(0, 1)[..., None] * outputs.classes.clamp(0, 1)[..., None, :]
        return scores.flatten(1, 3)

    def logits(self, outputs: Outputs) -> Tensor:
        """The linear outputs of the classes, which all boxes of a cell share: [N, S·S·B, C]."""
        return outputs.classes[..., None, :].expand(*outputs.confidences.shape, -1).flatten(1, 3)

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        """Like `Detector.candidates`. Logits are the linear outputs of the classes, which all boxes of a cell share;
        origins are cells."""
        outputs = self.split(self.network(batch.tensor))
        size: Size = (batch.tensor.shape[-2], batch.tensor.shape[-1])
        boxes = box_convert(self.to_boxes(outputs.places), "cxcywh", "xyxy").flatten(1, 3)
        boxes, logits = denormalize_boxes(boxes, size), self.logits(outputs)  # every image fills the batch
        cells = grid_cells(size, self.grid, self.boxes, logits.device)
        return DenseCandidates(boxes, logits, self.scores(outputs), cells, [cells.shape[0]])

    def map_layers(self) -> list[nn.Module]:
        """The last map of the backbone."""
        return map_layers(self.backbone)

    def points_fit(self, candidates: Candidates, boxes: Tensor) -> Tensor:
        """Always: the cell that its centre lies in is responsible for an object."""
        return torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)

    def selection(self) -> Selection:
        s = self.settings
        return Selection(s.min_score, min_size=LEAST_SIDE, nms_iou=s.nms_iou, max_detections=s.max_detections)


LEAST_SIDE = 1e-6
"""A side in pixels below any box with an area; clipped boxes of places outside the image have none."""


def grid_cells(size: Size, grid: int, each: int, device: torch.device) -> Tensor:
    """The cells of a grid over an image of size (height, width), `each` times in a row: [grid² · each, 4] xyxy."""
    row, column = torch.meshgrid(*(torch.arange(grid, device=device),) * 2, indexing="ij")
    corners = torch.stack([column, row, column + 1, row + 1], -1).reshape(-1, 4)
    return denormalize_boxes(corners / grid, size).repeat_interleave(each, 0)


SETTINGS = YOLOv1Settings()


def yolo_v1(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    grid: int = 7,
    boxes: int = 2,
    image_size: int = 448,
    hidden: int = 4096,
    settings: YOLOv1Settings = SETTINGS,
) -> YOLOv1:
    """The paper's network of 24 convolutions (figure 3): 271,703,550 parameters with 20 classes.

    The paper pretrains the first 20 convolutions on ImageNet. `ImageClassifier(classes, YOLOv1Net(…))` is that network,
    and its weights load into this one. From random weights, 24 layers without normalisation train slowly.
    `recipe_defaults` holds the paper's training settings (section 2.2) except for its augmentation. Image normalisation
    and weight initialisation are not specified in the paper.

    Args:
        classes: names of the classes.
        in_channels: number of channels of the images.
        grid: number of cells S along each side.
        boxes: number of boxes B per cell.
        image_size: side of the square that images are resized to, in pixels, a multiple of 64.
        hidden: width of the fully connected layer before the last.
        settings: loss weights and thresholds.
    """
    names = Classes(classes)
    _check(grid, boxes, image_size, 64)
    net = YOLOv1Net(in_channels=in_channels)
    side = image_size // 32
    head = YOLOv1Head(net.last_channels, (side, side), grid, boxes, len(names), hidden=hidden)
    model = _assemble(net, names, head, in_channels, grid, boxes, image_size, settings)
    model.recipe_defaults = {
        "epochs": 135,
        "optimizer": "sgd",
        "lr": 0.01,
        "weight_decay": 5e-4,
        "batch_size": 8,
        "accumulate": 8,  # 64 images per step
        "warmup_steps": 1000,
        "schedule": "step",
        "milestones": (75 / 135, 105 / 135),
    }
    return model


def yolo_v1_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    grid: int = 7,
    boxes: int = 2,
    image_size: int = 224,
    settings: YOLOv1Settings = SETTINGS,
) -> YOLOv1:
    """YOLO v1's grid, assignment, losses and decoding on MobileNet v2, for training on CPUs.

    Departures: a backbone with batch normalisation, whose last map (stride 32) is the grid; a convolutional head
    without dropout instead of fully connected layers, which needs fewer images.

    Args:
        classes, in_channels, boxes, settings: as for `yolo_v1`.
        grid: number of cells S along each side; preferably `image_size` / 32, the size of the last map.
        image_size: side of the square that images are resized to, in pixels, a multiple of 32.
    """
    names = Classes(classes)
    _check(grid, boxes, image_size, 32)
    net = mobilenet_v2(in_channels=in_channels)
    head = GridHead(net.last_channels, grid, boxes, len(names))
    model = _assemble(net, names, head, in_channels, grid, boxes, image_size, settings)
    model.recipe_defaults = model.recipe_defaults | SMALL_RATE
    return model


def _check(grid: int, boxes: int, image_size: int, stride: int) -> None:
    if min(grid, boxes) < 1:
        raise InputError(f"grid is {grid} and boxes {boxes}, but a grid has at least one cell, and a cell one box")
    if image_size < stride or image_size % stride:
        near = max(1, round(image_size / stride)) * stride
        raise InputError(f"image_size is {image_size}, but must be a multiple of {stride}, such as {near}")


def _assemble(
    net: nn.Module,
    names: Classes,
    head: nn.Module,
    in_channels: int,
    grid: int,
    boxes: int,
    image_size: int,
    settings: YOLOv1Settings,
) -> YOLOv1:
    backbone = nn.Sequential(*net.layers().values())  # type: ignore[operator]
    mean, std = for_channels(IMAGENET_MEAN, in_channels), for_channels(IMAGENET_STD, in_channels)
    preprocess = Preprocess(mean, std, fixed_size=(image_size, image_size), divisor=1)
    model = YOLOv1(names, preprocess, backbone, head, grid, boxes, settings)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Redmon et al. 2016, You only look once"

ENTRIES = (
    Entry(name="yolo_v1", builder=yolo_v1, task="detection", paper=_PAPER),
    Entry(
        name="yolo_v1_mobilenet_v2",
        builder=yolo_v1_mobilenet_v2,
        task="detection",
        paper=_PAPER,
        backbone="mobilenet_v2",
    ),
)

"""Sliding over a grid: regions of 2×2, 3×3, 4×4 … cells slide over the image by cells, and each may hold one object.

Between the sliding window and what followed it: still a crop a region, but few of them, since each region says whether
it shows an object at all (objectness, as YOLO would have it) and corrects its box (as R-CNN did).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.detector import Detections, Detector
from sightline.models.detection.sliding_window import crop_regions
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.named import BackboneName, build_backbone
from sightline.ops.assignment import match_best
from sightline.ops.boxes import box_iou, clip_boxes_to_image, decode_boxes, encode_boxes
from sightline.ops.suppression import batched_nms
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class GridSettings:
    """Numbers of a detector that slides over a grid.

    Attributes:
        cells: the image is cells × cells.
        regions: sides of the square regions, in cells.
        crop: side of the square that every region is warped to.
        chunk: regions that are cropped and looked at a time; it bounds the memory of a prediction.
        positive_iou: a region at or above it holds the object it overlaps most; so does an object's best region.
        weights: factors on the corrections of x, y, w, h, so that their targets have about unit spread.
        min_score: boxes of a lower score are dropped.
        nms_iou: overlap at which the weaker box of a class is dropped.
        max_detections: boxes an image that a result keeps.
    """

    cells: int = 8
    regions: tuple[int, ...] = (2, 3, 4, 6)
    crop: int = 64
    chunk: int = 256
    positive_iou: float = 0.4
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    min_score: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100


class GridSliding(Detector):
    """Regions → crops → objectness, classes, one box each → suppression.

    An image without objects teaches that none of its regions holds one.

    Args:
        classes: names of the K classes.
        preprocess: images → batch, of divisor 1.
        backbone: crops [R, C, S, S] → maps [R, `channels`, h, w].
        channels: of the maps.
        settings: the grid and its regions.

    Attributes:
        regions_classified: how many regions the last image that was predicted took.
    """

    class_layers = r"^class_head\."

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        channels: int,
        settings: GridSettings | None = None,
    ):
        super().__init__(classes, preprocess)
        self.settings = settings or GridSettings()
        s = self.settings
        if not s.regions or not 1 <= min(s.regions) <= max(s.regions) <= s.cells:
            raise InputError(f"regions of {s.regions} cells do not fit a grid of {s.cells}×{s.cells} cells")
        self.backbone = backbone
        self.objectness = nn.Linear(channels, 1)
        self.class_head = nn.Linear(channels, len(self.classes))
        self.box_head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(channels * 4, 4))
        self.regions_classified = 0

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """A batch → detections of each image; with targets, the three losses over all regions."""
        if targets is None:
            return [self.scan(image, size) for image, size in zip(batch.tensor, batch.sizes, strict=True)], {}
        regions = [self.regions(size) for size in batch.sizes]
        matches = [self.assign(region, target) for region, target in zip(regions, targets, strict=True)]
        return [], self.losses(*self.network(batch.tensor, regions), regions, matches, targets)

    def regions(self, size: Size) -> Tensor:
        """Every region of an image of `size` (height, width), in its pixels: [R, 4] xyxy."""
        s, found = self.settings, []
        for side in s.regions:
            start = torch.arange(s.cells - side + 1, device=self.preprocess.mean.device)
            y, x = (v.flatten() for v in torch.meshgrid(start, start, indexing="ij"))
            found.append(torch.stack([x, y, x + side, y + side], 1))
        return torch.cat(found) * torch.tensor([size[1], size[0]] * 2, device=found[0].device) / s.cells

    def network(self, images: Tensor, regions: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Images and their regions → objectness [ΣR] and class logits [ΣR, K], and corrections [ΣR, 4]."""
        maps = self.backbone(crop_regions(images, regions, self.settings.crop))
        pooled = maps.mean((2, 3))
        return self.objectness(pooled)[:, 0], self.class_head(pooled), self.box_head(maps)

    def assign(self, regions: Tensor, target: Instances) -> Tensor:
        """For every region the id of its object, or −1. [R]"""
        return match_best(box_iou(target.boxes.float(), regions), self.settings.positive_iou)

    def losses(
        self,
        objectness: Tensor,
        logits: Tensor,
        deltas: Tensor,
        regions: Sequence[Tensor],
        matches: Sequence[Tensor],
        targets: Sequence[Instances],
    ) -> Losses:
        """Binary cross-entropy over all regions; cross-entropy and smooth L1 over those that hold an object."""
        labels, wanted = [], []
        for region, match, target in zip(regions, matches, targets, strict=True):
            held = match >= 0
            of = match[held]
            labels.append(target.labels[of] - 1)  # there is no output for the background
            wanted.append(encode_boxes(target.boxes[of].float(), region[held], self.settings.weights))
        held = torch.cat(list(matches)) >= 0
        count = held.sum().clamp(min=1)
        return {
            "loss_objectness": F.binary_cross_entropy_with_logits(objectness, held.to(objectness.dtype)),
            "loss_classification": F.cross_entropy(logits[held], torch.cat(labels), reduction="sum") / count,
            "loss_box": F.smooth_l1_loss(deltas[held], torch.cat(wanted), reduction="sum") / count,
        }

    @torch.no_grad()
    def scan(self, image: Tensor, size: Size) -> dict[str, Tensor]:
        """The detections of one image [C, H, W]; the score is the objectness times the probability of the class."""
        s, found = self.settings, []
        regions = self.regions(size)
        self.regions_classified = len(regions)
        for part in regions.split(s.chunk):
            objectness, logits, deltas = self.network(image[None], [part])
            score = objectness.float().sigmoid()[:, None] * logits.float().softmax(-1)
            box = clip_boxes_to_image(decode_boxes(deltas.float(), part, s.weights), size)
            which, label = (score > s.min_score).nonzero(as_tuple=True)
            found.append((box[which], label + 1, score[which, label]))
        boxes, labels, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        keep = batched_nms(boxes, scores, labels, s.nms_iou)[: s.max_detections]
        return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """(width, height) of every kind of region, [A, 2], in pixels of an image of `image_size`."""
        shapes = [(side * image_size[1], side * image_size[0]) for side in self.settings.regions]
        return torch.tensor(shapes) / self.settings.cells


GRID = GridSettings()


def grid_sliding(
    classes: Iterable[str],
    *,
    backbone: BackboneName = "mobilenet_v2",
    in_channels: int = 3,
    min_size: int = 160,
    max_size: int = 256,
    grid: GridSettings = GRID,
) -> GridSliding:
    """Sliding over a grid on any backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network that it is built on.
        in_channels: channels of the images.
        min_size, max_size: the images' sides inside the model.
        grid: the grid and its regions.
    """
    names, net = Classes(classes), build_backbone(backbone, in_channels)
    layers, channels = nn.Sequential(*net.layers().values()), net.last_map.channels
    preprocess = imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size, divisor=1)
    model = GridSliding(names, preprocess, layers, channels, grid)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Rowley, Baluja, Kanade 1998; Redmon et al. 2016, You only look once"

ENTRIES = (
    Entry(name="grid_sliding", builder=grid_sliding, task="detection", paper=_PAPER),
    *(
        Entry(
            name=f"grid_sliding_{backbone}",
            builder=grid_sliding,
            task="detection",
            paper=_PAPER,
            summary=f"Sliding over a grid with {title}.",
            fixed={"backbone": backbone},
        )
        for backbone, title in (("mobilenet_v2", "MobileNet v2"), ("resnet18", "ResNet-18"))
    ),
)

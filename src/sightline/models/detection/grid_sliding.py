"""Sliding over a grid: square regions of 2×2, 3×3, 4×4 … cells of a grid, each of which may contain one object.

A step between the sliding window and later detectors. Every region is still cropped and classified on its own, but few
regions are enough, because each predicts an objectness (as in YOLO) and deltas of its box (as in R-CNN).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.candidate_parts import require_regions
from sightline.models.detection.candidates import Candidates, Selection
from sightline.models.detection.detector import Detections, Detector
from sightline.models.detection.sliding_window import crop_regions
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.named import BackboneName, build_backbone
from sightline.ops.assignment import match_best
from sightline.ops.boxes import box_iou, clip_boxes_to_image, decode_boxes, encode_boxes
from sightline.ops.suppression import batched_nms
from sightline.runtime.sharing import batch_count
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class GridSettings:
    """Settings of a detector that slides over a grid.

    Attributes:
        cells: number of cells along each side of the image.
        regions: sides of the square regions, in cells.
        crop: side of the square that every region is warped to, in pixels.
        chunk: number of regions that are cropped and classified at once; it limits the memory of a prediction.
        positive_iou: regions with at least this IoU are matched to the object that they overlap most; so is the best
            region of each object.
        weights: factors on the deltas of x, y, w, h that normalise their targets to about unit variance.
        min_score: boxes with a lower score are removed.
        nms_iou: IoU above which NMS removes the lower-scoring box of the same class.
        max_detections: maximum number of detections per image.
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
    """Regions → crops → objectness, class and box of each region → NMS. Images without objects train the objectness.

    Args:
        classes: names of the K classes.
        preprocess: preprocessing of images into a batch, with divisor 1.
        backbone: crops [R, C, S, S] → maps [R, `channels`, h, w].
        channels: number of channels of the maps.
        settings: settings of the grid and its regions.

    Attributes:
        regions_classified: number of regions classified for the last predicted image.
    """

    origin = "anchor"
    class_layers = r"^class_head\."
    scores_regions = True
    background_output = False

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
        """The detections of each image of a batch; if targets are given, the three losses."""
        if targets is None:
            return [self.scan(image, size) for image, size in zip(batch.tensor, batch.sizes, strict=True)], {}
        regions = [self.regions(size) for size in batch.sizes]
        matches = [self.assign(region, target) for region, target in zip(regions, targets, strict=True)]
        return [], self.losses(*self.network(batch.tensor, regions), regions, matches, targets)

    def regions(self, size: Size) -> Tensor:
        """All regions of an image of size (height, width), in its pixels: [R, 4] xyxy."""
        s, found = self.settings, []
        for side in s.regions:
            start = torch.arange(s.cells - side + 1, device=self.preprocess.mean.device)
            y, x = (v.flatten() for v in torch.meshgrid(start, start, indexing="ij"))
            found.append(torch.stack([x, y, x + side, y + side], 1))
        return torch.cat(found) * torch.tensor([size[1], size[0]] * 2, device=found[0].device) / s.cells

    def network(self, images: Tensor, regions: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Images and their regions → objectness [ΣR] and class logits [ΣR, K], and deltas [ΣR, 4]."""
        maps = self.backbone(crop_regions(images, regions, self.settings.crop))
        pooled = maps.mean((2, 3))
        return self.objectness(pooled)[:, 0], self.class_head(pooled), self.box_head(maps)

    def assign(self, regions: Tensor, target: Instances) -> Tensor:
        """[R] index of the object of each region, or −1."""
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
        """Binary cross-entropy of all regions; cross-entropy and smooth L1 loss of the regions with an object."""
        labels, box_targets = [], []
        for region, match, target in zip(regions, matches, targets, strict=True):
            held = match >= 0
            of = match[held]
            labels.append(target.labels[of] - 1)  # the head has no background output
            box_targets.append(encode_boxes(target.boxes[of].float(), region[held], self.settings.weights))
        held = torch.cat(list(matches)) >= 0
        count = batch_count(held.sum())
        return {
            "loss_objectness": F.binary_cross_entropy_with_logits(objectness, held.to(objectness.dtype)),
            "loss_classification": F.cross_entropy(logits[held], torch.cat(labels), reduction="sum") / count,
            "loss_box": F.smooth_l1_loss(deltas[held], torch.cat(box_targets), reduction="sum") / count,
        }

    def scored(self, image: Tensor, regions: Tensor, size: Size) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits and scores [R, K] and boxes [R, 4] of regions [R, 4] of an image [C, H, W].

        The score is the objectness times the probability of the class. Boxes are clipped to `size`.
        """
        objectness, logits, deltas = self.network(image[None], [regions])
        score = objectness.float().sigmoid()[:, None] * logits.float().softmax(-1)
        return logits, score, clip_boxes_to_image(decode_boxes(deltas.float(), regions, self.settings.weights), size)

    @torch.no_grad()
    def scan(self, image: Tensor, size: Size) -> dict[str, Tensor]:
        """The detections of one image [C, H, W]; the score is the objectness times the probability of the class."""
        s, found = self.settings, []
        regions = self.regions(size)
        self.regions_classified = len(regions)
        for part in regions.split(s.chunk):
            _, score, box = self.scored(image, part, size)
            which, label = (score > s.min_score).nonzero(as_tuple=True)
            found.append((box[which], label + 1, score[which, label]))
        boxes, labels, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        keep = batched_nms(boxes, scores, labels, s.nms_iou)[: s.max_detections]
        return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}

    def candidates(self, batch: ImageBatch, regions: Sequence[Tensor] | None = None) -> list[Candidates]:
        """Like `Detector.candidates`: every region of the grid, or those given."""
        if regions is None:
            regions = [self.regions(size) for size in batch.sizes]
        require_regions(regions, batch)
        found = []
        for image, own, size in zip(batch.tensor, regions, batch.sizes, strict=True):
            parts = [self.scored(image, part, size) for part in own.split(self.settings.chunk)]
            logits, scores, boxes = (torch.cat(values) for values in zip(*parts, strict=True))
            levels = own.new_zeros(len(own), dtype=torch.int64)
            found.append(Candidates(boxes[:, None], logits, scores, own, levels))
        return found

    def map_layers(self) -> list[nn.Module]:
        """The last map of the backbone, of each region."""
        return map_layers(self.backbone)

    def region_frame(self, region: Tensor) -> Tensor:
        """The region."""
        return region

    def selection(self) -> Selection:
        s = self.settings
        return Selection(s.min_score, nms_iou=s.nms_iou, max_detections=s.max_detections)

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """Width and height of the regions, [A, 2], in pixels of an image of size `image_size`."""
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
    """A detector that slides over a grid, with any backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        min_size, max_size: size that images are resized to, see `Preprocess`.
        grid: settings of the grid and its regions.
    """
    names, net = Classes(classes), build_backbone(backbone, in_channels)
    layers, channels = net.trunk(), net.last_map.channels
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

"""A sliding-window detector: classifies every window of the image, at all positions, scales and aspect ratios.

The approach before proposals: Rowley, Baluja, Kanade, "Neural network-based face detection", PAMI 1998, with current
classifiers. Windows share no computation, so the cost is proportional to their number. There is no box regression, so
detections are windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.candidate_parts import require_regions
from sightline.models.detection.candidates import Candidates, Selection
from sightline.models.detection.detector import Detections, Detector
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.aux_heads import drop_aux_heads
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.named import BackboneName, build_backbone
from sightline.ops.assignment import BACKGROUND, match_threshold, sample_balanced
from sightline.ops.boxes import box_convert, box_iou, clip_boxes_to_image
from sightline.ops.regions import roi_align
from sightline.ops.suppression import batched_nms
from sightline.runtime.sharing import batch_count
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class WindowSettings:
    """Settings of a sliding-window detector.

    Attributes:
        sizes: sizes of the windows (square root of their area), in pixels of the batch.
        ratios: ratios of height to width; every size is combined with every ratio.
        stride: step between windows as a fraction of their side, at least one pixel.
        crop: side of the square that every window is warped to, in pixels.
        chunk: number of windows that are cropped and classified at once; it limits the memory.
        positive_iou, negative_iou: windows with at least `positive_iou` are matched to the object that they overlap
            most, windows below `negative_iou` are background, and those in between are ignored.
        samples, positive_fraction: number of windows per image in training, and maximum fraction of positives.
        random, hard: number of negatives per image in the loss: random ones, and those with the highest loss.
        min_score: boxes with a lower score are removed.
        nms_iou: IoU above which NMS removes the lower-scoring box of the same class.
        max_detections: maximum number of detections per image.
        candidates: maximum number of windows per image before NMS.
    """

    sizes: tuple[float, ...] = (32, 48, 64, 96, 128)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    stride: float = 0.25
    crop: int = 64
    chunk: int = 256
    positive_iou: float = 0.6
    negative_iou: float = 0.4
    samples: int = 32
    positive_fraction: float = 0.25
    random: int = 8
    hard: int = 8
    min_score: float = 0.05
    nms_iou: float = 0.3
    max_detections: int = 100
    candidates: int = 2000


class SlidingWindow(Detector):
    """Windows → crops → classes → NMS.

    In training, windows around objects and background windows are classified. A window larger than the image is clipped
    to it, so every image has at least one window.

    Args:
        classes: names of the K classes.
        preprocess: preprocessing of images into a batch, with divisor 1.
        network: crops [N, C, S, S] → logits [N, K + 1], the background first; its last dense layer gives the logits.
        settings: scales and steps of the windows, thresholds and limits.

    Attributes:
        windows_classified: number of windows classified for the last predicted image.
    """

    scores_regions = True
    origin = "anchor"

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        network: nn.Module,
        settings: WindowSettings | None = None,
    ):
        super().__init__(classes, preprocess)
        self.network = network
        self.settings = settings or WindowSettings()
        self.windows_classified = 0
        s = self.settings
        if not s.sizes or not s.ratios or min(*s.sizes, *s.ratios, s.stride, s.crop, s.chunk) <= 0:
            raise InputError(f"sizes, ratios, stride, crop and chunk of windows must be above 0; they are in {s}")
        last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
        self.class_layers = rf"^network\.{re.escape(last)}\."

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the loss of sampled windows."""
        if targets is None:
            return [self.scan(image, size) for image, size in zip(batch.tensor, batch.sizes, strict=True)], {}
        windows, labels, counted = self.sample(batch.sizes, targets)
        return [], self.losses(self.network(crop_regions(batch.tensor, windows, self.settings.crop)), labels, counted)

    def windows(self, size: Size) -> Tensor:
        """All windows of an image of size (height, width), in its pixels: [W, 4] xyxy."""
        shapes = dict.fromkeys(
            (min(size[0], max(1, round(side * ratio**0.5))), min(size[1], max(1, round(side / ratio**0.5))))
            for side in self.settings.sizes
            for ratio in self.settings.ratios
        )
        return torch.cat([slide(size, shape, self.settings.stride) for shape in shapes]).to(self.preprocess.mean.device)

    @torch.no_grad()
    def scan(self, image: Tensor, size: Size) -> dict[str, Tensor]:
        """The detections of one image [C, H, W], computed in chunks that keep only the best windows."""
        s = self.settings
        windows = self.windows(size)
        self.windows_classified = len(windows)
        boxes, scores, labels = windows[:0], windows.new_zeros(0), windows.new_zeros(0, dtype=torch.int64)
        for part in windows.split(s.chunk):
            probabilities = self.classify(image, part).softmax(-1)[:, 1:]
            which, label = (probabilities > s.min_score).nonzero(as_tuple=True)
            scores = torch.cat([scores, probabilities[which, label]])
            boxes, labels = torch.cat([boxes, part[which]]), torch.cat([labels, label + 1])
            if len(scores) > s.candidates:
                scores, best = scores.topk(s.candidates)
                boxes, labels = boxes[best], labels[best]
        keep = batched_nms(boxes, scores, labels, s.nms_iou)[: s.max_detections]
        return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}

    def classify(self, image: Tensor, windows: Tensor) -> Tensor:
        """Logits [W, K + 1] of windows [W, 4] of an image [C, H, W], float32."""
        return self.network(crop_regions(image[None], [windows], self.settings.crop)).float()

    def candidates(self, batch: ImageBatch, regions: Sequence[Tensor] | None = None) -> list[Candidates]:
        """Like `Detector.candidates`: every window, or region, in the pixels of the batch. Detections are windows."""
        if regions is None:
            regions = [self.windows(size) for size in batch.sizes]
        require_regions(regions, batch)
        found = []
        for image, windows in zip(batch.tensor, regions, strict=True):
            logits = torch.cat([self.classify(image, part) for part in windows.split(self.settings.chunk)])
            scores, levels = self.of_classes(logits.softmax(-1)), windows.new_zeros(len(windows), dtype=torch.int64)
            found.append(Candidates(windows[:, None], self.of_classes(logits), scores, windows, levels))
        return found

    def map_layers(self) -> list[nn.Module]:
        """The last map of the network, of each window."""
        return map_layers(self.network)

    def region_frame(self, region: Tensor) -> Tensor:
        """The region."""
        return region

    def selection(self) -> Selection:
        s = self.settings
        return Selection(s.min_score, s.candidates, "image", nms_iou=s.nms_iou, max_detections=s.max_detections)

    @torch.no_grad()
    def sample(self, sizes: Sequence[Size], targets: Sequence[Instances]) -> tuple[list[Tensor], Tensor, Tensor]:
        """Sample windows for training: [W_i, 4] per image, labels [ΣW], and whether they are always used [ΣW] bool.

        Positives and some random negatives are always used; the loss selects the hardest of the other negatives. Ground
        truth boxes and shifted copies of them are added to the windows, so that every object has positives.
        """
        s = self.settings
        windows, labels, counted = [], [], []
        for size, target in zip(sizes, targets, strict=True):
            boxes = target.boxes.float()
            near = clip_boxes_to_image(shifted(boxes.repeat(s.samples, 1)), size)
            candidates = torch.cat([boxes, near[(near[:, 2:] - near[:, :2] >= 1).all(1)], self.windows(size)])
            match = match_threshold(box_iou(boxes, candidates), s.positive_iou, s.negative_iou)
            positive, negative = sample_balanced(match >= 0, match == BACKGROUND, s.samples, s.positive_fraction)
            windows.append(candidates[torch.cat([positive, negative])])
            labels.append(torch.cat([target.labels[match[positive]], torch.zeros_like(negative)]))
            counted.append(torch.arange(len(windows[-1]), device=boxes.device) < len(positive) + s.random)
        return windows, torch.cat(labels), torch.cat(counted)

    def losses(self, logits: Tensor, labels: Tensor, counted: Tensor) -> Losses:
        """Cross-entropy of positives, random negatives and hard negatives."""
        terms = F.cross_entropy(logits, labels, reduction="none")
        rest = terms.detach().masked_fill(counted, -torch.inf)
        images = max(1, len(labels) // self.settings.samples)
        hardest = rest.topk(min(len(rest), self.settings.hard * images)).indices
        counted = counted.index_fill(0, hardest, True)
        return {"loss_classification": (terms * counted).sum() / batch_count(counted.sum())}

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """Width and height of the windows, [A, 2], in pixels of an image of size `image_size`."""
        inside = self.preprocess.resized(image_size)
        shapes = [
            (side / ratio**0.5, side * ratio**0.5) for side in self.settings.sizes for ratio in self.settings.ratios
        ]
        return torch.tensor(shapes) * (image_size[0] / inside[0])


def slide(size: Size, shape: Size, stride: float) -> Tensor:
    """All windows of one shape inside an image, row by row. The last window of each row and column touches the border.

    Args:
        size: (height, width) of the image.
        shape: (height, width) of the windows, not larger than the image.
        stride: step as a fraction of the window's side, rounded to whole pixels, at least one.

    Returns:
        [W, 4] xyxy float. A window of one pixel at a step of one has H · W positions: 307,200 in 640×480.
    """
    starts = []
    for length, side in zip(size, shape, strict=True):
        last = length - side
        start = torch.arange(0, last + 1, max(1, round(stride * side)))
        starts.append(start if int(start[-1]) == last else torch.cat([start, start.new_tensor([last])]))
    y, x = (start.flatten() for start in torch.meshgrid(*starts, indexing="ij"))
    return torch.stack([x, y, x + shape[1], y + shape[0]], 1).float()


def crop_regions(images: Tensor, regions: Sequence[Tensor], side: int) -> Tensor:
    """Warp each region to a square: images [N, C, H, W], regions [R_i, 4] xyxy per image → [ΣR, C, side, side].

    Bilinear interpolation, with antialiasing when downsampling. A region of side × side whole pixels is not changed.
    """
    crops = roi_align(images, list(regions), side, aligned=True)
    return crops.contiguous(memory_format=torch.channels_last)


def shifted(boxes: Tensor, amount: float = 0.2) -> Tensor:
    """Boxes [N, 4] shifted and scaled at random, by up to `amount` of their sides."""
    x, y, w, h = box_convert(boxes, "xyxy", "cxcywh").unbind(-1)
    a, b, c, d = (torch.rand(4, len(boxes), device=boxes.device) * 2 - 1) * amount
    return box_convert(torch.stack([x + a * w, y + b * h, w * (1 + c), h * (1 + d)], -1), "cxcywh", "xyxy")


WINDOWS = WindowSettings()


def sliding_window(
    classes: Iterable[str],
    *,
    backbone: BackboneName = "mobilenet_v2",
    in_channels: int = 3,
    min_size: int = 160,
    max_size: int = 256,
    windows: WindowSettings = WINDOWS,
) -> SlidingWindow:
    """A sliding-window detector on any backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        min_size, max_size: size that images are resized to, see `Preprocess`. The number of windows is proportional to
            the area of the image.
        windows: scales and steps of the windows, thresholds and limits.
    """
    names = Classes(classes)
    net = build_backbone(backbone, in_channels, num_classes=len(names) + 1)
    unused: dict[str, str | None] = dict.fromkeys(net.state_dict())
    drop_aux_heads(net)
    preprocess = imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size, divisor=1)
    model = SlidingWindow(names, preprocess, net, windows)
    model.backbone_keys = unused | shared_keys(net, model)
    return model


_PAPER = "Rowley, Baluja, Kanade 1998, Neural network-based face detection"

ENTRIES = (
    Entry(name="sliding_window", builder=sliding_window, task="detection", paper=_PAPER),
    *(
        Entry(
            name=f"sliding_window_{backbone}",
            builder=sliding_window,
            task="detection",
            paper=_PAPER,
            summary=f"A sliding window on {title}.",
            fixed={"backbone": backbone},
        )
        for backbone, title in (("mobilenet_v2", "MobileNet v2"), ("resnet18", "ResNet-18"))
    ),
)

"""A sliding-window detector: a classifier looks at every window of the image, at all positions, scales and ratios.

The way to find objects before proposals: Rowley, Baluja, Kanade, "Neural network-based face detection", PAMI 1998, with
today's classifiers. Nothing is shared between windows and no box is corrected, so its cost is the number of windows,
and its boxes are the windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.detector import Detections, Detector
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.named import BackboneName, build_backbone
from sightline.ops.assignment import BACKGROUND, match_threshold, sample_balanced
from sightline.ops.boxes import box_convert, box_iou, clip_boxes_to_image
from sightline.ops.regions import roi_align
from sightline.ops.suppression import batched_nms
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class WindowSettings:
    """Numbers of a sliding-window detector.

    Attributes:
        sizes: scales of the windows: the square root of their area, in pixels of the batch.
        ratios: height divided by width; every size comes with every ratio.
        stride: step between windows as a fraction of their side, at least one pixel.
        crop: side of the square that every window is warped to.
        chunk: windows that are cropped and classified at a time; it bounds the memory.
        positive_iou, negative_iou: a window at or above the first shows the object it overlaps most, below the second
            the background; those between do not train.
        samples, positive_fraction: windows an image that are classified in training, and at most which part of them
            objects.
        random, hard: of the background's windows those that count, an image: chosen at random, and of the highest loss.
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
    """Windows → crops → classes → suppression.

    Training classifies windows around the objects and of the background; an image without objects gives background
    alone. Where the image is smaller than a window, the window is cut to the image: every image has one at least.

    Args:
        classes: names of the K classes.
        preprocess: preprocessing of images into a batch, with divisor 1.
        network: crops [N, C, S, S] → logits [N, K + 1], the background first; its last dense layer gives the logits.
        settings: scales, steps and counts.

    Attributes:
        windows_classified: how many windows the last image that was predicted took.
    """

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
        """Every window of an image of `size` (height, width), in its pixels: [W, 4] xyxy."""
        shapes = dict.fromkeys(
            (min(size[0], max(1, round(side * ratio**0.5))), min(size[1], max(1, round(side / ratio**0.5))))
            for side in self.settings.sizes
            for ratio in self.settings.ratios
        )
        return torch.cat([slide(size, shape, self.settings.stride) for shape in shapes]).to(self.preprocess.mean.device)

    @torch.no_grad()
    def scan(self, image: Tensor, size: Size) -> dict[str, Tensor]:
        """The detections of one image [C, H, W], chunk by chunk: only the best windows of all are kept in between."""
        s = self.settings
        windows = self.windows(size)
        self.windows_classified = len(windows)
        boxes, scores, labels = windows[:0], windows.new_zeros(0), windows.new_zeros(0, dtype=torch.int64)
        for part in windows.split(s.chunk):
            probabilities = self.network(crop_regions(image[None], [part], s.crop)).float().softmax(-1)[:, 1:]
            which, label = (probabilities > s.min_score).nonzero(as_tuple=True)
            scores = torch.cat([scores, probabilities[which, label]])
            boxes, labels = torch.cat([boxes, part[which]]), torch.cat([labels, label + 1])
            if len(scores) > s.candidates:
                scores, best = scores.topk(s.candidates)
                boxes, labels = boxes[best], labels[best]
        keep = batched_nms(boxes, scores, labels, s.nms_iou)[: s.max_detections]
        return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}

    @torch.no_grad()
    def sample(self, sizes: Sequence[Size], targets: Sequence[Instances]) -> tuple[list[Tensor], Tensor, Tensor]:
        """Windows to learn from: [W_i, 4] per image, their labels [ΣW], and which of them count for sure [ΣW] bool.

        Objects and some random background count for sure; of the rest, all background, the losses choose the hardest.
        The labelled boxes and shifted copies of them join the windows, so that every object is shown.
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
        """Cross-entropy of objects, random background, and the background that looks most like an object."""
        terms = F.cross_entropy(logits, labels, reduction="none")
        rest = terms.detach().masked_fill(counted, -torch.inf)
        images = max(1, len(labels) // self.settings.samples)
        hardest = rest.topk(min(len(rest), self.settings.hard * images)).indices
        counted = counted.index_fill(0, hardest, True)
        return {"loss_classification": (terms * counted).sum() / counted.sum().clamp(min=1)}

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """Width and height of the windows, [A, 2], in pixels of an image of size `image_size`."""
        inside = self.preprocess.resized(image_size)
        shapes = [
            (side / ratio**0.5, side * ratio**0.5) for side in self.settings.sizes for ratio in self.settings.ratios
        ]
        return torch.tensor(shapes) * (image_size[0] / inside[0])


def slide(size: Size, shape: Size, stride: float) -> Tensor:
    """All windows of one shape inside an image, row by row; the last of a row or column touches the border.

    Args:
        size: (height, width) of the image.
        shape: (height, width) of the windows, at most the image's.
        stride: step as a fraction of the window's side, rounded to pixels, at least one.

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
    """Each region warped to a square: images [N, C, H, W], regions [R_i, 4] xyxy an image → [ΣR, C, side, side].

    Bilinear, and averaged where the region is shrunk; a region of side × side whole pixels comes out as it is.
    """
    crops = roi_align(images, list(regions), side, aligned=True)
    return crops.contiguous(memory_format=torch.channels_last)


def shifted(boxes: Tensor, amount: float = 0.2) -> Tensor:
    """Boxes [N, 4] moved and scaled at random, by up to `amount` of their sides."""
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
    """A sliding window on any backbone.

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
    preprocess = imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size, divisor=1)
    model = SlidingWindow(names, preprocess, net, windows)
    model.backbone_keys = shared_keys(net, model)
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

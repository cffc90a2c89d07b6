"""OverFeat: Sermanet, Eigen, Zhang, Mathieu, Fergus, LeCun, "OverFeat: integrated recognition, localization and
detection using convolutional networks", ICLR 2014.

A sliding-window detector whose windows share features: the classifier's fully connected layers become convolutions over
the feature map, a second head predicts the box of the object in each window, and similar boxes are merged.

Departures: windows are matched to objects by IoU (the paper requires half of the object in the window); the match score
of boxes has no unit (`ops.merging`); the network is not pretrained on ImageNet, but trained on windows of the dataset;
weights are initialised as in He et al. 2015 instead of N(0, 0.01); a scale smaller than a window is padded with the
mean colour; the `candidates` windows with the highest scores of all scales are merged (the paper merges those of the
top k classes of each scale, section 4.3); the merged score is 1 − 1 / (1 + sum), so that it stays below 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.candidates import Candidates, DenseCandidates, Selection
from sightline.models.detection.detector import Detections, Detector
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.ops.assignment import BACKGROUND, BETWEEN, match_threshold
from sightline.ops.boxes import box_iou, clip_boxes_to_image
from sightline.ops.merging import merge_boxes
from sightline.ops.mining import hard_negatives
from sightline.runtime.sharing import batch_count
from sightline.structures import Classes, ImageBatch, Instances, Size

Phase = Literal["both", "classification", "boxes"]


@dataclass(frozen=True)
class OverFeatSettings:
    """Settings of OverFeat.

    Attributes:
        scales: scale factors of the image. Windows have a fixed size in pixels, so scales match it to objects of
            different sizes.
        positive_iou, negative_iou: windows with at least `positive_iou` are matched to the object that they overlap
            most, as is the best window of each object. Windows below `negative_iou` are background; those in between
            are ignored.
        random, hard: number of negatives for training: random ones per image, and those with the highest loss per
            object (section 5: "random ones or most offending ones").
        min_score, candidates: minimum class probability of the windows that are merged, and their maximum number per
            image.
        merge: maximum match score of two boxes that are merged.
        max_detections: maximum number of detections per image.
    """

    scales: tuple[float, ...] = (1.0, 1.4, 2.0)
    positive_iou: float = 0.5
    negative_iou: float = 0.3
    random: int = 32
    hard: float = 3.0
    min_score: float = 0.2
    candidates: int = 400
    merge: float = 0.8
    max_detections: int = 100


class OverFeat(Detector):
    """Image at several scales → shared features → class and box at every location → merging.

    Training has two phases (section 4.2): "classification" trains the features and the class head; "boxes" trains the
    box head with everything else fixed. Change the phase with `set_phase`, or start a new model from the saved weights
    of the first phase: `create_model(name, classes, weights="runs/first/best.safetensors", phase="boxes")`. "both"
    trains everything at once; gradients of the box loss do not reach the features, as in the paper.

    The score of a detection is 1 − 1 / (1 + s), where s is the sum of the probabilities of all merged windows.

    Args:
        classes: names of the K classes.
        preprocess: preprocessing of images into a batch, with divisor 1.
        backbone: batch → map [N, C, h, w], before its last pooling: the shared features.
        class_head, box_head: `location_head` modules with K + 1 outputs, background first, and with 4 outputs shared by
            all classes (section 4.4: better than a box per class).
        pool: size p of the last pooling, applied at every offset Δ = 0 … p − 1 in both directions (section 3.3).
        window: side of the window of a location, in pixels.
        stride: distance between locations in pixels, with offset pooling.
        settings: scales, thresholds and limits.
        phase: what is trained: "both", "classification" or "boxes".
    """

    origin = "anchor"
    class_layers = r"^class_head\.score\."

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        class_head: nn.Module,
        box_head: nn.Module,
        *,
        pool: int,
        window: int,
        stride: int,
        settings: OverFeatSettings | None = None,
        phase: Phase = "both",
    ):
        super().__init__(classes, preprocess)
        self.backbone, self.class_head, self.box_head = backbone, class_head, box_head
        self.pool, self.window, self.stride = pool, window, stride
        self.settings = settings or OverFeatSettings()
        if not self.settings.scales or min(self.settings.scales) <= 0:
            raise InputError(f"scales must be factors above 0, at least one, not {self.settings.scales}")
        self.set_phase(phase)

    def set_phase(self, phase: Phase) -> None:
        """Set what is trained: "both", "classification", or "boxes" with the features fixed."""
        if phase not in ("both", "classification", "boxes"):
            raise InputError(f"phase is {phase!r}, but must be 'both', 'classification' or 'boxes'")
        self.phase: Phase = phase
        self.backbone.requires_grad_(phase != "boxes")
        self.class_head.requires_grad_(phase != "boxes")
        self.box_head.requires_grad_(phase != "classification")
        self.train(self.training)

    def train(self, mode: bool = True) -> OverFeat:
        """Like `nn.Module.train`, but fixed parts stay in evaluation mode, so their batch statistics do not change."""
        super().train(mode)
        if self.phase == "boxes":
            self.backbone.eval()
            self.class_head.eval()
        return self

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the losses of the phase."""
        logits, edges, windows = self.network(batch.tensor)
        if targets is None:
            return self.decode(logits, edges, windows, batch.sizes), {}
        return [], self.losses(logits, edges, windows, self.assign(windows, batch.sizes, targets), targets)

    def network(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Batch [N, C, H, W] → logits [N, L, K+1], edges [N, L, 4] and windows [L, 4] of all locations and scales."""
        logits, edges, windows = [], [], []
        for scale in self.settings.scales:
            size = [max(1, round(side * scale)) for side in images.shape[-2:]]
            resized = F.interpolate(images, size=size, mode="bilinear", antialias=scale < 1)
            height, width = (max(0, self.window - side) for side in size)
            # pooling at every offset, interleaved, is pooling with stride 1 and heads with dilation p
            maps = F.max_pool2d(self.backbone(F.pad(resized, (0, width, 0, height))), self.pool, 1)
            logits.append(self.class_head(maps).flatten(2).transpose(1, 2))
            place = self.box_head(maps.detach())
            edges.append(place.flatten(2).transpose(1, 2))
            factors = images.shape[-2] / size[0], images.shape[-1] / size[1]
            windows.append(self.windows((place.shape[-2], place.shape[-1]), factors, images.device))
        return torch.cat(logits, 1), torch.cat(edges, 1), torch.cat(windows)

    def windows(self, map_size: Size, factors: tuple[float, float], device: torch.device) -> Tensor:
        """The window of each location, [h · w, 4] xyxy. `factors` (y, x) convert pixels of the scale to the batch."""
        y, x = torch.meshgrid(*(torch.arange(n, device=device) * self.stride for n in map_size), indexing="ij")
        corners = torch.stack([x, y, x + self.window, y + self.window], -1).flatten(0, 1)
        return corners * torch.tensor([factors[1], factors[0]] * 2, device=device)

    def assign(self, windows: Tensor, sizes: Sequence[Size], targets: Sequence[Instances]) -> Tensor:
        """[N, L] index of the object of each location, −1 for background, −2 for ignored."""
        s, found = self.settings, []
        centres = (windows[:, :2] + windows[:, 2:]) / 2
        for size, target in zip(sizes, targets, strict=True):
            iou = box_iou(target.boxes.float(), windows)
            match = match_threshold(iou, s.positive_iou, s.negative_iou, allow_low_quality=True)
            beyond = ((centres >= centres.new_tensor([size[1], size[0]])) & (windows[:, :2] > 0)).any(1)
            found.append(match.where(~beyond | (match >= 0), BETWEEN))  # ignore windows in the padding
        return torch.stack(found)

    def losses(
        self, logits: Tensor, edges: Tensor, windows: Tensor, matches: Tensor, targets: Sequence[Instances]
    ) -> Losses:
        """Cross-entropy of positives, random and hard negatives; squared error of positive boxes (section 4.2)."""
        s = self.settings
        positive, negative = matches >= 0, matches == BACKGROUND
        labels, box_terms = torch.zeros_like(matches), []
        sides = (windows[:, 2:] - windows[:, :2]).repeat(1, 2)
        for i, target in enumerate(targets):
            at = positive[i]
            of = matches[i, at]
            labels[i, at] = target.labels[of]
            box_targets = (target.boxes[of] - windows[at]) / sides[at]
            box_terms.append((edges[i, at] - box_targets).square().sum())
        losses = {}
        if self.phase != "boxes":
            terms = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
            offending = hard_negatives(terms.detach().masked_fill(~negative, -torch.inf), positive, s.hard)
            counted = positive | ((offending | _random(negative, s.random)) & negative)
            losses["loss_classification"] = (terms * counted).sum() / batch_count(counted.sum())
        if self.phase != "classification":
            losses["loss_box"] = torch.stack(box_terms).sum() / batch_count(positive.sum())
        return losses

    @torch.no_grad()
    def decode(self, logits: Tensor, edges: Tensor, windows: Tensor, sizes: Sequence[Size]) -> Detections:
        """The merged boxes of each image (section 4.3)."""
        s, results = self.settings, []
        probabilities = logits.float().softmax(-1)[..., 1:]  # [N, L, K]
        values, ids = probabilities.flatten(1).topk(min(s.candidates, probabilities[0].numel()))
        for score, index, edge, size in zip(values, ids, edges.float(), sizes, strict=True):
            index, score = index[score > s.min_score], score[score > s.min_score]
            location, label = index // probabilities.shape[2], index % probabilities.shape[2] + 1
            placed = clip_boxes_to_image(moved_windows(edge[location], windows[location]), size)
            boxes, sums, label = merge_boxes(placed, score, label, s.merge)
            scores, best = 1 - 1 / (1 + sums), slice(s.max_detections)
            results.append({"boxes": boxes[best], "labels": label[best], "scores": scores[best]})
        return results

    def candidates(self, batch: ImageBatch, regions: Sequence[Tensor] | None = None) -> list[Candidates]:
        """Like `Detector.candidates`: the windows of all scales, each of which is a level."""
        logits, edges, windows = self.network(batch.tensor)
        scales = windows.new_tensor(self.settings.scales)
        level = (self.window / (windows[:, 2] - windows[:, 0])[:, None] - scales).abs().argmin(1)
        counts = level.bincount(minlength=len(scales)).tolist()
        probabilities, boxes = self.of_classes(logits.float().softmax(-1)), moved_windows(edges.float(), windows)
        found = DenseCandidates(boxes, self.of_classes(logits), probabilities, windows, counts)
        return found.of_images(batch.sizes)

    def map_layers(self) -> list[nn.Module]:
        """The shared features, of each scale."""
        return map_layers(self.backbone)

    def selection(self) -> Selection:
        """Boxes are merged: a detection is the mean of several candidates, and its score comes from their sum."""
        s = self.settings
        return Selection(
            s.min_score, s.candidates, "image", method="merging", nms_iou=None, max_detections=s.max_detections
        )

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """Width and height of the window at each scale, [A, 2], in pixels of an image of size `image_size`."""
        side = self.window * image_size[0] / self.preprocess.resized(image_size)[0]
        return side / torch.tensor(self.settings.scales)[:, None].repeat(1, 2)


def moved_windows(edges: Tensor, windows: Tensor) -> Tensor:
    """Boxes [..., L, 4] xyxy in pixels of the batch, from edges [..., L, 4] relative to windows [L, 4]."""
    moved = windows + edges * (windows[:, 2:] - windows[:, :2]).repeat(1, 2)
    low, high = moved.chunk(2, -1)
    return torch.cat([low.minimum(high), low.maximum(high)], -1)


def _random(chosen_from: Tensor, count: int) -> Tensor:
    """Select `count` true entries of each row of [N, L] bool at random, or all if there are fewer."""
    chance = torch.rand(chosen_from.shape, device=chosen_from.device).masked_fill(~chosen_from, -1)
    best = chance.topk(min(count, chance.shape[1]), dim=1).indices
    return torch.zeros_like(chosen_from).scatter_(1, best, True) & chosen_from


def location_head(
    channels: int, hidden: Sequence[int], outputs: int, *, cells: int, pool: int, dropout: float = 0.0
) -> nn.Sequential:
    """The fully connected layers of a window as convolutions: pooled map [N, C, h, w] → [N, outputs, h', w'].

    Args:
        channels: number of channels C.
        hidden: widths of the layers before the last.
        outputs: number of outputs of the last layer, which is named "score".
        cells: number of pooled cells k along each side of a window.
        pool: pooling size p, the dilation of the first convolution on a map pooled at every offset.
        dropout: dropout probability before the second and all later layers.

    Source: Sermanet et al., OverFeat, 2014, section 3.5.
    """
    head = nn.Sequential()
    for number, width in enumerate(hidden):
        first = number == 0
        if dropout and not first:
            head.append(nn.Dropout(dropout))
        head.append(nn.Conv2d(channels, width, cells if first else 1, dilation=pool if first else 1))
        head.append(nn.ReLU(inplace=True))
        channels = width
    if dropout:
        head.append(nn.Dropout(dropout))
    head.add_module("score", nn.Conv2d(channels, outputs, 1))
    return head


LOCATIONS = OverFeatSettings()
FEWER_LOCATIONS = OverFeatSettings(scales=(0.5, 0.7, 1.0, 1.4, 2.0))


def overfeat(
    classes: Iterable[str],
    *,
    variant: Literal["fast", "accurate"] = "fast",
    in_channels: int = 3,
    min_size: int = 256,
    max_size: int = 512,
    hidden: Sequence[int] = (3072, 4096),
    box_hidden: Sequence[int] = (4096, 1024),
    locations: OverFeatSettings = LOCATIONS,
    phase: Phase = "both",
) -> OverFeat:
    """The paper's networks (tables 1 and 3).

    Args:
        classes: names of the classes.
        variant: "fast" has windows of 231 pixels and 2×2 pooling, "accurate" windows of 221 pixels and 3×3 pooling at
            the offsets Δ = 0, 1, 2.
        in_channels: number of channels of the images.
        min_size, max_size: size that images are resized to at scale 1.
        hidden, box_hidden: widths of the hidden layers of the class head and the box head.
        locations: scales, thresholds and limits.
        phase: as in `OverFeat`.
    """
    fast = variant == "fast"
    features = nn.Sequential(
        nn.Conv2d(in_channels, 96, *((11, 4) if fast else (7, 2))),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2 if fast else 3),
        nn.Conv2d(96, 256, 5 if fast else 7),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        *(_convs(256, 512, 1024, 1024) if fast else _convs(256, 512, 512, 1024, 1024)),
    )
    names, (cells, pool) = Classes(classes), (6, 2) if fast else (5, 3)
    class_head = location_head(1024, hidden, len(names) + 1, cells=cells, pool=pool, dropout=0.5)
    box_head = location_head(1024, box_hidden, 4, cells=cells, pool=pool)
    return OverFeat(
        names,
        imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size, divisor=1),
        _start(features),
        _start(class_head),
        _start(box_head),
        pool=pool,
        window=231 if fast else 221,
        stride=16 if fast else 12,
        settings=locations,
        phase=phase,
    )


def overfeat_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    min_size: int = 160,
    max_size: int = 256,
    hidden: Sequence[int] = (256,),
    box_hidden: Sequence[int] = (256, 128),
    locations: OverFeatSettings = FEWER_LOCATIONS,
    phase: Phase = "both",
) -> OverFeat:
    """OverFeat on MobileNet v2 up to stride 16, for training on CPUs: windows of 4 × 4 cells, 64 pixels.

    The convolutions are padded, so the receptive field of a location is larger than its window. The heads are small.
    Arguments as for `overfeat`.
    """
    net = mobilenet_v2(in_channels=in_channels)
    stage = next(stage for stage in net.stages if stage.stride == 16)
    features = nn.Sequential(*list(net.features)[: int(stage.layer) + 1])
    names = Classes(classes)
    class_head = location_head(stage.channels, hidden, len(names) + 1, cells=2, pool=2)
    box_head = location_head(stage.channels, box_hidden, 4, cells=2, pool=2)
    preprocess = imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size, divisor=1)
    model = OverFeat(
        names,
        preprocess,
        features,
        _start(class_head),
        _start(box_head),
        pool=2,
        window=64,
        stride=16,
        settings=locations,
        phase=phase,
    )
    model.backbone_keys = shared_keys(net, model)
    return model


def _convs(*channels: int) -> list[nn.Module]:
    """3×3 convolutions with padding, each followed by a ReLU."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
    return layers


def _start(layers: nn.Sequential) -> nn.Sequential:
    """Kaiming initialisation of layers with a ReLU; small weights for the last layer, for similar initial outputs."""
    for name, layer in layers.named_modules():
        if isinstance(layer, nn.Conv2d):
            if name == "score":
                nn.init.normal_(layer.weight, 0, 0.01)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layers


_PAPER = "Sermanet et al. 2014, OverFeat"

ENTRIES = (
    Entry(
        name="overfeat_fast",
        builder=overfeat,
        task="detection",
        paper=_PAPER,
        summary="The paper's fast network: features and class head have 145,920,872 parameters with 999 classes and "
        "the background (the paper: 145 million).",
        fixed={"variant": "fast"},
    ),
    Entry(
        name="overfeat_accurate",
        builder=overfeat,
        task="detection",
        paper=_PAPER,
        summary="The paper's accurate network: features and class head have 144,656,488 parameters with 999 classes "
        "and the background (the paper: 144 million).",
        fixed={"variant": "accurate"},
        defaults={"hidden": (4096, 4096)},
    ),
    Entry(
        name="overfeat_mobilenet_v2",
        builder=overfeat_mobilenet_v2,
        task="detection",
        paper=_PAPER,
        backbone="mobilenet_v2",
    ),
)

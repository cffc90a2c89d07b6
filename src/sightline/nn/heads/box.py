"""The second stage of region-based detectors: classification and box regression of region proposals.

Girshick, "Fast R-CNN", ICCV 2015, sections 2.1 to 2.3; region features by RoI align (He et al., "Mask R-CNN", 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.layers import ConvNormAct, NormLayer
from sightline.ops.assignment import match_threshold, sample_balanced
from sightline.ops.boxes import box_iou, clip_boxes_to_image, decode_boxes, encode_boxes
from sightline.ops.suppression import batched_nms
from sightline.runtime.sharing import batch_count
from sightline.structures import ImageBatch, Instances, Size

RegionFeatures = Callable[[dict[str, Tensor], Sequence[Tensor], ImageBatch], Tensor]
"""(maps, boxes [R_i, 4] of each image in pixels of the batch, batch) → region features [ΣR_i, C, h, w]."""


class TwoLayerHead(nn.Module):
    """Two fully connected layers: [R, C, h, w] → [R, hidden] (Fast R-CNN's fc6 and fc7)."""

    def __init__(self, inputs: int, hidden: int = 1024):
        super().__init__()
        self.fc6 = nn.Linear(inputs, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.out_features = hidden

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc7(F.relu(self.fc6(x.flatten(1)))))

    def fused(self) -> nn.Sequential:
        """The same layers for inference; see `fuse`."""
        return nn.Sequential(nn.Flatten(), self.fc6, nn.ReLU(inplace=True), self.fc7, nn.ReLU(inplace=True))


class ConvHead(nn.Sequential):
    """3×3 convolutions and a fully connected layer: [R, C, h, w] → [R, hidden] (Wu and He, Group normalization, 2018).

    Args:
        shape: (C, h, w) of a region's features.
        convs: number of output channels of each convolution.
        hidden: width of the fully connected layer.
        norm: normalisation layer after each convolution, or None.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        convs: Sequence[int] = (256, 256, 256, 256),
        hidden: int = 1024,
        norm: NormLayer | None = nn.BatchNorm2d,
    ):
        channels, height, width = shape
        layers: list[nn.Module] = []
        for out in convs:
            layers.append(ConvNormAct(channels, out, 3, norm=norm))
            channels = out
        layers += [nn.Flatten(), nn.Linear(channels * height * width, hidden), nn.ReLU(inplace=True)]
        super().__init__(*layers)
        self.out_features = hidden
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class BoxPredictor(nn.Module):
    """K + 1 class scores, background first, and four deltas per class: [R, F] → [R, K+1], [R, K+1, 4]."""

    outputs_per_class = {"cls_score": 1, "bbox_pred": 4}

    def __init__(self, inputs: int, num_classes: int):
        super().__init__()
        self.cls_score = nn.Linear(inputs, num_classes + 1)
        self.bbox_pred = nn.Linear(inputs, 4 * (num_classes + 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x).unflatten(1, (-1, 4))


@dataclass(frozen=True)
class BoxSettings:
    """Settings of the box head.

    Attributes:
        positive_iou: regions with at least this IoU are matched to the object that they overlap most; all others are
            background.
        samples, positive_fraction: number of sampled regions per image in training, and maximum fraction of positives.
        weights: factors on the deltas of x, y, w, h that normalise their targets to about unit variance.
        min_score: boxes with a lower score are removed.
        nms_iou: IoU above which NMS removes the lower-scoring box of the same class.
        max_detections: maximum number of detections per image.
        min_size: detections with a shorter side, in pixels of the batch, are removed.
        beta: threshold of the smooth L1 loss between its quadratic and its linear part.
        chunk: number of regions that go through the head at once; it limits the memory.
    """

    positive_iou: float = 0.5
    samples: int = 512
    positive_fraction: float = 0.25
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    min_score: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
    min_size: float = 1e-2
    beta: float = 1 / 9
    chunk: int = 4096


@dataclass(frozen=True)
class Samples:
    """Sampled regions for training, image by image, positives before background.

    Attributes:
        regions: [R_i, 4] boxes of each image, in pixels of the batch.
        objects: [R_i] for each image: index of the object that a region is matched to, −1 for background.
        labels: [ΣR] outputs of the head, 0 for background.
        box_targets: [ΣR, 4] target deltas, zeros for background.
    """

    regions: list[Tensor]
    objects: list[Tensor]
    labels: Tensor
    box_targets: Tensor


class RegionHeads(nn.Module):
    """Regions → features → classes and boxes. The four steps are `predict`, `sample`, `losses` and `decode`.

    Papers that add a branch override `region_losses` and `detect`.

    Args:
        region_features: function that crops the features of regions.
        box_head: [R, C, h, w] → [R, F].
        box_predictor: [R, F] → scores [R, K+1] and deltas [R, K+1, 4].
        settings: thresholds and limits.
    """

    def __init__(
        self,
        region_features: RegionFeatures,
        box_head: nn.Module,
        box_predictor: nn.Module,
        settings: BoxSettings | None = None,
    ):
        super().__init__()
        self.region_features = region_features
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.settings = settings or BoxSettings()

    def forward(
        self,
        maps: dict[str, Tensor],
        proposals: Sequence[Tensor],
        batch: ImageBatch,
        targets: Sequence[Instances] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Maps and proposals → detections of each image (boxes, labels, scores), or with targets the two losses.

        Boxes are in pixels of the batch. Labels are columns of the predictor, 1 … K.
        """
        if targets is None:
            return self.detect(maps, proposals, batch), {}
        return [], self.region_losses(maps, self.sample(proposals, targets), batch, targets)

    def detect(
        self, maps: dict[str, Tensor], proposals: Sequence[Tensor], batch: ImageBatch
    ) -> list[dict[str, Tensor]]:
        """The detections of each image."""
        logits, deltas = self.predict(maps, proposals, batch)
        return self.decode(logits, deltas, proposals, batch.sizes)

    def region_losses(
        self, maps: dict[str, Tensor], samples: Samples, batch: ImageBatch, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """The losses of the sampled regions."""
        logits, deltas = self.predict(maps, samples.regions, batch)
        return self.losses(logits, deltas, samples.labels, samples.box_targets)

    def predict(self, maps: dict[str, Tensor], regions: Sequence[Tensor], batch: ImageBatch) -> tuple[Tensor, Tensor]:
        """Scores [ΣR, K+1] before the softmax, and deltas [ΣR, K+1, 4], of the regions of all images."""
        scores, deltas = self.box_predictor(self.codes(maps, regions, batch))
        return scores, deltas

    def codes(self, maps: dict[str, Tensor], regions: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """The outputs [ΣR, F] of the box head for the regions of all images."""
        parts = _chunks(regions, self.settings.chunk)
        return torch.cat([self.box_head(self.region_features(maps, part, batch)) for part in parts])

    @torch.no_grad()
    def sample(self, proposals: Sequence[Tensor], targets: Sequence[Instances]) -> Samples:
        """Sample regions for training (section 2.3).

        Ground truth boxes are added to the proposals, so that there are positives from the first step on.
        """
        s = self.settings
        regions, objects, labels, box_targets = [], [], [], []
        for proposal, target in zip(proposals, targets, strict=True):
            boxes = target.boxes.to(proposal.dtype)
            candidates = torch.cat([proposal, boxes])
            match = match_threshold(box_iou(boxes, candidates), s.positive_iou, s.positive_iou)
            positive, negative = sample_balanced(match >= 0, match < 0, s.samples, s.positive_fraction)
            ids = torch.cat([positive, negative])
            region, of = candidates[ids], match[ids]
            regions.append(region)
            objects.append(of)
            label = torch.zeros_like(of)
            label[: len(positive)] = target.labels[of[: len(positive)]]
            labels.append(label)
            correction = torch.zeros_like(region)
            correction[: len(positive)] = encode_boxes(boxes[of[: len(positive)]], region[: len(positive)], s.weights)
            box_targets.append(correction)
        return Samples(regions, objects, torch.cat(labels), torch.cat(box_targets))

    def losses(self, logits: Tensor, deltas: Tensor, labels: Tensor, box_targets: Tensor) -> dict[str, Tensor]:
        """Equation 1: cross-entropy over K + 1 classes, and smooth L1 loss of the deltas of the true class.

        Both are divided by the number of regions.
        """
        count = batch_count(len(labels))
        objects = labels.nonzero().flatten()
        chosen = deltas[objects, labels[objects]]
        return {
            "loss_classification": F.cross_entropy(logits, labels, reduction="sum") / count,
            "loss_box": F.smooth_l1_loss(chosen, box_targets[objects], beta=self.settings.beta, reduction="sum")
            / count,
        }

    def scored(
        self, logits: Tensor, deltas: Tensor, proposals: Sequence[Tensor], sizes: Sequence[Size]
    ) -> list[tuple[Tensor, Tensor]]:
        """Probabilities [R_i, K+1] and boxes [R_i, K+1, 4] of all regions of each image, clipped to the image."""
        counts = [len(p) for p in proposals]
        probabilities = logits.float().softmax(-1).split(counts)
        boxes = decode_boxes(deltas.float(), torch.cat(list(proposals))[:, None], self.settings.weights).split(counts)
        pairs = zip(probabilities, boxes, sizes, strict=True)
        return [(score, clip_boxes_to_image(box, size)) for score, box, size in pairs]

    @torch.no_grad()
    def decode(
        self, logits: Tensor, deltas: Tensor, proposals: Sequence[Tensor], sizes: Sequence[Size]
    ) -> list[dict[str, Tensor]]:
        """The best boxes of each image after per-class NMS."""
        s, results = self.settings, []
        for score, box in self.scored(logits, deltas, proposals, sizes):
            score, box = score[:, 1:], box[:, 1:]  # the background has no box
            region, label = (score > s.min_score).nonzero(as_tuple=True)
            score, box, label = score[region, label], box[region, label], label + 1
            large = ((box[:, 2:] - box[:, :2]) >= s.min_size).all(1)
            score, box, label = score[large], box[large], label[large]
            keep = batched_nms(box, score, label, s.nms_iou)[: s.max_detections]
            results.append({"boxes": box[keep], "labels": label[keep], "scores": score[keep]})
        return results


def _chunks(regions: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """Split boxes of several images into lists with at most `size` boxes, in order, each from one image only."""
    if sum(map(len, regions)) <= size:
        return [list(regions)]
    return [
        [piece if i == image else piece[:0] for i in range(len(regions))]
        for image, boxes in enumerate(regions)
        for piece in boxes.split(size)
        if len(piece)
    ]

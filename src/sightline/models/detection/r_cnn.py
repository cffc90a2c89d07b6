"""R-CNN: Girshick, Donahue, Darrell, Malik, "Rich feature hierarchies for accurate object detection and semantic
segmentation", CVPR 2014.

About 2000 regions of selective search → each warped to a fixed size with some context → features of a classification
network → a linear SVM per class → box regression by ridge regression → NMS (figure 1). Training has two parts: the
losses fine-tune the network to classify warped regions (section 2.3); then `fit_stages` fits SVMs and box regressors on
fixed features (appendices B and C). Before that, and always with `head="softmax"`, the softmax layer of the fine-tuned
network gives the scores.

Departures: features are pooled maps instead of fully connected layers; crops have 112 pixels by default, not 227; a
sigmoid turns SVM margins into scores, which keeps their order; there are at most 100 detections.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.class_outputs import Output
from sightline.models.detection.candidate_parts import require_regions
from sightline.models.detection.candidates import Candidates, Selection
from sightline.models.detection.detector import Detections, Detector
from sightline.models.detection.r_cnn_stages import Examples, StageReport, StageSettings, fit_stages
from sightline.models.entry import Entry
from sightline.models.keep_size import KeepSize
from sightline.models.model import Losses
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, for_channels
from sightline.models.weights import shared_keys
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.named import BackboneName, build_backbone
from sightline.ops.assignment import match_threshold, sample_balanced
from sightline.ops.boxes import box_iou, clip_boxes_to_image, decode_boxes
from sightline.ops.proposals import CachedProposals, Proposer, SelectiveSearch
from sightline.ops.suppression import batched_nms
from sightline.ops.warping import warp_regions
from sightline.structures import Classes, ImageBatch, Instances, Size

Head = Literal["svm", "softmax"]


@dataclass(frozen=True)
class RCNNSettings:
    """Settings of R-CNN.

    Attributes:
        crop: side of the squares that regions are warped to, in pixels.
        context: width of the context around the region on each side, as a fraction of `crop`.
        proposals: maximum number of regions per image.
        chunk: number of regions that are warped and classified at once; it limits the memory.
        positive_iou: regions with at least this IoU are matched to the object that they overlap most, in fine-tuning.
        samples, positive_fraction: number of regions per image in fine-tuning, and maximum fraction of positives.
        min_score: boxes with a lower score are removed.
        nms_iou: IoU above which NMS removes the lower-scoring box of the same class.
        max_detections: maximum number of detections per image.
        candidates: maximum number of boxes per image before NMS.
    """

    crop: int = 112
    context: float = 16 / 227
    proposals: int = 2000
    chunk: int = 128
    positive_iou: float = 0.5
    samples: int = 64
    positive_fraction: float = 0.25
    min_score: float = 0.05
    nms_iou: float = 0.3
    max_detections: int = 100
    candidates: int = 5000


class RCNN(Detector):
    """Proposals → warped regions → features → classes and boxes of each region.

    Args:
        classes: names of the K classes.
        body: crops [R, C, S, S] → two maps: the first for boxes, the last for classes (they may be the same).
        in_channels: number of channels C of the images.
        proposals: function from an image to boxes, see `sightline.ops.proposals`. It is called with uint8 images.
        head: "svm" or "softmax".
        settings: sizes and thresholds.
    """

    origin = "region"
    class_layers = r"^(softmax|svm|box)_"
    scores_regions = True
    recipe_defaults = {
        "augmentation": "none",
        "batch_size": 2,
        "validate_every": 1000,
    }  # proposals are found once; tests cost

    def __init__(
        self,
        classes: Iterable[str],
        body: FeatureMaps,
        *,
        in_channels: int = 3,
        proposals: Proposer | None = None,
        head: Head = "svm",
        settings: RCNNSettings | None = None,
    ):
        mean, std = for_channels(IMAGENET_MEAN, in_channels), for_channels(IMAGENET_STD, in_channels)
        super().__init__(classes, KeepSize(mean, std))
        if head not in ("svm", "softmax"):
            raise InputError(f"head is {head!r}, but R-CNN has 'svm' and 'softmax'")
        self.settings = s = settings or RCNNSettings()
        if min(s.crop, s.proposals, s.chunk, s.samples) < 1 or not 0 <= s.context < 0.5:
            raise InputError(
                f"crop, proposals, chunk and samples must be at least 1, and context in [0, 0.5); they are in {s}"
            )
        self.head = head
        self.proposals: Proposer = proposals or SelectiveSearch()
        self.body = body
        features, box_features = body.channels[-1], 4 * body.channels[0]
        count = len(self.classes)
        self.softmax_layer = nn.Linear(features, count + 1)
        nn.init.normal_(self.softmax_layer.weight, 0, 0.01)
        nn.init.zeros_(self.softmax_layer.bias)
        # results of `fit_stages` are buffers, since they are not trained by gradients
        self.register_buffer("svm_weight", torch.zeros(count, features))
        self.register_buffer("svm_bias", torch.zeros(count))
        self.register_buffer("svm_fitted", torch.tensor(False))
        self.register_buffer("box_weight", torch.zeros(count, 4, box_features))
        self.register_buffer("box_bias", torch.zeros(count, 4))

    preprocess: KeepSize
    svm_weight: Tensor
    svm_bias: Tensor
    svm_fitted: Tensor
    box_weight: Tensor
    box_bias: Tensor

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """The layers of the softmax. SVMs and box regressors are not kept: every training run fits them again."""
        return super().class_outputs(key, shape) if key.startswith("softmax_layer.") else []

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the fine-tuning loss."""
        images = self.images(batch)
        if targets is None:
            return [self.detect(image) for image in images], {}
        crops, labels = [], []
        for image, target in zip(images, targets, strict=True):
            regions, label = self.sample(self.propose(image), target)
            crops.append(self.warp(image, regions))
            labels.append(label)
        logits = self.softmax_layer(self.features(torch.cat(crops))[0])
        return [], {"loss_classification": F.cross_entropy(logits, torch.cat(labels))}

    def images(self, batch: ImageBatch) -> list[Tensor]:
        """The normalised images [C, Hi, Wi] of a batch, without padding."""
        return [image[:, :h, :w] for image, (h, w) in zip(batch.tensor, batch.sizes, strict=True)]

    def candidates(self, batch: ImageBatch, regions: Sequence[Tensor] | None = None) -> list[Candidates]:
        """Like `Detector.candidates`: every proposal, or region, with one box for each class."""
        images = self.images(batch)
        if regions is None:
            regions = [self.propose(image) for image in images]
        require_regions(regions, batch)
        found = []
        for image, own in zip(images, regions, strict=True):
            size, parts = (int(image.shape[1]), int(image.shape[2])), []
            for part in own.split(self.settings.chunk):
                features, box_features = self.features(self.warp(image, part))
                labels = torch.arange(len(self.classes), device=own.device)[:, None].expand(-1, len(part))
                boxes = torch.stack([self.correct(part, box_features, label, size) for label in labels], 1)
                parts.append((boxes, *self.scored(features)))
            boxes, logits, scores = (torch.cat(values) for values in zip(*parts, strict=True))
            found.append(Candidates(boxes, logits, scores, own, own.new_zeros(len(own), dtype=torch.int64)))
        return found

    def map_layers(self) -> list[nn.Module]:
        """The map that classes are predicted from, of each region."""
        return self.body.map_layers()[-1:]

    def region_frame(self, region: Tensor) -> Tensor:
        """The region with its context."""
        low, high = region.chunk(2)
        half = (high - low) / (2 - 4 * self.settings.context)
        return torch.cat([(low + high) / 2 - half, (low + high) / 2 + half])

    def selection(self) -> Selection:
        s = self.settings
        return Selection(s.min_score, s.candidates, "image", nms_iou=s.nms_iou, max_detections=s.max_detections)

    @torch.no_grad()
    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """The detections of one normalised image [C, H, W], computed in chunks that keep only the best boxes."""
        s, size = self.settings, (int(image.shape[1]), int(image.shape[2]))
        boxes, scores, labels = image.new_zeros(0, 4), image.new_zeros(0), image.new_zeros(0, dtype=torch.int64)
        for regions in self.propose(image).split(s.chunk):
            features, box_features = self.features(self.warp(image, regions))
            score = self.score(features)
            region, label = (score > s.min_score).nonzero(as_tuple=True)
            box = self.correct(regions[region], box_features[region], label, size)
            boxes, scores, labels = (
                torch.cat(pair)
                for pair in ((boxes, box), (scores, score[region, label]), (labels, label + 1))  # 0 is the background
            )
            if len(scores) > s.candidates:
                scores, best = scores.topk(s.candidates)
                boxes, labels = boxes[best], labels[best]
        keep = batched_nms(boxes, scores, labels, s.nms_iou)[: s.max_detections]
        return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}

    @torch.no_grad()
    def propose(self, image: Tensor) -> Tensor:
        """The first proposals [P, 4] of a normalised image [C, H, W]."""
        return self.proposals(self.preprocess.restored(image))[: self.settings.proposals].to(image)

    def warp(self, image: Tensor, regions: Tensor) -> Tensor:
        """Crop and warp regions [R, 4] of a normalised image → [R, C, S, S] (appendix A, "warp")."""
        return warp_regions(image, regions, self.settings.crop, self.settings.context)

    def features(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Crops [R, C, S, S] → features for classes [R, F], and features with spatial resolution for boxes [R, G]."""
        if len(crops) == 0:
            return crops.new_zeros(0, self.body.channels[-1]), crops.new_zeros(0, 4 * self.body.channels[0])
        maps = list(self.body(crops.contiguous(memory_format=torch.channels_last)).values())
        return maps[-1].mean((2, 3)), F.adaptive_avg_pool2d(maps[0], 2).flatten(1)

    def score(self, features: Tensor) -> Tensor:
        """Features [R, F] → scores [R, K] in [0, 1]."""
        return self.scored(features)[1]

    def scored(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [R, F] → SVM margins or logits of the softmax, and scores in [0, 1], [R, K] each."""
        if self.head == "svm" and bool(self.svm_fitted):
            margins = F.linear(features, self.svm_weight, self.svm_bias)
            return margins, margins.sigmoid()
        logits = self.softmax_layer(features)
        return logits[:, 1:], logits.softmax(-1)[:, 1:]

    def correct(self, regions: Tensor, box_features: Tensor, labels: Tensor, size: Size) -> Tensor:
        """Box regression: regions [N, 4] → boxes for the classes `labels` [N], clipped to the image (appendix C)."""
        deltas = torch.zeros_like(regions)
        for label in labels.unique().tolist():
            own = labels == label
            deltas[own] = F.linear(box_features[own], self.box_weight[label], self.box_bias[label])
        return clip_boxes_to_image(decode_boxes(deltas, regions), size)

    @torch.no_grad()
    def sample(self, proposals: Tensor, target: Instances) -> tuple[Tensor, Tensor]:
        """Sample regions [R, 4] for fine-tuning, with labels [R], 0 for the background (section 2.3)."""
        s = self.settings
        boxes = target.boxes.to(proposals)
        regions = torch.cat([boxes, proposals])
        if len(regions) == 0:  # without proposals, use the whole image as background
            height, width = target.image_size
            return proposals.new_tensor([[0, 0, width, height]]), target.labels.new_zeros(1)
        match = match_threshold(box_iou(boxes, regions), s.positive_iou, s.positive_iou)
        positive, negative = sample_balanced(match >= 0, match < 0, s.samples, s.positive_fraction)
        labels = target.labels.new_zeros(len(positive) + len(negative))
        labels[: len(positive)] = target.labels[match[positive]]
        return regions[torch.cat([positive, negative])], labels

    def fit_stages(
        self,
        data: Examples,
        *,
        folder: str | Path | None = None,
        settings: StageSettings | None = None,
        progress: bool = False,
    ) -> StageReport:
        """Fit the SVMs and the box regressors on labelled images; see `sightline.models.detection.r_cnn_stages`."""
        return fit_stages(self, data, folder=folder, settings=settings, progress=progress)

    def before_training(self, folder: Path, *, same_images: bool) -> None:
        """Cache the proposals in the folder if every image stays the same in all epochs. They are not saved."""
        if same_images and not isinstance(self.proposals, CachedProposals):
            self.proposals = CachedProposals(self.proposals, folder / "proposals")

    def after_training(self, data: Examples, folder: Path, progress: bool) -> bool:
        """Fit the SVMs and the box regressors."""
        features = folder / "features"  # 10 MB per image, deleted afterwards
        self.fit_stages(data, folder=features, progress=progress)
        shutil.rmtree(features, ignore_errors=True)
        return True


REGIONS = RCNNSettings()


def r_cnn(
    classes: Iterable[str],
    *,
    backbone: BackboneName = "mobilenet_v2",
    in_channels: int = 3,
    head: Head = "svm",
    search: Literal["single", "fast", "quality"] = "fast",
    regions: RCNNSettings = REGIONS,
) -> RCNN:
    """R-CNN on any backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        head: "svm" or "softmax".
        search: mode of selective search.
        regions: settings of the regions and of the detections.
    """
    names, net = Classes(classes), build_backbone(backbone, in_channels)
    taken = {stage.layer: stage for stage in (net.stages[-1], net.last_map)}
    body, proposals = net.maps_of(list(taken.values())), SelectiveSearch(search)
    model = RCNN(names, body, in_channels=in_channels, proposals=proposals, head=head, settings=regions)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Girshick et al. 2014, Rich feature hierarchies for accurate object detection"

ENTRIES = (
    Entry(name="r_cnn", builder=r_cnn, task="detection", paper=_PAPER),
    *(
        Entry(
            name=f"r_cnn_{backbone}",
            builder=r_cnn,
            task="detection",
            paper=_PAPER,
            summary=f"R-CNN on {title}.",
            fixed={"backbone": backbone},
        )
        for backbone, title in (("mobilenet_v2", "MobileNet v2"), ("resnet18", "ResNet-18"))
    ),
)

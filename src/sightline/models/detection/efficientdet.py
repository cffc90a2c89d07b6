"""EfficientDet: Tan, Pang, Le, "EfficientDet: scalable and efficient object detection", CVPR 2020.

The four steps are separate methods: `network`, `assign`, `losses`, `decode`.

Details that the paper does not specify are those of the authors' models: a Huber loss with δ = 0.1 and a weight of 50,
no ignored anchors between background and object, and the same width and depth for D7 as for D6.

Departures: convolutions and poolings of stride 2 are padded symmetrically, as in the published classifiers; the
original's "same" padding of an even map pads only right and bottom. Images are padded to the next multiple of 128
instead of to a square. Anchor corners are rounded to whole pixels. NMS takes at most 1000 (box, class) pairs above a
minimum score, instead of 5000.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.candidates import DenseCandidates, Encoded, Method, Selection
from sightline.models.detection.detector import Detections, Detector
from sightline.models.detection.parts import STRIDES, SelectionSettings, best_candidates, level_anchors
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.named import PyramidName, build_backbone
from sightline.nn.heads.efficientdet import EfficientDetHead
from sightline.nn.necks.bifpn import BiFPN
from sightline.ops.anchors import base_anchors
from sightline.ops.assignment import match_best
from sightline.ops.boxes import box_iou, clip_boxes_to_image, decode_boxes, encode_boxes
from sightline.ops.losses import huber_loss, sigmoid_focal_loss
from sightline.ops.suppression import batched_nms, soft_nms
from sightline.runtime.sharing import batch_count
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class EfficientDetSettings(SelectionSettings):
    """Settings of EfficientDet, in addition to those of `SelectionSettings`.

    Attributes:
        positive_iou: anchors with at least this IoU are matched to the object that they overlap most. All others are
            background, except for the best anchor of each object.
        alpha, gamma: parameters of the focal loss: weight of positive anchors, and exponent of the modulating factor.
        delta, box_weight: threshold of the Huber loss between its quadratic and its linear part, and loss weight.
        min_score: boxes with a lower score are removed, before and after NMS.
        candidates: maximum number of (box, class) pairs per image before NMS.
        suppression: "soft" for Soft-NMS, which decreases the scores of overlapping boxes (as in the paper), or "hard"
            for NMS.
        sigma: width of the Gaussian in Soft-NMS.
        nms_iou: IoU above which hard NMS removes the lower-scoring box.
    """

    positive_iou: float = 0.5
    alpha: float = 0.25
    gamma: float = 1.5
    delta: float = 0.1
    box_weight: float = 50.0
    min_score: float = 0.01
    suppression: Literal["soft", "hard"] = "soft"
    sigma: float = 0.5

    def __post_init__(self) -> None:
        if self.suppression not in ("soft", "hard"):
            raise InputError(f"suppression is {self.suppression!r}, but must be 'soft' or 'hard'")


class EfficientDet(Detector):
    """Backbone → P3 … P7 fused by BiFPN layers → two towers that classify and regress every anchor (figure 3).

    Args:
        classes: names of the K classes.
        preprocess: preprocessing of images into a batch.
        body: batch [N, C, H, W] → C3, C4, C5 by name.
        neck: these → P3 … P7, from fine to coarse.
        head: P3 … P7 → scores [N, H·W·A, K] and deltas [N, H·W·A, 4] of each level.
        anchor_bases: anchors of one cell for each level, [A, 4] around the centre of the cell at (0, 0), in pixels of
            the batch.
        settings: loss weights and thresholds.
    """

    origin = "anchor"
    class_layers = r"head\.classification\.last\.1\."
    background_output = False
    # Of AdamW. The paper's 300 epochs (section 5.1) are {"optimizer": "sgd", "lr": 0.01, "weight_decay": 4e-5} for 8
    # images per step; in 40 steps on two images that comes to a class loss of 0.92, this to 0.13.
    recipe_defaults = {"lr": 1e-3}

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        body: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        anchor_bases: Sequence[Tensor],
        settings: EfficientDetSettings | None = None,
    ):
        super().__init__(classes, preprocess)
        self.backbone = body
        self.neck = neck
        self.head = head
        self.anchor_bases = list(anchor_bases)
        self.settings = settings or EfficientDetSettings()

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the two losses."""
        maps, logits, deltas = self.network(batch.tensor)
        anchors = self.anchors(maps, batch)
        if targets is None:
            return self.decode(logits, deltas, anchors, batch.sizes), {}
        return [], self.losses(logits, deltas, anchors, self.assign(anchors, targets), targets)

    def network(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Batch [N, C, H, W] → maps, scores [N, S_l, K] before the sigmoid, and deltas [N, S_l, 4] of each level.

        H and W are multiples of 128, the stride of P7.
        """
        maps = self.neck(list(self.backbone(images).values()))
        return (maps, *self.head(maps))

    def anchors(self, maps: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """The anchors of all levels: [S, 4] xyxy in pixels of the batch."""
        return torch.cat(level_anchors(self.anchor_bases, maps, batch))

    def assign(self, anchors: Tensor, targets: Sequence[Instances]) -> Tensor:
        """[N, S] index of the object of each anchor, or −1 for background. Each object keeps its best anchor."""
        return torch.stack([match_best(box_iou(t.boxes, anchors), self.settings.positive_iou) for t in targets])

    def losses(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Tensor,
        matches: Tensor,
        targets: Sequence[Instances],
    ) -> dict[str, Tensor]:
        """Focal loss of all anchors and Huber loss of the positive anchors' deltas.

        Both are divided by the number of positive anchors in the batch plus 1. Shapes: logits [N, S_l, K] and deltas
        [N, S_l, 4] of each level, anchors [S, 4], matches [N, S].
        """
        s = self.settings
        scores, corrections = torch.cat(list(logits), 1), torch.cat(list(deltas), 1)
        positive = matches >= 0
        class_targets = torch.zeros_like(scores)
        box_terms = []
        for i, target in enumerate(targets):
            here, of = positive[i], matches[i, positive[i]]
            class_targets[i, here, target.labels[of] - 1] = 1
            box_targets = encode_boxes(target.boxes[of], anchors[here])
            box_terms.append(huber_loss(corrections[i, here], box_targets, s.delta, "sum"))
        count = batch_count(positive.sum(), 0, added=1)
        return {
            "loss_classification": sigmoid_focal_loss(scores, class_targets, s.alpha, s.gamma, "sum") / count,
            "loss_box": s.box_weight * torch.stack(box_terms).sum() / (4 * count),
        }

    @torch.no_grad()
    def decode(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Tensor, sizes: Sequence[Size]
    ) -> Detections:
        """The best boxes of each image after per-class NMS; labels 1 … K."""
        s, results = self.settings, []
        scores, ids, labels = best_candidates([F.pad(torch.cat(list(logits), 1), (1, 0))], s.candidates)
        chosen = torch.cat(list(deltas), 1).gather(1, ids[..., None].expand(-1, -1, 4))
        boxes = decode_boxes(chosen.float(), anchors[ids])
        for box, score, label, size in zip(boxes, scores, labels, sizes, strict=True):
            likely = score > s.min_score
            box, score, label = clip_boxes_to_image(box[likely], size), score[likely], label[likely]
            if s.suppression == "soft":
                keep, score = soft_nms(box, score, s.sigma, s.min_score, labels=label)
            else:
                keep = batched_nms(box, score, label, s.nms_iou)
                score = score[keep]
            keep, score = keep[: s.max_detections], score[: s.max_detections]
            results.append({"boxes": box[keep], "labels": label[keep], "scores": score})
        return results

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        maps, logits, deltas = self.network(batch.tensor)
        anchors, scores = self.anchors(maps, batch), torch.cat(logits, 1).float()
        encoded, counts = Encoded(torch.cat(deltas, 1).float(), anchors, decode_boxes), [x.shape[1] for x in logits]
        return DenseCandidates.decoded(encoded, scores, scores.sigmoid(), anchors, counts)

    def map_layers(self) -> list[nn.Module]:
        """The maps of the neck."""
        return map_layers(self.neck)

    def selection(self) -> Selection:
        """Soft NMS by default, which lowers the scores of overlapping boxes."""
        s = self.settings
        method: Method = "soft_nms" if s.suppression == "soft" else "nms"
        return Selection(
            s.min_score,
            s.candidates,
            "image",
            method=method,
            nms_iou=s.nms_iou,
            max_detections=s.max_detections,
            sigma=s.sigma,
        )

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """Width and height of the anchors, [A, 2], in pixels of an image of size `image_size`."""
        bases = torch.cat(self.anchor_bases)
        inside = self.preprocess.resized(image_size)
        return (bases[:, 2:] - bases[:, :2]) * (max(image_size) / max(inside))


SETTINGS = EfficientDetSettings()


def efficientdet(
    classes: Iterable[str],
    *,
    backbone: PyramidName = "efficientnet_b0",
    in_channels: int = 3,
    image_size: int = 512,
    channels: int = 64,
    repeats: int = 3,
    depth: int = 3,
    anchor_scale: float = 4.0,
    weighted: bool = True,
    settings: EfficientDetSettings = SETTINGS,
) -> EfficientDet:
    """EfficientDet on any backbone, by default D0's.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        image_size: length in pixels that the longer side of an image is resized to, a multiple of 128.
        channels, repeats: number of channels and of layers of the BiFPN (table 1).
        depth: number of convolutions in each tower of the head.
        anchor_scale: side of the smallest anchor relative to the stride of its level.
        weighted: whether the BiFPN sums its inputs with learned weights.
        settings: loss weights and thresholds.
    """
    coarsest = STRIDES[-1]
    if image_size < coarsest or image_size % coarsest:
        near = max(1, round(image_size / coarsest)) * coarsest
        raise InputError(
            f"image_size is {image_size}, but must be a multiple of {coarsest}, the stride of the coarsest map; "
            f"give {near}"
        )
    names, net = Classes(classes), build_backbone(backbone, in_channels, known=PyramidName)
    body = net.maps((8, 16, 32))
    neck = BiFPN(body.channels, channels, repeats, levels=len(STRIDES), weighted=weighted)
    # three sizes, a third of an octave apart, in three aspect ratios around the centre of a cell (section 5.1)
    sizes = [[anchor_scale * stride * 2 ** (k / 3) for k in range(3)] for stride in STRIDES]
    bases = [base_anchors(s, (0.5, 1.0, 2.0)) + stride / 2 for s, stride in zip(sizes, STRIDES, strict=True)]
    head = EfficientDetHead(channels, len(bases[0]), len(names), depth, levels=len(STRIDES))
    preprocess = imagenet_preprocess(in_channels, min_size=image_size, max_size=image_size, divisor=coarsest)
    model = EfficientDet(names, preprocess, body, neck, head, bases, settings)
    model.backbone_keys = shared_keys(net, model)
    return model


# name: backbone, parameters with 90 classes, image_size, channels, repeats, depth (table 1)
_TABLE = {
    "d0": ("b0", "3,880,067", 512, 64, 3, 3),
    "d1": ("b1", "6,625,898", 640, 88, 4, 3),
    "d2": ("b2", "8,097,039", 768, 112, 5, 3),
    "d3": ("b3", "12,032,296", 896, 160, 6, 4),
    "d4": ("b4", "20,723,675", 1024, 224, 7, 4),
    "d5": ("b5", "33,653,315", 1280, 288, 7, 4),
    "d6": ("b6", "51,871,782", 1280, 384, 8, 5),
    "d7": ("b6", "51,871,782", 1536, 384, 8, 5),
}
_MORE: dict[str, tuple[dict[str, Any], str]] = {
    "d6": ({"weighted": False}, " Its BiFPN sums maps without weights."),
    "d7": ({"weighted": False, "anchor_scale": 5.0}, " D6 for larger images, with larger anchors."),
}
_PAPER = "Tan, Pang, Le 2020, EfficientDet"


def _entry(name: str, net: str, parameters: str, image_size: int, channels: int, repeats: int, depth: int) -> Entry:
    more, note = _MORE.get(name, ({}, ""))
    return Entry(
        name=f"efficientdet_{name}",
        builder=efficientdet,
        task="detection",
        paper=_PAPER,
        summary=f"{name.upper()}, on EfficientNet {net.upper()}: {parameters} parameters with 90 classes.{note}",
        fixed={
            "backbone": f"efficientnet_{net}",
            "channels": channels,
            "repeats": repeats,
            "depth": depth,
            "anchor_scale": 4.0,
            "weighted": True,
        }
        | more,
        defaults={"image_size": image_size},
    )


ENTRIES = (
    Entry(name="efficientdet", builder=efficientdet, task="detection", paper=_PAPER),
    *(_entry(name, *row) for name, row in _TABLE.items()),
)

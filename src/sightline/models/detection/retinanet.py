"""RetinaNet: Lin, Goyal, Girshick, He, Dollár, "Focal loss for dense object detection", ICCV 2017; version 2: Zhang et
al., "Bridging the gap between anchor-based and anchor-free detection", CVPR 2020, table 1 (group normalisation in the
heads and the generalised IoU as the box loss), with P6 from C5.

The four steps are separate methods: `network`, `assign`, `losses`, `decode`.

Departures of version 1 from the paper, all as in the published weights: P6 is computed from P5; the box loss is the L1
loss instead of smooth L1; anchors are centred on the top-left corners of their cells; each object is matched to its
best anchor at any IoU; the losses of each image are divided by its number of positive anchors and averaged over images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.detection.candidate_parts import dense_selection
from sightline.models.detection.candidates import DenseCandidates, Encoded, Selection
from sightline.models.detection.detector import SMALL_RATE, Detections, Detector, head_outputs
from sightline.models.detection.parts import (
    STRIDES,
    SelectionSettings,
    anchor_shapes,
    best_candidates,
    class_targets,
    level_anchors,
    pyramid,
    suppressed,
)
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import SIZE, InputSize, Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, PyramidName, build_backbone
from sightline.nn.heads.retinanet import RetinaNetHead, group_norm
from sightline.ops.anchors import base_anchors
from sightline.ops.assignment import BETWEEN, match_threshold
from sightline.ops.boxes import box_iou, decode_boxes, encode_boxes
from sightline.ops.losses import generalized_box_iou_loss, sigmoid_focal_loss
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class RetinaNetSettings(SelectionSettings):
    """Settings of RetinaNet, in addition to those of `SelectionSettings`.

    Attributes:
        positive_iou, negative_iou: anchors with at least `positive_iou` are positive, anchors below `negative_iou` are
            background, and those in between are ignored.
        alpha, gamma: parameters of the focal loss: weight of positives, and exponent of the modulating factor.
        box_loss: "l1" for the L1 loss of the deltas, or "giou" for 1 − generalised IoU of the boxes.
    """

    positive_iou: float = 0.5
    negative_iou: float = 0.4
    alpha: float = 0.25
    gamma: float = 2.0
    box_loss: Literal["l1", "giou"] = "l1"
    max_detections: int = 300

    def __post_init__(self) -> None:
        if self.box_loss not in ("l1", "giou"):
            raise InputError(f"box_loss is {self.box_loss!r}, but must be 'l1' or 'giou'")


class RetinaNet(Detector):
    """Backbone → pyramid → two subnets that classify and regress every anchor (figure 3).

    Args:
        classes: names of the classes.
        preprocess: preprocessing of images into a batch.
        backbone: batch [N, C, H, W] → maps by name, from fine to coarse.
        head: maps → scores [N, H·W·A, K + 1] (output 0 is unused, as in the published weights) and deltas
            [N, H·W·A, 4] of each level.
        anchor_bases: anchors of one cell for each level, [A, 4] around (0, 0), in pixels of the batch.
        settings: thresholds and limits.
        output_ids: as in `Detector`.
    """

    origin = "anchor"
    class_layers = r"head\.classification_head\.cls_logits\."

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        head: nn.Module,
        anchor_bases: Sequence[Tensor],
        settings: RetinaNetSettings | None = None,
        output_ids: Sequence[int] | None = None,
    ):
        super().__init__(classes, preprocess, output_ids)
        self.backbone = backbone
        self.head = head
        self.anchor_bases = list(anchor_bases)
        self.settings = settings or RetinaNetSettings()

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the two losses."""
        maps, logits, deltas = self.network(batch.tensor)
        anchors = self.anchors(maps, batch)
        if targets is None:
            return self.decode(logits, deltas, anchors, batch.sizes), {}
        return [], self.losses(logits, deltas, anchors, self.assign(anchors, targets), targets)

    def network(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Batch [N, C, H, W] → maps, scores [N, S_l, K + 1] before the sigmoid, deltas [N, S_l, 4] of each level."""
        maps = list(self.backbone(images).values())
        return (maps, *self.head(maps))

    def anchors(self, maps: Sequence[Tensor], batch: ImageBatch) -> list[Tensor]:
        """The anchors of each level: [S_l, 4] xyxy in pixels of the batch."""
        return level_anchors(self.anchor_bases, maps, batch)

    def assign(self, anchors: Sequence[Tensor], targets: Sequence[Instances]) -> Tensor:
        """[N, S] index of the object of each anchor, −1 for background, −2 for ignored (section 4, "Anchors")."""
        s, all_anchors = self.settings, torch.cat(list(anchors))
        return torch.stack(
            [match_threshold(box_iou(t.boxes, all_anchors), s.positive_iou, s.negative_iou, True) for t in targets]
        )

    def losses(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        matches: Tensor,
        targets: Sequence[Instances],
    ) -> dict[str, Tensor]:
        """Focal loss of all anchors that are not ignored, and box loss of the positive anchors (section 4.1).

        Both are divided by the number of positive anchors of each image. Shapes of each level: logits [N, S_l, K + 1],
        deltas [N, S_l, 4], anchors [S_l, 4]; matches [N, S].
        """
        s = self.settings
        scores, corrections, boxes = torch.cat(list(logits), 1), torch.cat(list(deltas), 1), torch.cat(list(anchors))
        positive, labels = matches >= 0, class_targets(scores, matches, targets)
        box_terms = []
        for i, target in enumerate(targets):
            here, of = positive[i], matches[i, positive[i]]
            box_terms.append(self.box_loss(corrections[i, here], boxes[here], target.boxes[of]))
        terms = sigmoid_focal_loss(scores, labels, s.alpha, s.gamma).sum(-1) * (matches != BETWEEN)
        count = positive.sum(1).clamp(min=1)
        return {
            "loss_classification": (terms.sum(1) / count).mean(),
            "loss_box": (torch.stack(box_terms) / count).mean(),
        }

    def box_loss(self, deltas: Tensor, anchors: Tensor, target_boxes: Tensor) -> Tensor:
        """The box loss, summed over P positive anchors: deltas, anchors and target boxes, each [P, 4]."""
        if self.settings.box_loss == "giou":
            return generalized_box_iou_loss(decode_boxes(deltas.float(), anchors), target_boxes, reduction="sum")
        return (deltas.float() - encode_boxes(target_boxes, anchors)).abs().sum()

    @torch.no_grad()
    def decode(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], sizes: Sequence[Size]
    ) -> Detections:
        """The best boxes of each image after per-class NMS (section 4.1, "Inference"); labels 1 … K."""
        s = self.settings
        scores, ids, labels = best_candidates(logits, s.candidates)
        chosen = torch.cat(list(deltas), 1).gather(1, ids[..., None].expand(-1, -1, 4))
        boxes = decode_boxes(chosen.float(), torch.cat(list(anchors))[ids])
        return suppressed(boxes, scores, labels, sizes, s)

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        maps, logits, deltas = self.network(batch.tensor)
        anchors = self.anchors(maps, batch)
        scores, origins = self.of_classes(torch.cat(logits, 1)).float(), torch.cat(anchors)
        encoded = Encoded(torch.cat(deltas, 1).float(), origins, decode_boxes)
        return DenseCandidates.decoded(encoded, scores, scores.sigmoid(), origins, [a.shape[0] for a in anchors])

    def map_layers(self) -> list[nn.Module]:
        """The maps of the backbone."""
        return map_layers(self.backbone)

    def selection(self) -> Selection:
        return dense_selection(self.settings)

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """Width and height of the anchors, [A, 2], in pixels of an image of size `image_size`."""
        return anchor_shapes(self.anchor_bases, self.preprocess, image_size)


SETTINGS = RetinaNetSettings()
VERSION_2 = RetinaNetSettings(box_loss="giou")


def retinanet(
    classes: Iterable[str],
    *,
    backbone: PyramidName = "resnet50",
    in_channels: int = 3,
    options: BackboneOptions = OPTIONS,
    size: InputSize = SIZE,
    version: Literal[1, 2] = 2,
    channels: int = 256,
    depth: int = 4,
    settings: RetinaNetSettings = VERSION_2,
    output_ids: Sequence[int] | None = None,
) -> RetinaNet:
    """RetinaNet with P3 to P7 on any backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        options: normalisation of the backbone, and how many of its layers are trained.
        size: size that images are resized to.
        version: 1 computes P6 from P5 and has no normalisation layers in the heads; 2 computes P6 from C5 and has group
            normalisation in the heads.
        channels: number of channels of the pyramid and the heads (256 in the paper); a multiple of 32 in version 2.
        depth: number of convolutions of each subnet before its last one (4 in the paper).
        settings: thresholds and limits.
        output_ids: as in `Detector`.
    """
    names, net = Classes(classes), build_backbone(backbone, in_channels, options, known=PyramidName)
    levels = pyramid(net, options.trainable_layers, channels, "p5" if version == 1 else "c5")
    # anchors of three sizes, a third of an octave apart and truncated to whole pixels, in three ratios (section 4)
    sizes = [[4 * stride, int(4 * stride * 2 ** (1 / 3)), int(4 * stride * 2 ** (2 / 3))] for stride in STRIDES]
    bases = [base_anchors(s, (0.5, 1.0, 2.0)) for s in sizes]
    norm = group_norm if version == 2 else None
    head = RetinaNetHead(channels, len(bases[0]), head_outputs(names, output_ids) + 1, depth=depth, norm=norm)
    model = RetinaNet(names, imagenet_preprocess(in_channels, size), levels, head, bases, settings, output_ids)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Lin et al. 2017, Focal loss for dense object detection"

ENTRIES = (
    Entry(
        name="retinanet",
        builder=retinanet,
        task="detection",
        paper=_PAPER,
        start={"norm": "frozen"},
        fixed={"version": 2},
    ),
    Entry(
        name="retinanet_resnet50_fpn",
        builder=retinanet,
        task="detection",
        paper=_PAPER,
        summary="ResNet-50 with P3 to P7: 34,014,999 parameters with 90 classes and frozen norms.",
        start={"norm": "frozen", "trainable_layers": 3},
        fixed={"backbone": "resnet50", "version": 1},
        defaults={"settings": SETTINGS},
    ),
    Entry(
        name="retinanet_resnet50_fpn_v2",
        builder=retinanet,
        task="detection",
        paper=f"{_PAPER}; Zhang et al. 2020, Bridging the gap between anchor-based and anchor-free detection",
        summary="Version 2: group normalisation in the heads, P6 from C5, generalised IoU: 38,198,935 parameters with "
        "90 classes.",
        start={"trainable_layers": 3},
        fixed={"backbone": "resnet50", "version": 2},
    ),
    Entry(
        name="retinanet_resnet18_fpn",
        builder=retinanet,
        task="detection",
        paper=_PAPER,
        summary="Version 2 on ResNet-18, for small datasets.",
        fixed={"backbone": "resnet18", "version": 2},
    ),
    Entry(
        name="retinanet_mobilenet_v2_fpn",
        builder=retinanet,
        task="detection",
        paper=_PAPER,
        summary="Version 2 on MobileNet v2, for training on CPUs: small images, and a narrower and shallower pyramid "
        "and heads.",
        fixed={"backbone": "mobilenet_v2", "version": 2},
        defaults={"min_size": 320, "max_size": 512, "channels": 128, "depth": 2},
        recipe=SMALL_RATE,
    ),
)

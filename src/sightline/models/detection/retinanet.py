"""RetinaNet: Lin, Goyal, Girshick, He, Dollár, "Focal loss for dense object detection", ICCV 2017; version 2: Zhang et
al., "Bridging the gap between anchor-based and anchor-free detection", CVPR 2020, table 1 (group normalisation in the
heads and the generalised IoU as the box loss), with P6 from C5.

The four steps stand apart: `network`, `assign`, `losses`, `decode`.

Departures of version 1 from the paper, all as in the published weights: P6 is computed from P5, the box loss is the
absolute error instead of smooth L1, anchors stand on the top-left corners of their cells, each object's best anchor is
its own however little they overlap, the losses are averaged over images, each divided by its own number of anchors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.detection.detector import SMALL_RATE, Detections, Detector, Losses, head_outputs
from sightline.models.detection.pyramid import (
    STRIDES,
    best_candidates,
    mobilenet_v2_pyramid,
    resnet_pyramid,
    suppressed,
)
from sightline.models.preprocess import Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.resnet import resnet18, resnet50
from sightline.nn.heads.retinanet import RetinaNetHead, group_norm
from sightline.nn.layers import Norm, NormLayer, norm_maker
from sightline.nn.necks.fpn import PyramidBackbone
from sightline.ops.anchors import base_anchors, pyramid_anchors
from sightline.ops.assignment import BETWEEN, match_threshold
from sightline.ops.boxes import box_iou, decode_boxes, encode_boxes
from sightline.ops.losses import generalized_box_iou_loss, sigmoid_focal_loss
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class RetinaNetSettings:
    """Numbers of RetinaNet.

    Attributes:
        positive_iou, negative_iou: an anchor is an object at or above the first, background below the second; between
            them it does not train.
        alpha, gamma: of the focal loss: weight of the objects, and how strongly easy anchors count less.
        box_loss: "l1", the absolute error of the four corrections, or "giou", 1 − generalised IoU of the boxes.
        min_score: boxes of a lower score are dropped.
        candidates: best boxes a level that enter the suppression.
        nms_iou: overlap at which the weaker box of a class is dropped.
        max_detections: boxes an image that a result keeps.
    """

    positive_iou: float = 0.5
    negative_iou: float = 0.4
    alpha: float = 0.25
    gamma: float = 2.0
    box_loss: Literal["l1", "giou"] = "l1"
    min_score: float = 0.05
    candidates: int = 1000
    nms_iou: float = 0.5
    max_detections: int = 300

    def __post_init__(self) -> None:
        if self.box_loss not in ("l1", "giou"):
            raise InputError(f"box_loss is {self.box_loss!r}, but must be 'l1' or 'giou'")


class RetinaNet(Detector):
    """Backbone → pyramid → every anchor classified and corrected by two small subnets (figure 3).

    Args:
        classes: names of the classes.
        preprocess: images → batch.
        backbone: batch [N, C, H, W] → maps by name, fine to coarse.
        head: maps → of each level scores [N, H·W·A, K + 1] (output 0 is not used, as in the published weights) and
            corrections [N, H·W·A, 4].
        anchor_bases: a level's anchors of one cell, [A, 4] around (0, 0) in pixels of the batch.
        settings: thresholds and counts.
        output_ids: as in `Detector`.
    """

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
        """A batch → detections of each image; with targets, the two losses."""
        maps, logits, deltas = self.network(batch.tensor)
        anchors = self.anchors(maps, batch)
        if targets is None:
            return self.decode(logits, deltas, anchors, batch.sizes), {}
        return [], self.losses(logits, deltas, anchors, self.assign(anchors, targets), targets)

    def network(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Batch [N, C, H, W] → of each level its map, scores [N, S_l, K + 1] before the sigmoid, corrections
        [N, S_l, 4].
        """
        maps = list(self.backbone(images).values())
        return (maps, *self.head(maps))

    def anchors(self, maps: Sequence[Tensor], batch: ImageBatch) -> list[Tensor]:
        """The anchors of each level: [S_l, 4] xyxy in pixels of the batch."""
        shapes: list[Size] = [(x.shape[-2], x.shape[-1]) for x in maps]
        size = batch.tensor.shape[-2], batch.tensor.shape[-1]
        return pyramid_anchors(self.anchor_bases, shapes, size, device=batch.tensor.device, dtype=torch.float32)

    def assign(self, anchors: Sequence[Tensor], targets: Sequence[Instances]) -> Tensor:
        """For every anchor: the id of its object, −1 for background, −2 for neither (section 4, "Anchors"). [N, S]"""
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
        """Focal loss of all anchors but those between, box loss of the objects; over an image's objects (section 4.1).

        Logits [N, S_l, K + 1], deltas [N, S_l, 4], anchors [S_l, 4] of each level; matches [N, S].
        """
        s = self.settings
        scores, corrections, boxes = torch.cat(list(logits), 1), torch.cat(list(deltas), 1), torch.cat(list(anchors))
        positive = matches >= 0
        truths = torch.zeros_like(scores)
        box_terms = []
        for i, target in enumerate(targets):
            here, of = positive[i], matches[i, positive[i]]
            truths[i, here, target.labels[of]] = 1
            box_terms.append(self.box_loss(corrections[i, here], boxes[here], target.boxes[of]))
        terms = sigmoid_focal_loss(scores, truths, s.alpha, s.gamma).sum(-1) * (matches != BETWEEN)
        count = positive.sum(1).clamp(min=1)
        return {
            "classification": (terms.sum(1) / count).mean(),
            "bbox_regression": (torch.stack(box_terms) / count).mean(),
        }

    def box_loss(self, deltas: Tensor, anchors: Tensor, truths: Tensor) -> Tensor:
        """The sum over anchors [P, 4] that should become the boxes `truths` [P, 4] by the corrections [P, 4]."""
        if self.settings.box_loss == "giou":
            return generalized_box_iou_loss(decode_boxes(deltas.float(), anchors), truths, reduction="sum")
        return (deltas.float() - encode_boxes(truths, anchors)).abs().sum()

    @torch.no_grad()
    def decode(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], sizes: Sequence[Size]
    ) -> Detections:
        """The best boxes of each image after suppression class by class (section 4.1, "Inference"); labels 1 … K."""
        s = self.settings
        scores, ids, labels = best_candidates(logits, s.candidates)
        chosen = torch.cat(list(deltas), 1).gather(1, ids[..., None].expand(-1, -1, 4))
        boxes = decode_boxes(chosen.float(), torch.cat(list(anchors))[ids])
        return suppressed(
            boxes,
            scores,
            labels,
            sizes,
            min_score=s.min_score,
            nms_iou=s.nms_iou,
            max_detections=s.max_detections,
        )

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """(width, height) of every kind of anchor, [A, 2], in pixels of an image of `image_size`."""
        bases = torch.cat(self.anchor_bases)
        inside = self.preprocess.resized(image_size)
        return (bases[:, 2:] - bases[:, :2]) * (image_size[0] / inside[0])


SETTINGS = RetinaNetSettings()
VERSION_2 = RetinaNetSettings(box_loss="giou")


def retinanet_resnet50_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    norm_eps: float = 1e-5,
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    settings: RetinaNetSettings = SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> RetinaNet:
    """ResNet-50 with P3 to P7: 34,014,999 parameters with 90 classes and frozen norms.

    Args:
        classes: names of the classes.
        in_channels: channels of the images.
        norm: "batch" learns the backbone's normalisation, "frozen" keeps it.
        norm_eps: added to the variance there.
        trainable_layers: how many of the backbone's parts learn (a ResNet has five), counted from its end.
        min_size, max_size: the images' sides inside the network.
        settings: thresholds and counts.
        output_ids: as in `Detector`.
    """
    net = resnet50(in_channels=in_channels, norm=norm_maker(norm, norm_eps))
    backbone = resnet_pyramid(net, trainable_layers, p6_from="p5")
    return _assemble(net, classes, in_channels, min_size, max_size, backbone, None, 4, settings, output_ids)


def retinanet_resnet50_fpn_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    settings: RetinaNetSettings = VERSION_2,
    output_ids: Sequence[int] | None = None,
) -> RetinaNet:
    """Version 2: group normalisation in the heads, P6 from C5, generalised IoU: 38,198,935 parameters with 90 classes.

    Arguments as for `retinanet_resnet50_fpn`.
    """
    net = resnet50(in_channels=in_channels, norm=norm_maker(norm))
    backbone = resnet_pyramid(net, trainable_layers)
    return _assemble(net, classes, in_channels, min_size, max_size, backbone, group_norm, 4, settings, output_ids)


def retinanet_resnet18_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    settings: RetinaNetSettings = VERSION_2,
    output_ids: Sequence[int] | None = None,
) -> RetinaNet:
    """Version 2 on ResNet-18, for small data. Arguments as for `retinanet_resnet50_fpn`."""
    net = resnet18(in_channels=in_channels, norm=norm_maker(norm))
    backbone = resnet_pyramid(net, trainable_layers)
    return _assemble(net, classes, in_channels, min_size, max_size, backbone, group_norm, 4, settings, output_ids)


def retinanet_mobilenet_v2_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 7,
    min_size: int = 320,
    max_size: int = 512,
    channels: int = 128,
    depth: int = 2,
    settings: RetinaNetSettings = VERSION_2,
    output_ids: Sequence[int] | None = None,
) -> RetinaNet:
    """Version 2 on MobileNet v2, to train on a few cores: small images, and pyramid and heads narrower and shallower.

    Args:
        channels: of the pyramid and the heads (256 in the paper), a multiple of 32.
        depth: convolutions of each subnet before its last (4 in the paper).
        classes, in_channels, norm, trainable_layers, min_size, max_size, settings, output_ids: as for
            `retinanet_resnet50_fpn`; the backbone has seven parts.
    """
    net = mobilenet_v2(in_channels=in_channels, norm=norm_maker(norm))
    backbone = mobilenet_v2_pyramid(net, trainable_layers, channels)
    model = _assemble(net, classes, in_channels, min_size, max_size, backbone, group_norm, depth, settings, output_ids)
    model.recipe_defaults = model.recipe_defaults | SMALL_RATE
    return model


def _assemble(
    net: nn.Module,
    classes: Iterable[str],
    in_channels: int,
    min_size: int,
    max_size: int,
    backbone: PyramidBackbone,
    head_norm: NormLayer | None,
    depth: int,
    settings: RetinaNetSettings,
    output_ids: Sequence[int] | None,
) -> RetinaNet:
    """The parts as one model, which knows where the weights of its backbone's classifier `net` go."""
    names = Classes(classes)
    # anchors of three sizes, a third of an octave apart and cut to whole pixels, in three shapes (section 4)
    sizes = [[4 * stride, int(4 * stride * 2 ** (1 / 3)), int(4 * stride * 2 ** (2 / 3))] for stride in STRIDES]
    bases = [base_anchors(s, (0.5, 1.0, 2.0)) for s in sizes]
    head = RetinaNetHead(
        backbone.out_channels, len(bases[0]), head_outputs(names, output_ids) + 1, depth=depth, norm=head_norm
    )
    preprocess = imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size)
    model = RetinaNet(names, preprocess, backbone, head, bases, settings, output_ids)
    model.backbone_keys = shared_keys(net, model)
    return model

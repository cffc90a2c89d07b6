"""What dense detectors on a pyramid of strides 8 to 128 share: backbones with P3 to P7, and the choice of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from sightline.models.detection.detector import Detections
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.mobilenet_v2 import MobileNetV2
from sightline.nn.backbones.resnet import ResNet
from sightline.nn.necks.fpn import FeaturePyramid, PyramidBackbone
from sightline.nn.necks.last_levels import LastLevelP6P7
from sightline.ops.boxes import clip_boxes_to_image
from sightline.ops.suppression import batched_nms
from sightline.structures import Size

STRIDES = (8, 16, 32, 64, 128)
"""Image pixels per cell of P3 … P7."""


def resnet_pyramid(
    net: ResNet, trainable_layers: int, channels: int = 256, p6_from: Literal["c5", "p5"] = "c5"
) -> PyramidBackbone:
    """P3 to P7 on a ResNet's last three stages.

    Args:
        net: it becomes part of the result.
        trainable_layers: how many of its five parts learn, counted from its end.
        channels: of every level.
        p6_from: what P6 is computed from, see `LastLevelP6P7`.
    """
    return _pyramid(net.maps((8, 16, 32), trainable_layers), channels, p6_from)


def mobilenet_v2_pyramid(net: MobileNetV2, trainable_layers: int, channels: int = 128) -> PyramidBackbone:
    """P3 to P7 on MobileNet v2, which has seven parts. Arguments as for `resnet_pyramid`."""
    return _pyramid(net.maps((8, 16, 32), trainable_layers), channels, "c5")


def _pyramid(body: FeatureMaps, channels: int, p6_from: Literal["c5", "p5"]) -> PyramidBackbone:
    last = LastLevelP6P7(body.channels[-1] if p6_from == "c5" else channels, channels, p6_from)
    return PyramidBackbone(body, FeaturePyramid(body.channels, channels, extra=last))


@torch.no_grad()
def best_candidates(
    logits: Sequence[Tensor], count: int, quality: Sequence[Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The likeliest pairs of a box and a class of each level, at most `count` a level.

    All images at once. The best pairs belong to boxes that are the best by their best class, so only those boxes' other
    classes are looked at.

    Args:
        logits: of each level [N, M_l, K + 1] before the sigmoid; output 0 belongs to no class and is left out.
        count: how many a level.
        quality: of each level [N, M_l] before the sigmoid; the score is then the geometric mean of both.

    Returns:
        Scores [N, C] in 0 … 1, ids of the boxes [N, C] counted through all levels, labels [N, C] from 1 to K.
    """
    scores, ids, labels, offset = [], [], [], 0
    for level, logit in enumerate(logits):
        classes = logit[..., 1:].float()
        best = classes.amax(-1)
        if quality is not None:
            best = best.sigmoid() * quality[level].float().sigmoid()
        boxes = best.topk(min(count, best.shape[1])).indices
        pairs = classes.gather(1, boxes[..., None].expand(-1, -1, classes.shape[-1])).sigmoid()
        if quality is not None:
            pairs = (pairs * quality[level].float().sigmoid().gather(1, boxes)[..., None]).sqrt()
        score, place = pairs.flatten(1).topk(min(count, pairs[0].numel()))
        scores.append(score)
        ids.append(boxes.gather(1, place // classes.shape[-1]) + offset)
        labels.append(place % classes.shape[-1] + 1)
        offset += logit.shape[1]
    return torch.cat(scores, 1), torch.cat(ids, 1), torch.cat(labels, 1)


@torch.no_grad()
def suppressed(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    sizes: Sequence[Size],
    *,
    min_score: float,
    nms_iou: float,
    max_detections: int,
) -> Detections:
    """Candidates above `min_score`, clipped to their image, after suppression class by class; best first.

    Args:
        boxes: [N, C, 4] xyxy in pixels of the batch.
        scores, labels: [N, C].
        sizes: (height, width) of each image in the batch.
        min_score, nms_iou, max_detections: least score, overlap at which the weaker of a class goes, boxes an image.
    """
    results = []
    for box, score, label, size in zip(boxes, scores, labels, sizes, strict=True):
        likely = score > min_score
        box, score, label = clip_boxes_to_image(box[likely], size), score[likely], label[likely]
        keep = batched_nms(box, score, label, nms_iou)[:max_detections]
        results.append({"boxes": box[keep], "labels": label[keep], "scores": score[keep]})
    return results

"""Parts shared by detectors: feature pyramids, single feature maps, anchors, class targets and NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sightline.models.detection.detector import Detections
from sightline.models.preprocess import Preprocess
from sightline.nn.backbones.dilation import dilated_maps
from sightline.nn.backbones.features import FeatureMaps, Network
from sightline.nn.backbones.vgg import VGG
from sightline.nn.heads.box import TwoLayerHead
from sightline.nn.heads.regions import DenseHead
from sightline.nn.necks.fpn import FeaturePyramid, PyramidBackbone
from sightline.nn.necks.last_levels import LastLevelP6P7
from sightline.ops.anchors import pyramid_anchors
from sightline.ops.boxes import clip_boxes_to_image
from sightline.ops.suppression import batched_nms
from sightline.structures import ImageBatch, Instances, Size

STRIDES = (8, 16, 32, 64, 128)
"""Strides of P3 … P7 in pixels."""


@dataclass(frozen=True)
class SelectionSettings:
    """Settings that select the detections of a dense detector.

    Attributes:
        min_score: boxes with a lower score are removed.
        candidates: maximum number of boxes per level before NMS.
        nms_iou: IoU above which NMS removes the lower-scoring box of the same class.
        max_detections: maximum number of detections per image.
    """

    min_score: float = 0.05
    candidates: int = 1000
    nms_iou: float = 0.5
    max_detections: int = 100


def pyramid(
    net: Network, trainable_layers: int | None, channels: int, p6_from: Literal["c5", "p5"] = "c5"
) -> PyramidBackbone:
    """A feature pyramid P3 to P7 on a network's maps of strides 8, 16 and 32.

    Args:
        net: backbone network, which becomes part of the result.
        trainable_layers: number of parts of the network to train, counted from its end; None trains all.
        channels: number of channels of every level.
        p6_from: input of P6, see `LastLevelP6P7`.
    """
    body = net.maps((8, 16, 32), trainable_layers)
    last = LastLevelP6P7(body.channels[-1] if p6_from == "c5" else channels, channels, p6_from)
    return PyramidBackbone(body, FeaturePyramid(body.channels, channels, extra=last))


def single_map(net: Network, trainable_layers: int | None, *, dilated: bool = False) -> FeatureMaps:
    """A network's map of stride 16, as used by papers before feature pyramids (Lin et al. 2017).

    If `dilated`, there is also the map of the last stage, dilated to stride 16 (R-FCN, section 2).
    """
    return dilated_maps(net, 16, 16, trainable_layers) if dilated else net.maps((16,), trainable_layers)


def dense_layers(name: str, hidden: int) -> dict[str, int]:
    """Arguments of the backbone `name` for the width of its fully connected layers, if it has layers to reuse."""
    return {"hidden": hidden} if name.startswith("vgg") else {}


def region_layers(net: Network, channels: int, hidden: int) -> nn.Module:
    """The head on 7×7 region features: VGG's own fully connected layers, as published, or two new ones.

    Args:
        net: the backbone's classifier.
        channels: number of channels of the region features.
        hidden: width of the layers.
    """
    if isinstance(net, VGG):
        return DenseHead(net.classifier[0], net.classifier[3], dropout=0.5)
    return TwoLayerHead(channels * 7 * 7, hidden)


def level_anchors(bases: Sequence[Tensor], maps: Sequence[Tensor], batch: ImageBatch) -> list[Tensor]:
    """The anchors of each map: [S_l, 4] xyxy in pixels of the batch; `bases` as in `pyramid_anchors`."""
    shapes: list[Size] = [(x.shape[-2], x.shape[-1]) for x in maps]
    size = batch.tensor.shape[-2], batch.tensor.shape[-1]
    return pyramid_anchors(bases, shapes, size, device=batch.tensor.device, dtype=torch.float32)


def anchor_shapes(bases: Sequence[Tensor], preprocess: Preprocess, image_size: Size) -> Tensor:
    """Width and height of the anchors, [A, 2], in pixels of an image of size `image_size`."""
    every = torch.cat(list(bases))
    return (every[:, 2:] - every[:, :2]) * (image_size[0] / preprocess.resized(image_size)[0])


def class_targets(scores: Tensor, matches: Tensor, targets: Sequence[Instances]) -> Tensor:
    """One-hot classification targets: [N, S, K], 1 for the class of the matched object, else 0.

    Args:
        scores: [N, S, K], for shape, dtype and device.
        matches: [N, S] index of the object matched to each location, negative for none.
        targets: targets of each image; labels are indices of the K outputs.
    """
    class_labels = torch.zeros_like(scores)
    for i, target in enumerate(targets):
        here = matches[i] >= 0
        class_labels[i, here, target.labels[matches[i, here]]] = 1
    return class_labels


@torch.no_grad()
def best_candidates(
    logits: Sequence[Tensor], count: int, quality: Sequence[Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The (box, class) pairs with the highest scores of each level, at most `count` per level.

    The best pairs belong to the boxes with the highest maximum class score, so only the classes of these boxes are
    compared.

    Args:
        logits: class logits [N, M_l, K + 1] of each level; output 0 is unused and ignored.
        count: maximum number of pairs per level.
        quality: logits [N, M_l] of each level, such as centre-ness; the score is then the geometric mean of both
            probabilities. None uses the class probability.

    Returns:
        Scores [N, C] in [0, 1], indices [N, C] of the boxes among those of all levels, labels [N, C] from 1 to K.
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
    boxes: Tensor, scores: Tensor, labels: Tensor, sizes: Sequence[Size], settings: SelectionSettings
) -> Detections:
    """Filter candidates by score, clip them to their image and apply per-class NMS. Detections are sorted by score.

    Args:
        boxes: [N, C, 4] xyxy in pixels of the batch.
        scores, labels: [N, C].
        sizes: (height, width) of each image in the batch.
        settings: thresholds and limits.
    """
    results = []
    for box, score, label, size in zip(boxes, scores, labels, sizes, strict=True):
        likely = score > settings.min_score
        box, score, label = clip_boxes_to_image(box[likely], size), score[likely], label[likely]
        keep = batched_nms(box, score, label, settings.nms_iou)[: settings.max_detections]
        results.append({"boxes": box[keep], "labels": label[keep], "scores": score[keep]})
    return results

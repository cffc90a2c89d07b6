"""SSDlite: Sandler et al., "MobileNetV2", CVPR 2018, section 6.2 (separable predictors), with MobileNet v2 and v3
(Howard et al. 2019, section 6.3); the detector itself: Liu et al., "SSD: single shot multibox detector", ECCV 2016.

The four steps stand apart: `network`, `assign`, `losses`, `decode`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models.detection.detector import Detections, Detector, Losses, head_outputs
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.models.weights import shared_keys
from sightline.nn.backbones.mobilenet_v2 import InvertedResidual, mobilenet_v2
from sightline.nn.backbones.mobilenet_v3 import InvertedResidualV3, mobilenet_v3_large
from sightline.nn.heads.ssd import SSDHead
from sightline.nn.layers import ConvNormAct, NormLayer, batch_norm
from sightline.ops.anchors import default_box_shapes, default_boxes
from sightline.ops.assignment import hard_negatives, match_best
from sightline.ops.boxes import box_iou, clip_boxes_to_image, decode_boxes, encode_boxes
from sightline.ops.suppression import batched_nms
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class SSDSettings:
    """Numbers of a single-shot detector.

    Attributes:
        positive_iou: a default box at or above it belongs to the object it overlaps most (SSD, section 2.2).
        negatives: hard negatives an object.
        weights: factors on the corrections, the inverse of SSD's variances 0.1 and 0.2.
        min_score: boxes of a lower score are dropped.
        candidates: best boxes a class that enter the suppression.
        nms_iou: overlap at which the weaker box of a class is dropped.
        max_detections: boxes an image that a result keeps.
    """

    positive_iou: float = 0.5
    negatives: float = 3.0
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    min_score: float = 0.001
    candidates: int = 300
    nms_iou: float = 0.55
    max_detections: int = 300


class SSD(Detector):
    """Backbone → maps → head → default boxes corrected and classified in one shot (figure 2).

    Args:
        classes: names of the classes.
        preprocess: images → batch.
        backbone: batch [N, C, H, W] → list of maps, fine to coarse.
        head: maps → scores [N, D, K+1] and corrections [N, D, 4].
        shapes: (width, height) of the default boxes of each map, [A_i, 2], in units of the image.
        settings: thresholds and counts.
        slots: as in `Detector`.
    """

    class_layers = r"classification_head\.module_list\.\d+(\.1)?\.(weight|bias)"

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        head: SSDHead,
        shapes: Sequence[Tensor],
        settings: SSDSettings | None = None,
        slots: Sequence[int] | None = None,
    ):
        super().__init__(classes, preprocess, slots)
        self.backbone = backbone
        self.head = head
        self.shapes = list(shapes)
        self.settings = settings or SSDSettings()

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """A batch → detections of each image; with targets, the two losses."""
        maps, logits, deltas = self.network(batch.tensor)
        anchors = self.anchors(maps, batch)
        if targets is None:
            return self.decode(logits, deltas, anchors, batch.sizes), {}
        return [], self.losses(logits, deltas, anchors, self.assign(anchors, targets), targets)

    def network(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Batch [N, C, H, W] → maps, scores [N, D, K+1] before the softmax, corrections [N, D, 4]."""
        maps = self.backbone(images)
        return (maps, *self.head(maps))

    def anchors(self, maps: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """The default boxes: [D, 4] xyxy in pixels of the batch."""
        sizes: list[Size] = [(x.shape[-2], x.shape[-1]) for x in maps]
        size = batch.tensor.shape[-2], batch.tensor.shape[-1]
        return default_boxes(self.shapes, sizes, size).to(batch.tensor.device)

    def assign(self, anchors: Tensor, targets: Sequence[Instances]) -> Tensor:
        """For every default box: the id of its object, or −1 (section 2.2). [N, D]"""
        return torch.stack([match_best(box_iou(t.boxes, anchors), self.settings.positive_iou) for t in targets])

    def losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, matches: Tensor, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """Equations 1 to 3: cross-entropy of objects and hard negatives, smooth L1 of objects, over the objects."""
        s = self.settings
        positive = matches >= 0
        labels = torch.zeros_like(matches)
        box_terms = []
        for i, target in enumerate(targets):
            of = matches[i, positive[i]]
            labels[i, positive[i]] = target.labels[of]
            wanted = encode_boxes(target.boxes[of], anchors[positive[i]], s.weights)
            box_terms.append(F.smooth_l1_loss(deltas[i, positive[i]], wanted, reduction="sum"))
        terms = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").reshape(labels.shape)
        counted = positive | hard_negatives(terms.detach(), positive, s.negatives)
        count = positive.sum().clamp(min=1)
        return {
            "bbox_regression": torch.stack(box_terms).sum() / count,
            "classification": (terms * counted).sum() / count,
        }

    @torch.no_grad()
    def decode(self, logits: Tensor, deltas: Tensor, anchors: Tensor, sizes: Sequence[Size]) -> list[dict[str, Tensor]]:
        """The best boxes of each image after suppression class by class; labels are columns of the head, 1 … K."""
        s, results = self.settings, []
        probabilities = logits.float().softmax(-1)[..., 1:].transpose(1, 2)  # [N, K, D]
        values, ids = probabilities.topk(min(s.candidates, probabilities.shape[-1]), dim=-1)
        boxes = decode_boxes(deltas.float(), anchors, s.weights)
        for score, index, box, size in zip(values, ids, boxes, sizes, strict=True):
            label, rank = (score > s.min_score).nonzero(as_tuple=True)
            score, box, label = score[label, rank], clip_boxes_to_image(box[index[label, rank]], size), label + 1
            keep = batched_nms(box, score, label, s.nms_iou)[: s.max_detections]
            results.append({"boxes": box[keep], "labels": label[keep], "scores": score[keep]})
        return results

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """(width, height) of every kind of default box, [A, 2], in pixels of an image of `image_size`."""
        height, width = image_size
        return torch.cat(self.shapes) * torch.tensor([width, height])


class SSDliteBackbone(nn.Module):
    """A MobileNet cut at the expansion of the first block of stride 32, and four separable blocks behind it.

    The first map is that expansion at stride 16, the second the network's last at stride 32 (MobileNet v2, section
    6.2).

    Args:
        layers: the network's layers in order.
        cut: position of the first block of stride 32.
        channels: C of the network's last map.
        extra: output channels of the separable blocks behind it, each of stride 2.
        norm: maker of the normalisation of those blocks.
    """

    def __init__(self, layers: Sequence[nn.Module], cut: int, channels: int, extra: Sequence[int], norm: NormLayer):
        super().__init__()
        block = layers[cut]
        assert isinstance(block, InvertedResidual | InvertedResidualV3)
        self.features = nn.Sequential(
            nn.Sequential(*layers[:cut], block.block[0]), nn.Sequential(block.block[1:], *layers[cut + 1 :])
        )
        self.channels = [block.expanded, channels, *extra]
        self.extra = nn.ModuleList()
        for out in extra:
            middle = out // 2
            self.extra.append(
                nn.Sequential(
                    ConvNormAct(channels, middle, 1, norm=norm, act=nn.ReLU6),
                    ConvNormAct(middle, middle, 3, 2, groups=middle, norm=norm, act=nn.ReLU6),
                    ConvNormAct(middle, out, 1, norm=norm, act=nn.ReLU6),
                )
            )
            channels = out
        _normal_start(self.extra)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, C, H, W] → six maps, at strides 16, 32, 64, …"""
        maps = []
        for part in (*self.features, *self.extra):
            x = part(x)
            maps.append(x)
        return maps


def ssdlite320_mobilenet_v3_large(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    reduced_tail: bool = True,
    image_size: int = 320,
    settings: SSDSettings | None = None,
    slots: Sequence[int] | None = None,
) -> SSD:
    """SSDlite on MobileNet v3 large: 3,440,060 parameters with 90 classes.

    Args:
        classes: names of the classes.
        in_channels: channels of the images.
        reduced_tail: halve the last stage of the backbone, as the paper and the published detector do. ImageNet's
            weights of the whole network need False.
        image_size: side of the square that images are resized to.
        settings: thresholds and counts.
        slots: as in `Detector`.
    """
    norm = batch_norm(eps=1e-3, momentum=0.03)
    net = mobilenet_v3_large(in_channels=in_channels, norm=norm, reduced_tail=reduced_tail)
    backbone = SSDliteBackbone(list(net.features), 13, net.last_channels, (512, 256, 256, 128), norm)
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return _ssdlite(net, classes, backbone, in_channels, image_size, mean, std, norm, settings, slots)


def ssdlite320_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 320,
    settings: SSDSettings | None = None,
    slots: Sequence[int] | None = None,
) -> SSD:
    """SSDlite on MobileNet v2 (MobileNet v2, section 6.2).

    Images are normalised as for ImageNet, so that published classifiers serve as backbones unchanged. Arguments as for
    `ssdlite320_mobilenet_v3_large`.
    """
    norm = batch_norm(eps=1e-3, momentum=0.03)
    net = mobilenet_v2(in_channels=in_channels)
    backbone = SSDliteBackbone(list(net.features), 14, net.last_channels, (512, 256, 256, 128), norm)
    return _ssdlite(net, classes, backbone, in_channels, image_size, IMAGENET_MEAN, IMAGENET_STD, norm, settings, slots)


def _ssdlite(
    net: nn.Module,
    classes: Iterable[str],
    backbone: SSDliteBackbone,
    in_channels: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    norm: NormLayer,
    settings: SSDSettings | None,
    slots: Sequence[int] | None,
) -> SSD:
    names = Classes(classes)
    shapes = default_box_shapes([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    head = SSDHead(backbone.channels, [len(s) for s in shapes], head_outputs(names, slots), separable_norm=norm)
    _normal_start(head)
    preprocess = Preprocess(
        for_channels(mean, in_channels), for_channels(std, in_channels), fixed_size=(image_size, image_size), divisor=1
    )
    model = SSD(names, preprocess, backbone, head, shapes, settings, slots)
    model.backbone_keys = shared_keys(net, model)
    return model


def _normal_start(module: nn.Module) -> None:
    """The start of the published detector's new layers."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, mean=0.0, std=0.03)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

"""SSD300 and SSD512: Liu et al., "SSD: single shot multibox detector", ECCV 2016, on VGG-16.

The four steps are separate methods: `network`, `assign`, `losses`, `decode`.

Departures: scales of default boxes are those of the paper for COCO (section 3.4), and their sides are clipped to the
image. Images are normalised as for ImageNet classifiers by default; the published SSD300 expects pixels of 0 to 255
minus their mean, and comes with matching `mean` and `std`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.candidates import DenseCandidates, Encoded, Selection
from sightline.models.detection.detector import Detections, Detector, head_outputs
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.models.weights import shared_keys
from sightline.nn.backbones.map_layers import map_layers
from sightline.nn.backbones.vgg import vgg16
from sightline.nn.backbones.vgg_atrous import AtrousVGG, atrous_dense_layers, init_xavier
from sightline.nn.heads.ssd import SSDHead
from sightline.ops.anchors import default_box_shapes, default_boxes
from sightline.ops.assignment import match_best
from sightline.ops.boxes import box_iou, clip_boxes_to_image, decode_boxes, encode_boxes
from sightline.ops.mining import hard_negatives
from sightline.ops.suppression import batched_nms
from sightline.runtime.sharing import batch_count
from sightline.structures import Classes, ImageBatch, Instances, Size


@dataclass(frozen=True)
class SSDSettings:
    """Settings of a single-shot detector.

    Attributes:
        positive_iou: default boxes with at least this IoU are matched to the object that they overlap most (SSD,
            section 2.2).
        negatives: number of hard negatives per positive.
        weights: factors on the deltas, the inverse of SSD's variances 0.1 and 0.2.
        min_score: boxes with a lower score are removed.
        candidates: maximum number of boxes per class before NMS.
        nms_iou: IoU above which NMS removes the lower-scoring box of the same class.
        max_detections: maximum number of detections per image.
    """

    positive_iou: float = 0.5
    negatives: float = 3.0
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    min_score: float = 0.001
    candidates: int = 300
    nms_iou: float = 0.55
    max_detections: int = 300


class SSD(Detector):
    """Backbone → maps → head → classes and deltas of all default boxes (figure 2).

    Args:
        classes: names of the classes.
        preprocess: preprocessing of images into a batch.
        backbone: batch [N, C, H, W] → list of maps, from fine to coarse.
        head: maps → scores [N, D, K+1] and deltas [N, D, 4].
        shapes: (width, height) of the default boxes of each map, [A_i, 2], as fractions of the image.
        settings: thresholds and limits.
        output_ids: as in `Detector`.
        steps: stride of each map in pixels, as in `default_boxes`.
    """

    origin = "anchor"
    class_layers = r"classification_head\.module_list\.\d+(\.1)?\.(weight|bias)"

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        head: SSDHead,
        shapes: Sequence[Tensor],
        settings: SSDSettings | None = None,
        output_ids: Sequence[int] | None = None,
        steps: Sequence[float] | None = None,
    ):
        super().__init__(classes, preprocess, output_ids)
        self.backbone = backbone
        self.head = head
        self.shapes = list(shapes)
        self.steps = steps
        self.settings = settings or SSDSettings()

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the two losses."""
        maps, logits, deltas = self.network(batch.tensor)
        anchors = self.anchors(maps, batch)
        if targets is None:
            return self.decode(logits, deltas, anchors, batch.sizes), {}
        return [], self.losses(logits, deltas, anchors, self.assign(anchors, targets), targets)

    def network(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Batch [N, C, H, W] → maps, scores [N, D, K+1] before the softmax, deltas [N, D, 4]."""
        maps = self.backbone(images)
        return (maps, *self.head(maps))

    def anchors(self, maps: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """The default boxes: [D, 4] xyxy in pixels of the batch."""
        sizes: list[Size] = [(x.shape[-2], x.shape[-1]) for x in maps]
        size = batch.tensor.shape[-2], batch.tensor.shape[-1]
        return default_boxes(self.shapes, sizes, size, self.steps).to(batch.tensor.device)

    def assign(self, anchors: Tensor, targets: Sequence[Instances]) -> Tensor:
        """[N, D] index of the object of each default box, or −1 (section 2.2)."""
        return torch.stack([match_best(box_iou(t.boxes, anchors), self.settings.positive_iou) for t in targets])

    def losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, matches: Tensor, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """Equations 1 to 3: cross-entropy of positives and hard negatives, and smooth L1 loss of positives.

        Both are divided by the number of positives.
        """
        s = self.settings
        positive = matches >= 0
        labels = torch.zeros_like(matches)
        box_terms = []
        for i, target in enumerate(targets):
            of = matches[i, positive[i]]
            labels[i, positive[i]] = target.labels[of]
            box_targets = encode_boxes(target.boxes[of], anchors[positive[i]], s.weights)
            box_terms.append(F.smooth_l1_loss(deltas[i, positive[i]], box_targets, reduction="sum"))
        terms = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").reshape(labels.shape)
        counted = positive | hard_negatives(terms.detach(), positive, s.negatives)
        count = batch_count(positive.sum())
        return {
            "loss_box": torch.stack(box_terms).sum() / count,
            "loss_classification": (terms * counted).sum() / count,
        }

    @torch.no_grad()
    def decode(self, logits: Tensor, deltas: Tensor, anchors: Tensor, sizes: Sequence[Size]) -> list[dict[str, Tensor]]:
        """The best boxes of each image after per-class NMS; labels are columns of the head, 1 … K."""
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

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        maps, logits, deltas = self.network(batch.tensor)
        anchors = self.anchors(maps, batch)
        scores = self.of_classes(logits.float().softmax(-1))
        encoded = Encoded(deltas.float(), anchors, partial(decode_boxes, weights=self.settings.weights))
        counts = [len(shapes) * x.shape[-2] * x.shape[-1] for shapes, x in zip(self.shapes, maps, strict=True)]
        return DenseCandidates.decoded(encoded, self.of_classes(logits), scores, anchors, counts)

    def map_layers(self) -> list[nn.Module]:
        """The maps of the backbone."""
        return map_layers(self.backbone)

    def selection(self) -> Selection:
        s = self.settings
        return Selection(s.min_score, s.candidates, "class", nms_iou=s.nms_iou, max_detections=s.max_detections)

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """Width and height of the default boxes, [A, 2], in pixels of an image of size `image_size`."""
        height, width = image_size
        return torch.cat(self.shapes) * torch.tensor([width, height])


VGG_SETTINGS = SSDSettings(min_score=0.01, candidates=400, nms_iou=0.45, max_detections=200)


def ssd300_vgg16(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 300,
    maps: int = 6,
    trainable_layers: int = 5,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    settings: SSDSettings = VGG_SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> SSD:
    """SSD300: 8732 boxes, 35,641,826 parameters with 90 classes.

    Args:
        classes: names of the classes.
        in_channels: number of channels of the images.
        image_size: side of the square that images are resized to, in pixels.
        maps: number of maps to use, from the finest; small images need fewer.
        trainable_layers: number of VGG's five blocks to train, counted from the last.
        mean, std: mean and standard deviation of red, green and blue for images in [0, 1], as in the training of the
            backbone's weights. The paper's weights expect pixels of 0 to 255: std 1/255.
        settings: thresholds and limits.
        output_ids: as in `Detector`.
    """
    return _ssd_vgg16(
        classes,
        "ssd300_vgg16",
        extra=((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 1, 0), (128, 256, 3, 1, 0)),
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
        steps=(8, 16, 32, 64, 100, 300) if image_size == 300 else None,  # the published ones; else the maps'
        in_channels=in_channels,
        image_size=image_size,
        maps=maps,
        trainable_layers=trainable_layers,
        mean=mean,
        std=std,
        settings=settings,
        output_ids=output_ids,
    )


def ssd512_vgg16(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 512,
    maps: int = 7,
    trainable_layers: int = 5,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    settings: SSDSettings = VGG_SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> SSD:
    """SSD512: a seventh map, 24,564 boxes (section 3.1). Arguments as for `ssd300_vgg16`."""
    return _ssd_vgg16(
        classes,
        "ssd512_vgg16",
        extra=((256, 512, 3, 2, 1), *[(128, 256, 3, 2, 1)] * 3, (128, 256, 4, 1, 1)),
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        scales=(0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06),
        steps=None,
        in_channels=in_channels,
        image_size=image_size,
        maps=maps,
        trainable_layers=trainable_layers,
        mean=mean,
        std=std,
        settings=settings,
        output_ids=output_ids,
    )


def _ssd_vgg16(
    classes: Iterable[str],
    name: str,
    *,
    extra: Sequence[tuple[int, int, int, int, int]],
    ratios: Sequence[Sequence[float]],
    scales: Sequence[float],
    steps: Sequence[float] | None,
    in_channels: int,
    image_size: int,
    maps: int,
    trainable_layers: int,
    mean: Sequence[float],
    std: Sequence[float],
    settings: SSDSettings,
    output_ids: Sequence[int] | None,
) -> SSD:
    if not 2 <= maps <= len(ratios):
        raise InputError(f"maps is {maps}, but {name} has {len(ratios)}: give 2 to {len(ratios)}")
    names = Classes(classes)
    net = vgg16(1, in_channels=in_channels, hidden=1)  # for its fully connected layers see `atrous_dense_layers`
    backbone = AtrousVGG(net, extra[: maps - 2], trainable_layers)
    _require_maps(backbone, name, image_size)
    shapes = default_box_shapes(ratios[:maps], scales=scales[: maps + 1])
    head = SSDHead(backbone.channels, [len(s) for s in shapes], head_outputs(names, output_ids))
    init_xavier(head)
    size = image_size, image_size
    preprocess = Preprocess(for_channels(mean, in_channels), for_channels(std, in_channels), fixed_size=size, divisor=1)
    model = SSD(names, preprocess, backbone, head, shapes, settings, output_ids, steps[:maps] if steps else None)
    model.recipe_defaults = {"augmentation": "ssd", "lr": 1e-4}  # a fifth of the default: no normalisation layers
    model.backbone_layers = r"^backbone\.(features|extra\.0)\."  # the further pairs of convolutions are new
    model.backbone_keys = shared_keys(net, model)
    for classifier, ours in _DENSE.items():
        for kind in ("weight", "bias"):
            model.backbone_keys[f"{classifier}.{kind}"] = f"{ours}.{kind}"
    model.from_classifier = atrous_dense_layers
    return model


_DENSE = {"classifier.0": "backbone.extra.0.7.1", "classifier.3": "backbone.extra.0.7.3"}


def _require_maps(backbone: AtrousVGG, name: str, image_size: int) -> None:
    """Check that the image is large enough for the last map."""
    maps = len(backbone.channels)
    if backbone.sides(image_size)[-1] < 1:
        least = next(side for side in range(1, 1024) if backbone.sides(side)[-1] == 1)
        fewer = ", or fewer maps" if maps > 2 else ""
        raise InputError(
            f"image_size is {image_size}, but {maps} maps of {name} need at least {least}: give that{fewer}"
        )


def init_normal(module: nn.Module) -> None:
    """Initialise new layers of SSD on MobileNets, as published: normal with standard deviation 0.03, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, mean=0.0, std=0.03)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


_PAPER = "Liu et al. 2016, SSD"

ENTRIES = (
    Entry(name="ssd300_vgg16", builder=ssd300_vgg16, task="detection", paper=_PAPER, backbone="vgg16"),
    Entry(name="ssd512_vgg16", builder=ssd512_vgg16, task="detection", paper=_PAPER, backbone="vgg16"),
)

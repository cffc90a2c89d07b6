"""A localiser: predicts the class and the box of one object per image, with one network and two outputs.

The simplest detector: classification with localisation, as in ImageNet's localisation task (Krizhevsky et al. 2012;
Simonyan and Zisserman 2015, section A). The box is given by its centre, width and height, normalised by the size of the
image. The network predicts the square roots of width and height, so that an error of a few pixels costs less for a
large box than for a small one (Redmon et al., "You only look once", 2016, section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
from sightline.nn.backbones.named import BackboneName, build_backbone
from sightline.ops.boxes import box_area, box_convert, denormalize_boxes, normalize_boxes
from sightline.runtime.sharing import batch_count
from sightline.structures import Classes, ImageBatch, Instances, Size


class Localiser(Detector):
    """Backbone → one map → class and box.

    The model is trained on the largest object of each image. Images without objects do not contribute to the loss.
    There is no background class, so the model finds exactly one object in every image, with the class probability as
    its score.

    Args:
        classes: names of the K classes.
        preprocess: preprocessing of images into a batch of a fixed size.
        backbone: batch [N, C, S, S] → map [N, `channels`, h, w].
        channels: number of channels of the map.
        grid: the box is predicted from the map pooled to grid × grid cells, since global pooling discards positions.
        weights: weights of the classification loss and the box loss.
    """

    class_layers = r"^class_head\."
    background_output = False

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        channels: int,
        *,
        grid: int = 4,
        weights: tuple[float, float] = (0.8, 0.2),
    ):
        super().__init__(classes, preprocess)
        if min(weights) < 0 or sum(weights) == 0:
            raise InputError(f"the loss weights are {weights}, but must be at least 0, and one of them above 0")
        self.backbone = backbone
        self.class_head = nn.Linear(channels, len(self.classes))
        last = nn.Linear(64 * grid**2, 4)
        nn.init.constant_(last.bias, 0.5)  # begin near the middle
        self.box_head = nn.Sequential(
            nn.AdaptiveAvgPool2d(grid), nn.Conv2d(channels, 64, 1), nn.ReLU(), nn.Flatten(), last
        )
        self.weights = weights

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The object found in each image of a batch; if targets are given, the two losses."""
        logits, places = self.network(batch.tensor)
        if targets is None:
            return self.decode(logits, places, batch.sizes), {}
        return [], self.losses(logits, places, *self.assign(targets))

    def network(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Batch [N, C, S, S] → class logits [N, K] and boxes [N, 4] as (x, y, √w, √h), normalised to [0, 1]."""
        features = self.backbone(images)
        return self.class_head(features.mean((2, 3))), self.box_head(features)

    def assign(self, targets: Sequence[Instances]) -> tuple[Tensor, Tensor]:
        """The largest object of each image: class [N], −1 for images without objects, and encoded box [N, 4]."""
        labels, places = [], []
        for target in targets:
            if len(target):
                largest = box_area(target.boxes).argmax(dim=0, keepdim=True)
                labels.append(target.labels[largest] - 1)  # there is no output for the background
                places.append(encode_place(target.boxes[largest], target.image_size))
            else:
                labels.append(target.labels.new_full((1,), -1))
                places.append(target.boxes.new_zeros(1, 4))
        return torch.cat(labels), torch.cat(places)

    def losses(self, logits: Tensor, places: Tensor, labels: Tensor, target_places: Tensor) -> Losses:
        """Weighted cross-entropy and squared error of the encoded boxes, averaged over the images with an object."""
        shown = labels >= 0
        count = batch_count(shown.sum())
        classes = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / count
        boxes = ((places - target_places).square().sum(1) * shown).sum() / count
        return {"loss_classification": self.weights[0] * classes, "loss_box": self.weights[1] * boxes}

    @torch.no_grad()
    def decode(self, logits: Tensor, places: Tensor, sizes: Sequence[Size]) -> Detections:
        """The most probable class of each image, and its box, clipped to the image."""
        scores, labels = logits.float().softmax(-1).max(-1)
        return [
            {"boxes": decode_place(place[None], size), "labels": label[None] + 1, "scores": score[None]}
            for place, label, score, size in zip(places.float(), labels, scores, sizes, strict=True)
        ]

    def dense_candidates(self, batch: ImageBatch) -> DenseCandidates:
        """Like `Detector.candidates`: the one box of each image, whose origin is the whole image."""
        logits, places = self.network(batch.tensor)
        height, width = batch.tensor.shape[-2:]  # every image fills the batch
        boxes = decode_place(places.float(), (height, width))[:, None]
        whole = boxes.new_tensor([[0, 0, width, height]])
        scores = logits.float().softmax(-1)
        return DenseCandidates(boxes, logits[:, None], scores[:, None], whole, [1])

    def map_layers(self) -> list[nn.Module]:
        """The last map of the backbone."""
        return map_layers(self.backbone)

    def points_fit(self, candidates: Candidates, boxes: Tensor) -> Tensor:
        """Always: the whole image is responsible for an object."""
        return torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)

    def selection(self) -> Selection:
        """The most probable class is the detection."""
        return Selection(-1.0, nms_iou=None, max_detections=1)


def encode_place(boxes: Tensor, size: Size) -> Tensor:
    """Boxes [..., 4] xyxy in pixels of an image of size (height, width) → (x, y, √w, √h), each in [0, 1]."""
    x, y, w, h = box_convert(normalize_boxes(boxes, size), "xyxy", "cxcywh").unbind(-1)
    return torch.stack([x, y, w.sqrt(), h.sqrt()], -1)


def decode_place(places: Tensor, size: Size) -> Tensor:
    """The inverse of `encode_place`: boxes [..., 4] xyxy in pixels, clipped to the image."""
    x, y, w, h = places.clamp(0, 1).unbind(-1)
    boxes = box_convert(torch.stack([x, y, w.square(), h.square()], -1), "cxcywh", "xyxy")
    return denormalize_boxes(boxes.clamp(0, 1), size)


def localiser(
    classes: Iterable[str],
    *,
    backbone: BackboneName = "mobilenet_v2",
    in_channels: int = 3,
    image_size: int = 224,
    class_weight: float = 0.8,
    box_weight: float = 0.2,
) -> Localiser:
    """A localiser on any backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        image_size: side of the square that images are resized to, in pixels, at least 33.
        class_weight, box_weight: weights of the classification loss and the box loss.
    """
    if image_size < 33:
        raise InputError(f"image_size is {image_size}, but must be at least 33: the network halves it five times")
    names, net = Classes(classes), build_backbone(backbone, in_channels)
    layers, channels = net.trunk(), net.last_map.channels
    preprocess = imagenet_preprocess(in_channels, fixed_size=(image_size, image_size), divisor=1)
    model = Localiser(names, preprocess, layers, channels, weights=(class_weight, box_weight))
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Krizhevsky et al. 2012; Redmon et al. 2016"

ENTRIES = (
    Entry(name="localiser", builder=localiser, task="detection", paper=_PAPER),
    *(
        Entry(
            name=f"localiser_{backbone}",
            builder=localiser,
            task="detection",
            paper=_PAPER,
            summary=f"A localiser on {title}.",
            fixed={"backbone": backbone},
        )
        for backbone, title in (("mobilenet_v2", "MobileNet v2"), ("resnet18", "ResNet-18"))
    ),
)

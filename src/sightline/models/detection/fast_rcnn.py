"""Fast R-CNN: Girshick, "Fast R-CNN", ICCV 2015.

In contrast to R-CNN, the network runs once per image. RoI pooling crops the features of each proposal from the last
feature map, and classes and boxes are learned jointly with the network (figure 1). Proposals can come from any source:
`model.proposer`. `sightline.nn.layers.svd.compress_dense` makes a trained model faster (section 3.1).

Departures: background regions do not need an IoU of 0.1 with an object; in training, ground truth boxes are added to
the proposals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sightline.models.detection.detector import Detections, head_outputs
from sightline.models.detection.parts import dense_layers, region_layers, single_map
from sightline.models.detection.proposers import ProposerName, StoredProposals, checked, make_proposer
from sightline.models.detection.region_detector import RegionDetector
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import InputSize, Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, PyramidName, build_backbone
from sightline.nn.heads.box import BoxPredictor, BoxSettings, RegionHeads
from sightline.nn.heads.regions import PooledRegions
from sightline.ops.boxes import clip_boxes_to_image, remove_small_boxes, scale_boxes
from sightline.ops.proposals import CachedProposals, Proposer, SelectiveSearch
from sightline.structures import Classes, ImageBatch, Instances

SIZE = InputSize(600, 1000)
BOXES = BoxSettings(samples=64, nms_iou=0.3, beta=1.0)
"""Section 2.3: 64 regions of each of two images, a quarter of them objects; equation 3: smooth L1 with β = 1."""


@dataclass(frozen=True)
class ProposedBatch(ImageBatch):
    """A batch with the proposals [P_i, 4] of each image, in pixels of the batch."""

    proposals: list[Tensor]

    def with_copies(self, tensor: Tensor) -> ProposedBatch:
        """Like every batch; all copies have the proposals of the image."""
        return ProposedBatch(**vars(super().with_copies(tensor)), proposals=self.proposals * len(tensor))


class FastRCNN(RegionDetector):
    """Image and proposals → map → region features → classes and boxes (figure 1).

    Args:
        classes: names of the classes.
        preprocess: preprocessing of images into a batch.
        backbone: batch [N, C, H, W] → maps by name.
        proposer: function from an image [C, H, W] to boxes [P, 4] xyxy in its pixels, best first. It can be replaced
            at any time, and is not saved with the model.
        roi_heads: maps and proposals → detections.
        limit: maximum number of proposals per image.
        output_ids: as in `Detector`.
    """

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        proposer: Proposer,
        roi_heads: RegionHeads,
        limit: int = 2000,
        output_ids: Sequence[int] | None = None,
    ):
        super().__init__(classes, preprocess, backbone, roi_heads, output_ids)
        self.proposer = proposer
        if isinstance(proposer, StoredProposals):  # augmented images would need new proposals
            self.recipe_defaults = {"augmentation": "none"}
        self.limit = limit

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None
    ) -> tuple[ProposedBatch, list[Instances] | None]:
        """Like every detector, and find the proposals of each image; there may be none."""
        batch, moved = super().prepare(images, targets)
        proposals = []
        for image, scale, size in zip(images, batch.scales, batch.sizes, strict=True):
            with torch.no_grad():
                boxes = checked(self.proposer(image))[: self.limit].to(batch.tensor.device, torch.float32)
            boxes = clip_boxes_to_image(scale_boxes(boxes, scale), size)
            proposals.append(boxes[remove_small_boxes(boxes, 1e-3)])
        return ProposedBatch(**vars(batch), proposals=proposals), moved

    def before_training(self, folder: Path, *, same_images: bool) -> None:
        """Cache the results of selective search in the folder if every image stays the same in all epochs."""
        if not same_images:
            return
        search = self.proposer.proposer if isinstance(self.proposer, StoredProposals) else self.proposer
        if isinstance(search, SelectiveSearch):
            self.proposer = CachedProposals(search, folder / "proposals")

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the multi-task loss (equation 1)."""
        assert isinstance(batch, ProposedBatch)
        return self.roi_heads(self.backbone(batch.tensor), batch.proposals, batch, targets)

    def regions_of(self, maps: dict[str, Tensor], batch: ImageBatch) -> Sequence[Tensor]:
        assert isinstance(batch, ProposedBatch)
        return batch.proposals


def fast_rcnn(
    classes: Iterable[str],
    *,
    backbone: PyramidName = "vgg16",
    in_channels: int = 3,
    options: BackboneOptions = OPTIONS,
    size: InputSize = SIZE,
    hidden: int = 4096,
    proposer: ProposerName = "windows",
    limit: int = 2000,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FastRCNN:
    """Fast R-CNN on one map of stride 16, of any backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        options: normalisation of the backbone, and how many of its layers are trained; the paper trains 3 blocks
            (section 4.5).
        size: size that images are resized to.
        hidden: width of the fully connected layers fc6 and fc7; VGG's published weights have 4096.
        proposer: source of the proposals, see `make_proposer`. Set `model.proposer` to use a function of your own.
        limit: maximum number of proposals per image.
        boxes: settings of the box head.
        output_ids: as in `Detector`.
    """
    names = Classes(classes)
    net = build_backbone(backbone, in_channels, options, known=PyramidName, **dense_layers(backbone, hidden))
    body = single_map(net, options.trainable_layers)
    heads = RegionHeads(
        PooledRegions(body.taken[0], stride=16, size=7),
        region_layers(net, body.channels[0], hidden),
        BoxPredictor(hidden, head_outputs(names, output_ids)),
        boxes,
    )
    preprocess = imagenet_preprocess(in_channels, size)
    model = FastRCNN(names, preprocess, body, make_proposer(proposer), heads, limit, output_ids)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Girshick 2015, Fast R-CNN"

ENTRIES = (
    Entry(name="fast_rcnn", builder=fast_rcnn, task="detection", paper=_PAPER),
    Entry(
        name="fast_rcnn_vgg16",
        builder=fast_rcnn,
        task="detection",
        paper=_PAPER,
        summary="VGG-16, the paper's model L: 134,690,729 parameters with 20 classes.",
        start={"trainable_layers": 3},
        fixed={"backbone": "vgg16", "norm": "batch", "norm_eps": None},
    ),
    Entry(
        name="fast_rcnn_mobilenet_v2",
        builder=fast_rcnn,
        task="detection",
        paper=_PAPER,
        summary="The map of stride 16 of MobileNet v2: for CPUs, and to compare with R-CNN and Faster R-CNN.",
        start={"norm": "frozen", "trainable_layers": 5},
        fixed={"backbone": "mobilenet_v2"},
        defaults={"min_size": 320, "max_size": 640, "hidden": 512},
    ),
)

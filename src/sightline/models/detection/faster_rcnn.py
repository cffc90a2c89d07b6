"""Faster R-CNN: Ren, He, Girshick, Sun, "Faster R-CNN: towards real-time object detection with region proposal
networks", NeurIPS 2015; on a feature pyramid: Lin et al. 2017; version 2: Li et al., "Benchmarking detection transfer
learning with vision transformers", 2021 (a deeper proposal head, a convolutional box head, normalisation everywhere).

Departures of the pyramid models from the 2015 paper, all as in the published weights: RoI align instead of RoI pooling;
joint training; smooth L1 with β = 1/9; proposals are clipped to the image also in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.detection.candidate_parts import (
    proposal_candidates,
    proposal_selection,
)
from sightline.models.detection.candidates import Candidates, Selection
from sightline.models.detection.detector import Detections, head_outputs
from sightline.models.detection.region_detector import RegionDetector
from sightline.models.entry import Entry
from sightline.models.model import Losses
from sightline.models.preprocess import SIZE, InputSize, Preprocess, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.features import FeatureMaps, Network, Stage
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, PyramidName, build_backbone
from sightline.nn.heads.box import BoxPredictor, BoxSettings, ConvHead, RegionHeads, TwoLayerHead
from sightline.nn.heads.regions import AlignedRegions
from sightline.nn.heads.rpn import ProposalSettings, RegionProposalNetwork
from sightline.nn.necks.fpn import FeaturePyramid, PyramidBackbone
from sightline.structures import Classes, ImageBatch, Instances, Size


class FasterRCNN(RegionDetector):
    """Backbone → region proposals → region features → classes and boxes (figure 2). Boxes are regressed in two stages.

    Args:
        classes: names of the classes.
        preprocess: preprocessing of images into a batch.
        backbone: batch [N, C, H, W] → maps by name, from fine to coarse.
        rpn: maps → proposals.
        roi_heads: maps and proposals → detections.
        output_ids: as in `Detector`.
    """

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        rpn: RegionProposalNetwork,
        roi_heads: RegionHeads,
        output_ids: Sequence[int] | None = None,
    ):
        super().__init__(classes, preprocess, backbone, roi_heads, output_ids)
        self.rpn = rpn

    @classmethod
    def on(cls, base: FasterRCNN, roi_heads: RegionHeads) -> Self:
        """A model with the parts of `base` and different heads, for papers that only change the heads."""
        model = cls(base.classes, base.preprocess, base.backbone, base.rpn, roi_heads, base.output_ids)
        model.backbone_keys = base.backbone_keys
        return model

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """The detections of each image of a batch; if targets are given, the four losses of joint training."""
        maps = self.backbone(batch.tensor)
        proposals, proposal_losses = self.rpn(maps, batch, targets)
        found, box_losses = self.roi_heads(maps, proposals, batch, targets)
        return found, proposal_losses | box_losses

    def regions_of(self, maps: dict[str, Tensor], batch: ImageBatch) -> Sequence[Tensor]:
        return self.rpn(maps, batch)[0]

    def proposal_candidates(self, batch: ImageBatch) -> list[Candidates]:
        return proposal_candidates(self.rpn, self.backbone(batch.tensor), batch)

    def proposal_selection(self) -> Selection:
        return proposal_selection(self.rpn.settings)

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """Width and height of the anchors, [A, 2], in pixels of an image of size `image_size`."""
        bases = torch.cat(self.rpn.anchor_bases)
        inside = self.preprocess.resized(image_size)
        return (bases[:, 2:] - bases[:, :2]) * (image_size[0] / inside[0])


PROPOSALS = ProposalSettings()
BOXES = BoxSettings()
OCTAVES = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
"""Anchor sizes of each level: one size per level (Lin et al. 2017, section 4.1)."""
THIRDS = tuple((float(base), base * 2 ** (1 / 3), base * 2 ** (2 / 3)) for base in (32, 64, 128, 256))
"""Three sizes per level, a third of an octave apart."""


def faster_rcnn(
    classes: Iterable[str],
    *,
    backbone: PyramidName = "resnet50",
    in_channels: int = 3,
    options: BackboneOptions = OPTIONS,
    size: InputSize = SIZE,
    version: Literal[1, 2] = 1,
    finest: Literal[4, 8] = 4,
    channels: int = 256,
    hidden: int = 1024,
    anchor_sizes: Sequence[Sequence[float]] = OCTAVES,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """Faster R-CNN with a feature pyramid on any backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        options: normalisation of the backbone, and how many of its layers are trained.
        size: size that images are resized to.
        version: version 2 has normalisation layers in the pyramid and the box head, a convolutional box head, and two
            convolutions in the RPN (Li et al. 2021).
        finest: stride of the pyramid's finest map.
        channels: number of channels of the pyramid.
        hidden: width of the box head.
        anchor_sizes: anchor sizes of each level in pixels, from fine to coarse. There is one level for each stride from
            `finest` to 64.
        proposals, boxes: settings of the two stages.
        output_ids: as in `Detector`.
    """
    net = build_backbone(backbone, in_channels, options, known=PyramidName)
    body = net.maps([stride for stride in (4, 8, 16, 32) if stride >= finest], options.trainable_layers)
    if len(anchor_sizes) != len(body.taken) + 1:
        raise InputError(
            f"anchor_sizes has {len(anchor_sizes)} lists, but must have {len(body.taken) + 1}: one per level"
        )
    norm = nn.BatchNorm2d if version == 2 else None
    fpn = FeaturePyramid(body.channels, channels, norm=norm)
    rpn = RegionProposalNetwork(channels, anchor_sizes, depth=version, settings=proposals)
    if version == 2:
        head: TwoLayerHead | ConvHead = ConvHead((channels, 7, 7), convs=(channels,) * 4, hidden=hidden)
    else:
        head = TwoLayerHead(channels * 7 * 7, hidden)
    return _assemble(net, classes, imagenet_preprocess(in_channels, size), body, fpn, rpn, head, boxes, output_ids)


def faster_rcnn_mobilenet_v3(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    options: BackboneOptions = OPTIONS,
    size: InputSize = SIZE,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """MobileNet v3 large with a pyramid of two maps at stride 32, as published. Arguments as for `faster_rcnn`."""
    net = build_backbone("mobilenet_v3_large", in_channels, options)
    body = FeatureMaps(net.layers(), [Stage("13", 160, 32), Stage("16", 960, 32)])
    body.train_last(options.trainable_layers, net.parts)
    fpn = FeaturePyramid(body.channels, 256)
    rpn = RegionProposalNetwork(256, [[32, 64, 128, 256, 512]] * 3, settings=proposals)
    head = TwoLayerHead(256 * 7 * 7, 1024)
    return _assemble(net, classes, imagenet_preprocess(in_channels, size), body, fpn, rpn, head, boxes, output_ids)


def _assemble(
    net: Network,
    classes: Iterable[str],
    preprocess: Preprocess,
    body: FeatureMaps,
    fpn: FeaturePyramid,
    rpn: RegionProposalNetwork,
    box_head: TwoLayerHead | ConvHead,
    boxes: BoxSettings,
    output_ids: Sequence[int] | None,
) -> FasterRCNN:
    """Assemble the parts into a model that can load the weights of `net`, the classifier of its backbone."""
    names = Classes(classes)
    predictor = BoxPredictor(box_head.out_features, head_outputs(names, output_ids))
    heads = RegionHeads(AlignedRegions(body.taken), box_head, predictor, boxes)
    model = FasterRCNN(names, preprocess, PyramidBackbone(body, fpn), rpn, heads, output_ids)
    model.backbone_keys = shared_keys(net, model)
    return model


SMALL: dict[str, Any] = {
    "min_size": 480,
    "max_size": 800,
    "channels": 128,
    "hidden": 512,
    "anchor_sizes": THIRDS,
    "proposals": ProposalSettings(before_nms=(1000, 500), after_nms=(500, 300)),
    "boxes": BoxSettings(samples=128),
}
"""Arguments for MobileNet v2, for training on CPUs: a narrower pyramid and head than the paper's."""
START: dict[str, Any] = {"norm": "frozen", "trainable_layers": 3}
SMALL_START: dict[str, Any] = {"norm": "frozen", "trainable_layers": 5}
_V3_START = START | {"norm_eps": 1e-3}  # ε of the classifier's training
_PAPER = "Ren et al. 2015, Faster R-CNN; Lin et al. 2017, Feature pyramid networks"

ENTRIES = (
    Entry(name="faster_rcnn", builder=faster_rcnn, task="detection", paper=_PAPER, start={"norm": "frozen"}),
    Entry(
        name="faster_rcnn_resnet50_fpn",
        builder=faster_rcnn,
        task="detection",
        paper=_PAPER,
        summary="ResNet-50 with a feature pyramid: 41,755,286 parameters with 90 classes and frozen norms.",
        aliases=("fasterrcnn_resnet50_fpn",),
        start=START,
        fixed={"backbone": "resnet50", "version": 1, "finest": 4},
    ),
    Entry(
        name="faster_rcnn_resnet50_fpn_v2",
        builder=faster_rcnn,
        task="detection",
        paper="Li et al. 2021, Benchmarking detection transfer learning with vision transformers",
        summary="Version 2: normalisation layers in pyramid and box head, two convolutions in the RPN: 43,712,278 "
        "parameters.",
        aliases=("fasterrcnn_resnet50_fpn_v2",),
        start={"trainable_layers": 3},
        fixed={"backbone": "resnet50", "version": 2, "finest": 4},
    ),
    Entry(
        name="faster_rcnn_resnet18_fpn",
        builder=faster_rcnn,
        task="detection",
        paper=_PAPER,
        summary="ResNet-18 with a feature pyramid, for small datasets and small machines.",
        start=START,
        fixed={"backbone": "resnet18", "version": 1, "finest": 4},
    ),
    Entry(
        name="faster_rcnn_mobilenet_v3_large_fpn",
        builder=faster_rcnn_mobilenet_v3,
        task="detection",
        paper=_PAPER,
        summary="MobileNet v3 large, a pyramid of two maps at stride 32: 19,386,354 parameters with 90 classes and "
        "frozen norms.",
        aliases=("fasterrcnn_mobilenet_v3_large_fpn",),
        backbone="mobilenet_v3_large",
        start=_V3_START,
        defaults={"norm_eps": 1e-5, "proposals": ProposalSettings(min_score=0.05)},
    ),
    Entry(
        name="faster_rcnn_mobilenet_v3_large_320_fpn",
        builder=faster_rcnn_mobilenet_v3,
        task="detection",
        paper=_PAPER,
        summary="MobileNet v3 large with 150 proposals on small images: for phones.",
        aliases=("fasterrcnn_mobilenet_v3_large_320_fpn",),
        backbone="mobilenet_v3_large",
        start=_V3_START,
        defaults={
            "norm_eps": 1e-5,
            "min_size": 320,
            "max_size": 640,
            "proposals": ProposalSettings(min_score=0.05, before_nms=(2000, 150), after_nms=(2000, 150)),
        },
    ),
    Entry(
        name="faster_rcnn_mobilenet_v2_fpn",
        builder=faster_rcnn,
        task="detection",
        paper=_PAPER,
        summary="MobileNet v2 with a pyramid at strides 8, 16, 32 (and 64 for proposals), for training on CPUs: "
        "pyramid and box head are narrower than the paper's.",
        start=SMALL_START,
        fixed={"backbone": "mobilenet_v2", "version": 1, "finest": 8},
        defaults=SMALL,
    ),
)

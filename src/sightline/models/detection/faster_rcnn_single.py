"""Faster R-CNN as published in 2015: one map of stride 16, RoI pooling, the classifier's dense layers as the head.

Ren, He, Girshick, Sun, "Faster R-CNN: towards real-time object detection with region proposal networks", NeurIPS 2015.
`sightline.training.alternating` implements the 4-step training of section 3.2. `fit` trains jointly (section 3.2, ii,
of the journal version, PAMI 2017).

Departures: both losses of the RPN are divided by the number of sampled anchors (the paper divides the box loss by the
number of positions and multiplies it by λ = 10, and reports little difference); images are scaled to [0, 1] and
normalised; background regions do not need an IoU of 0.1 with an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sightline.models.detection.detector import head_outputs
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.detection.parts import dense_layers, region_layers, single_map
from sightline.models.entry import Entry
from sightline.models.preprocess import InputSize, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, PyramidName, build_backbone
from sightline.nn.heads.box import BoxPredictor, BoxSettings, RegionHeads
from sightline.nn.heads.regions import PooledRegions
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.heads.rpn_single import SingleMapRPN
from sightline.structures import Classes

SIZE = InputSize(600, 1000)
PROPOSALS = ProposalSettings(before_nms=(12000, 6000), after_nms=(2000, 300), min_size=16)
"""Sections 3.3 and 4.1: 2000 proposals for training, 300 for prediction."""
SMALL_PROPOSALS = ProposalSettings(before_nms=(2000, 1000), after_nms=(1000, 300), min_size=4)
BOXES = BoxSettings(samples=128, nms_iou=0.3)


def faster_rcnn_single(
    classes: Iterable[str],
    *,
    backbone: PyramidName = "vgg16",
    in_channels: int = 3,
    options: BackboneOptions = OPTIONS,
    size: InputSize = SIZE,
    hidden: int = 4096,
    anchor_sizes: Sequence[float] = (128, 256, 512),
    rpn_channels: int = 512,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """Faster R-CNN on one map of stride 16, of any backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        options: normalisation of the backbone, and how many of its layers are trained; the paper trains 3 blocks and
            keeps conv1 and conv2 fixed.
        size: size that images are resized to.
        hidden: width of the fully connected layers; VGG's published weights have 4096.
        anchor_sizes: anchor sizes at each cell, in pixels; each size comes in three aspect ratios.
        rpn_channels: channels of the RPN's 3×3 convolution.
        proposals, boxes: settings of the two stages.
        output_ids: as in `Detector`.
    """
    names = Classes(classes)
    net = build_backbone(backbone, in_channels, options, known=PyramidName, **dense_layers(backbone, hidden))
    body = single_map(net, options.trainable_layers)
    (level,), (channels,) = body.taken, body.channels
    rpn = SingleMapRPN(level, channels, sizes=anchor_sizes, hidden=rpn_channels, settings=proposals)
    heads = RegionHeads(
        PooledRegions(level, stride=16, size=7),
        region_layers(net, channels, hidden),
        BoxPredictor(hidden, head_outputs(names, output_ids)),
        boxes,
    )
    model = FasterRCNN(names, imagenet_preprocess(in_channels, size), body, rpn, heads, output_ids)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Ren et al. 2015, Faster R-CNN"

ENTRIES = (
    Entry(
        name="faster_rcnn_vgg16",
        builder=faster_rcnn_single,
        task="detection",
        paper=_PAPER,
        summary="VGG-16: 137,078,239 parameters with 20 classes.",
        start={"trainable_layers": 3},
        fixed={"backbone": "vgg16", "norm": "batch", "norm_eps": None},
    ),
    Entry(
        name="faster_rcnn_mobilenet_v2",
        builder=faster_rcnn_single,
        task="detection",
        paper=_PAPER,
        summary="The map of stride 16 of MobileNet v2, with smaller anchors: for CPUs, and to compare with Fast R-CNN.",
        start={"norm": "frozen", "trainable_layers": 5},
        fixed={"backbone": "mobilenet_v2"},
        defaults={
            "min_size": 320,
            "max_size": 640,
            "hidden": 512,
            "anchor_sizes": (32, 64, 128, 256),
            "rpn_channels": 128,
            "proposals": SMALL_PROPOSALS,
        },
    ),
)

"""R-FCN: Dai, Li, He, Sun, "R-FCN: object detection via region-based fully convolutional networks", NeurIPS 2016.

In contrast to Faster R-CNN, no layers are applied per region. The network's last maps are position-sensitive scores;
the score of a region is the mean of its k × k bins. 300 regions cost hardly more than one.

Departures: joint training (the paper uses 4-step alternating training); smooth L1 with β = 1/9; background regions do
not need an IoU of 0.1 with an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sightline.models.detection.detector import head_outputs
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.detection.parts import single_map
from sightline.models.entry import Entry
from sightline.models.preprocess import InputSize, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, StridedName, build_backbone
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.position_sensitive import PositionSensitiveHeads
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.heads.rpn_single import SingleMapRPN
from sightline.structures import Classes

SIZE = InputSize(600, 1000)
PROPOSALS = ProposalSettings(before_nms=(12000, 6000), after_nms=(2000, 300), min_size=16)
SMALL_PROPOSALS = ProposalSettings(before_nms=(2000, 1000), after_nms=(1000, 300), min_size=4)
BOXES = BoxSettings(samples=128, nms_iou=0.3)


def r_fcn(
    classes: Iterable[str],
    *,
    backbone: StridedName = "resnet50",
    in_channels: int = 3,
    options: BackboneOptions = OPTIONS,
    size: InputSize = SIZE,
    dilated: bool = True,
    bins: int = 7,
    hidden: int = 1024,
    hard_examples: int | None = None,
    anchor_sizes: Sequence[float] = (128, 256, 512),
    rpn_channels: int = 512,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """R-FCN on any backbone that can be dilated.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        options: normalisation of the backbone, and how many of its layers are trained.
        size: size that images are resized to.
        dilated: whether regions are pooled from the last stage, dilated to stride 16; otherwise from the map of stride
            16 that proposals are predicted from.
        bins: number of bins k along each side of a region; 3 and 7 in the paper.
        hidden: number of channels before the score maps.
        hard_examples: number of regions per image for online hard example mining (128 in the paper); None uses a random
            sample.
        anchor_sizes: anchor sizes at each cell, in pixels; each size comes in three aspect ratios.
        rpn_channels: channels of the RPN's 3×3 convolution.
        proposals, boxes: settings of the two stages.
        output_ids: as in `Detector`.
    """
    names, net = Classes(classes), build_backbone(backbone, in_channels, options, known=StridedName)
    body = single_map(net, options.trainable_layers, dilated=dilated)
    rpn = SingleMapRPN(body.taken[0], body.channels[0], anchor_sizes, hidden=rpn_channels, settings=proposals)
    heads = PositionSensitiveHeads(
        body.taken[-1],
        body.channels[-1],
        head_outputs(names, output_ids),
        bins=bins,
        stride=16,
        hidden=hidden,
        hard_examples=hard_examples,
        settings=boxes,
    )
    model = FasterRCNN(names, imagenet_preprocess(in_channels, size), body, rpn, heads, output_ids)
    model.backbone_keys = shared_keys(net, model)
    return model


SMALL: dict[str, Any] = {
    "min_size": 320,
    "max_size": 640,
    "anchor_sizes": (32, 64, 128, 256),
    "rpn_channels": 128,
    "proposals": SMALL_PROPOSALS,
}
"""Arguments for training on CPUs: small images and smaller anchors."""
START: dict[str, Any] = {"norm": "frozen", "trainable_layers": 3}
SMALL_START: dict[str, Any] = {"norm": "frozen", "trainable_layers": 5}
_PAPER = "Dai et al. 2016, R-FCN"

ENTRIES = (
    Entry(name="r_fcn", builder=r_fcn, task="detection", paper=_PAPER, start={"norm": "frozen"}),
    Entry(
        name="r_fcn_resnet50",
        builder=r_fcn,
        task="detection",
        paper=_PAPER,
        summary="ResNet-50 with its last stage at stride 16.",
        start=START,
        fixed={"backbone": "resnet50", "dilated": True},
    ),
    Entry(
        name="r_fcn_resnet101",
        builder=r_fcn,
        task="detection",
        paper=_PAPER,
        summary="ResNet-101 with its last stage at stride 16, the paper's.",
        start=START,
        fixed={"backbone": "resnet101", "dilated": True},
    ),
    Entry(
        name="r_fcn_mobilenet_v2",
        builder=r_fcn,
        task="detection",
        paper=_PAPER,
        summary="The map of stride 16 of MobileNet v2 and smaller anchors, for CPUs. Both stages use that map: score "
        "maps on the last stage, dilated to stride 16 as for ResNet, were slower to train.",
        start=SMALL_START,
        fixed={"backbone": "mobilenet_v2", "dilated": False},
        defaults=SMALL | {"bins": 3, "hidden": 256},
    ),
)

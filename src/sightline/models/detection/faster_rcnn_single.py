"""Faster R-CNN as it was published: one map of stride 16, RoI pooling, the classifier's own dense layers as the head.

Ren, He, Girshick, Sun, "Faster R-CNN: towards real-time object detection with region proposal networks", NeurIPS 2015.
The 4-step training of section 3.2 is `sightline.training.alternating`; `fit` trains jointly (section 3.2, ii, of
the journal version, PAMI 2017).

Departures: a loss of the RPN is divided by the sampled anchors, its box term too (the paper: by all positions, times
λ = 10, and finds that this matters little); images are in [0, 1] and normalised; background regions need no overlap of
0.1 with an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sightline.models.detection.detector import head_outputs
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.detection.single_map import mobilenet_v2_body, vgg_body
from sightline.models.preprocess import imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.vgg import vgg16
from sightline.nn.heads.box import BoxPredictor, BoxSettings, RegionHeads, TwoLayerHead
from sightline.nn.heads.regions import DenseHead, PooledRegions
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.heads.rpn_single import SingleMapRPN
from sightline.nn.layers import Norm
from sightline.structures import Classes

PROPOSALS = ProposalSettings(before_nms=(12000, 6000), after_nms=(2000, 300), min_size=16)
"""Sections 3.3 and 4.1: 2000 proposals train, 300 are enough to predict."""
SMALL_PROPOSALS = ProposalSettings(before_nms=(2000, 1000), after_nms=(1000, 300), min_size=4)
BOXES = BoxSettings(samples=128, nms_iou=0.3)


def faster_rcnn_vgg16(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    trainable_layers: int = 5,
    min_size: int = 600,
    max_size: int = 1000,
    hidden: int = 4096,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """VGG-16: 137,078,239 parameters with 20 classes.

    Args:
        classes: names of the classes.
        in_channels: channels of the images.
        trainable_layers: how many of the five blocks of convolutions learn; the paper's 3 spare conv1 and conv2.
        min_size, max_size: the images' sides inside the network.
        hidden: width of the dense layers fc6 and fc7; the published weights have 4096.
        proposals, boxes: numbers of the two stages.
        output_ids: as in `Detector`.
    """
    names, net = Classes(classes), vgg16(in_channels=in_channels, hidden=hidden)
    body = vgg_body(net, trainable_layers)
    fc6, fc7 = net.classifier[0], net.classifier[3]
    model = FasterRCNN(
        names,
        imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size),
        body,
        SingleMapRPN(body.taken[0], 512, sizes=(128, 256, 512), ratios=(0.5, 1.0, 2.0), settings=proposals),
        RegionHeads(
            PooledRegions(body.taken[0], stride=16, size=7),
            DenseHead(fc6, fc7, dropout=0.5),
            BoxPredictor(hidden, head_outputs(names, output_ids)),
            boxes,
        ),
        output_ids,
    )
    model.backbone_keys = shared_keys(net, model)
    return model


def faster_rcnn_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 7,
    min_size: int = 320,
    max_size: int = 640,
    hidden: int = 512,
    proposals: ProposalSettings = SMALL_PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """The same on MobileNet v2's map of stride 16, with smaller anchors: for a few cores, and beside its forerunners.

    Args:
        norm: "batch" learns the backbone's normalisation, "frozen" keeps it.
        trainable_layers: how many of the backbone's seven parts learn.
        hidden: width of the box head.
        classes, in_channels, min_size, max_size, proposals, boxes, output_ids: as for `faster_rcnn_vgg16`.
    """
    names = Classes(classes)
    net, body = mobilenet_v2_body(in_channels, norm, trainable_layers)
    model = FasterRCNN(
        names,
        imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size),
        body,
        SingleMapRPN(body.taken[0], 96, sizes=(32, 64, 128, 256), hidden=128, settings=proposals),
        RegionHeads(
            PooledRegions(body.taken[0], stride=16, size=7),
            TwoLayerHead(96 * 7 * 7, hidden),
            BoxPredictor(hidden, head_outputs(names, output_ids)),
            boxes,
        ),
        output_ids,
    )
    model.backbone_keys = shared_keys(net, model)
    return model

"""R-FCN: Dai, Li, He, Sun, "R-FCN: object detection via region-based fully convolutional networks", NeurIPS 2016.

What it changed in Faster R-CNN: no layer runs for each region. The network's last maps are position-sensitive scores, a
region averages k × k parts of them and its score is the mean of these: 300 regions cost hardly more than one.

Departures: joint training (the paper alternates in 4 steps); smooth L1 bends at 1/9; background regions need no overlap
of 0.1 with an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sightline.models.detection.detector import head_outputs
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.detection.single_map import dilated_resnet_body, mobilenet_v2_body
from sightline.models.preprocess import imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.resnet import resnet50, resnet101
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.position_sensitive import PositionSensitiveHeads
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.heads.rpn_single import SingleMapRPN
from sightline.nn.layers import Norm
from sightline.structures import Classes

PROPOSALS = ProposalSettings(before_nms=(12000, 6000), after_nms=(2000, 300), min_size=16)
SMALL_PROPOSALS = ProposalSettings(before_nms=(2000, 1000), after_nms=(1000, 300), min_size=4)
BOXES = BoxSettings(samples=128, nms_iou=0.3)


def r_fcn_resnet50(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 5,
    min_size: int = 600,
    max_size: int = 1000,
    bins: int = 7,
    hidden: int = 1024,
    hard_examples: int | None = None,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """ResNet-50 with its last stage at stride 16.

    Args:
        classes: names of the classes.
        in_channels: channels of the images.
        norm: "batch" learns the backbone's normalisation, "frozen" keeps it.
        trainable_layers: how many of the backbone's parts learn (a ResNet has five), counted from its end.
        min_size, max_size: the images' sides inside the network.
        bins: k, parts along a region's side; 3 and 7 in the paper.
        hidden: channels before the score maps.
        hard_examples: regions an image that train, those of the largest losses (128 in the paper); None for a random
            sample.
        proposals, boxes: numbers of the two stages.
        output_ids: as in `Detector`.
    """
    names = Classes(classes)
    net, body = dilated_resnet_body(resnet50, in_channels, norm, trainable_layers)
    rpn = SingleMapRPN("layer3", 1024, sizes=(128, 256, 512), settings=proposals)
    heads = PositionSensitiveHeads(
        "layer4",
        2048,
        head_outputs(names, output_ids),
        bins=bins,
        stride=16,
        hidden=hidden,
        hard_examples=hard_examples,
        settings=boxes,
    )
    model = FasterRCNN(
        names, imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size), body, rpn, heads, output_ids
    )
    model.backbone_keys = shared_keys(net, model)
    return model


def r_fcn_resnet101(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 5,
    min_size: int = 600,
    max_size: int = 1000,
    bins: int = 7,
    hidden: int = 1024,
    hard_examples: int | None = None,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """ResNet-101 with its last stage at stride 16, the paper's. Arguments as for `r_fcn_resnet50`."""
    names = Classes(classes)
    net, body = dilated_resnet_body(resnet101, in_channels, norm, trainable_layers)
    rpn = SingleMapRPN("layer3", 1024, sizes=(128, 256, 512), settings=proposals)
    heads = PositionSensitiveHeads(
        "layer4",
        2048,
        head_outputs(names, output_ids),
        bins=bins,
        stride=16,
        hidden=hidden,
        hard_examples=hard_examples,
        settings=boxes,
    )
    model = FasterRCNN(
        names, imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size), body, rpn, heads, output_ids
    )
    model.backbone_keys = shared_keys(net, model)
    return model


def r_fcn_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 7,
    min_size: int = 320,
    max_size: int = 640,
    bins: int = 3,
    hidden: int = 256,
    hard_examples: int | None = None,
    proposals: ProposalSettings = SMALL_PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """MobileNet v2's map of stride 16 and smaller anchors, for a few cores.

    Both stages read that map: score maps on the last stage, dilated to stride 16 as ResNet's is, learnt more slowly.

    Arguments as for `r_fcn_resnet50`; the backbone has seven parts.
    """
    names = Classes(classes)
    net, body = mobilenet_v2_body(in_channels, norm, trainable_layers)
    rpn = SingleMapRPN("13", 96, sizes=(32, 64, 128, 256), hidden=128, settings=proposals)
    heads = PositionSensitiveHeads(
        "13",
        96,
        head_outputs(names, output_ids),
        bins=bins,
        stride=16,
        hidden=hidden,
        hard_examples=hard_examples,
        settings=boxes,
    )
    model = FasterRCNN(
        names, imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size), body, rpn, heads, output_ids
    )
    model.backbone_keys = shared_keys(net, model)
    return model

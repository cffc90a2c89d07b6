"""Faster R-CNN: Ren, He, Girshick, Sun, "Faster R-CNN: towards real-time object detection with region proposal
networks", NeurIPS 2015; on a feature pyramid: Lin et al. 2017; version 2: Li et al., "Benchmarking detection transfer
learning with vision transformers", 2021 (a deeper proposal head, a convolutional box head, normalisation everywhere).

Departures of the pyramid models from the 2015 paper, all as in the published weights: RoI align instead of RoI pool;
all losses trained jointly; smooth L1 bends at 1/9; proposals are clipped to the image in training too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from sightline.models.detection.detector import Detections, Detector, Losses, head_outputs
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.models.weights import shared_keys
from sightline.nn.backbones.features import FeatureMaps, Stage
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.mobilenet_v3 import mobilenet_v3_large
from sightline.nn.backbones.resnet import resnet18, resnet50
from sightline.nn.heads.box import BoxPredictor, BoxSettings, ConvHead, RegionHeads, TwoLayerHead
from sightline.nn.heads.rpn import ProposalSettings, RegionProposalNetwork
from sightline.nn.layers import Norm, norm_maker
from sightline.nn.necks.fpn import FeaturePyramid, PyramidBackbone
from sightline.ops.regions import multiscale_roi_align
from sightline.structures import Classes, ImageBatch, Instances, Size


class FasterRCNN(Detector):
    """Backbone → region proposals → region features → classes and boxes (figure 2). Every box is corrected twice.

    Args:
        classes: names of the classes.
        preprocess: images → batch.
        backbone: batch [N, C, H, W] → maps by name, fine to coarse.
        rpn: maps → proposals.
        roi_heads: maps and proposals → detections.
        output_ids: as in `Detector`.
    """

    class_layers = r"roi_heads\.box_predictor\."

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        rpn: RegionProposalNetwork,
        roi_heads: RegionHeads,
        output_ids: Sequence[int] | None = None,
    ):
        super().__init__(classes, preprocess, output_ids)
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads

    @classmethod
    def on(cls, base: FasterRCNN, roi_heads: RegionHeads) -> Self:
        """The parts of a built model with other heads, for papers that change those alone."""
        model = cls(base.classes, base.preprocess, base.backbone, base.rpn, roi_heads, base.output_ids)
        model.backbone_keys = base.backbone_keys
        return model

    def process(self, batch: ImageBatch, targets: Sequence[Instances] | None) -> tuple[Detections, Losses]:
        """A batch → detections of each image; with targets, the four losses of joint training."""
        maps = self.backbone(batch.tensor)
        proposals, proposal_losses = self.rpn(maps, batch, targets)
        found, box_losses = self.roi_heads(maps, proposals, batch, targets)
        return found, proposal_losses | box_losses

    def anchor_shapes(self, image_size: Size) -> Tensor:
        """(width, height) of every kind of anchor, [A, 2], in pixels of an image of `image_size`."""
        bases = torch.cat(self.rpn.anchor_bases)
        inside = self.preprocess.resized(image_size)
        return (bases[:, 2:] - bases[:, :2]) * (image_size[0] / inside[0])


class AlignedRegions:
    """Region features by RoI align from the level of the pyramid that fits each box (Lin et al. 2017, equation 1).

    Args:
        levels: names of the maps to take them from.
        size: height and width of the features.
        samples: sampling points along a bin's side.
    """

    def __init__(self, levels: Sequence[str], size: int = 7, samples: int = 2):
        self.levels, self.size, self.samples = tuple(levels), size, samples

    def __call__(self, maps: dict[str, Tensor], boxes: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """Maps [N, C, H, W], boxes [R_i, 4] an image → [ΣR_i, C, size, size]."""
        chosen = [maps[name] for name in self.levels]
        # the level's stride is measured on the images, whose padding the published models leave out here
        image_size = max(h for h, _ in batch.sizes), max(w for _, w in batch.sizes)
        return multiscale_roi_align(chosen, boxes, image_size, self.size, self.samples)


PROPOSALS = ProposalSettings()
BOXES = BoxSettings()
SURE_PROPOSALS = ProposalSettings(min_score=0.05)
FEW_SURE_PROPOSALS = ProposalSettings(min_score=0.05, before_nms=(2000, 150), after_nms=(2000, 150))
FEW_PROPOSALS = ProposalSettings(before_nms=(1000, 500), after_nms=(500, 300))
FEW_BOXES = BoxSettings(samples=128)


def faster_rcnn_resnet50_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    norm_eps: float = 1e-5,
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """ResNet-50 with a feature pyramid: 41,755,286 parameters with 90 classes and frozen norms.

    Args:
        classes: names of the classes.
        in_channels: channels of the images.
        norm: "batch" learns the backbone's normalisation, "frozen" keeps it.
        norm_eps: added to the variance there.
        trainable_layers: how many of the backbone's parts learn (a ResNet has five), counted from its end.
        min_size, max_size: the images' sides inside the network.
        proposals, boxes: numbers of the two stages.
        output_ids: as in `Detector`.
    """
    net = resnet50(in_channels=in_channels, norm=norm_maker(norm, norm_eps))
    body = net.maps((4, 8, 16, 32), trainable_layers)
    fpn = FeaturePyramid(body.channels, 256)
    rpn = RegionProposalNetwork(256, _OCTAVES, settings=proposals)
    head = TwoLayerHead(256 * 7 * 7, 1024)
    return _assemble(net, classes, in_channels, min_size, max_size, body, fpn, rpn, head, boxes, output_ids)


def faster_rcnn_resnet50_fpn_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """Version 2: normalisation in pyramid and box head, two convolutions before the proposals: 43,712,278 parameters.

    Arguments as for `faster_rcnn_resnet50_fpn`.
    """
    net = resnet50(in_channels=in_channels, norm=norm_maker(norm))
    body = net.maps((4, 8, 16, 32), trainable_layers)
    fpn = FeaturePyramid(body.channels, 256, norm=nn.BatchNorm2d)
    rpn = RegionProposalNetwork(256, _OCTAVES, depth=2, settings=proposals)
    head = ConvHead((256, 7, 7), convs=(256, 256, 256, 256), hidden=1024)
    return _assemble(net, classes, in_channels, min_size, max_size, body, fpn, rpn, head, boxes, output_ids)


def faster_rcnn_resnet18_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """ResNet-18 with a feature pyramid, for small data and small machines.

    Arguments as for `faster_rcnn_resnet50_fpn`.
    """
    net = resnet18(in_channels=in_channels, norm=norm_maker(norm))
    body = net.maps((4, 8, 16, 32), trainable_layers)
    fpn = FeaturePyramid(body.channels, 256)
    rpn = RegionProposalNetwork(256, _OCTAVES, settings=proposals)
    head = TwoLayerHead(256 * 7 * 7, 1024)
    return _assemble(net, classes, in_channels, min_size, max_size, body, fpn, rpn, head, boxes, output_ids)


def faster_rcnn_mobilenet_v3_large_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    norm_eps: float = 1e-5,
    trainable_layers: int = 6,
    min_size: int = 800,
    max_size: int = 1333,
    proposals: ProposalSettings = SURE_PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """MobileNet v3 large, a pyramid of two maps at stride 32: 19,386,354 parameters with 90 classes and frozen norms.

    Arguments as for `faster_rcnn_resnet50_fpn`; the backbone has six parts.
    """
    net = mobilenet_v3_large(in_channels=in_channels, norm=norm_maker(norm, norm_eps))
    body = FeatureMaps(net.layers(), [Stage("13", 160, 32), Stage("16", 960, 32)])
    body.train_last(trainable_layers, net.parts)
    fpn = FeaturePyramid(body.channels, 256)
    all_sizes = [[32, 64, 128, 256, 512]] * 3
    rpn = RegionProposalNetwork(256, all_sizes, settings=proposals)
    head = TwoLayerHead(256 * 7 * 7, 1024)
    return _assemble(net, classes, in_channels, min_size, max_size, body, fpn, rpn, head, boxes, output_ids)


def faster_rcnn_mobilenet_v3_large_320_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    norm_eps: float = 1e-5,
    trainable_layers: int = 6,
    min_size: int = 320,
    max_size: int = 640,
    proposals: ProposalSettings = FEW_SURE_PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """The same network on small images and with 150 proposals: for phones.

    Arguments as for `faster_rcnn_mobilenet_v3_large_fpn`.
    """
    return faster_rcnn_mobilenet_v3_large_fpn(
        classes,
        in_channels=in_channels,
        norm=norm,
        norm_eps=norm_eps,
        trainable_layers=trainable_layers,
        min_size=min_size,
        max_size=max_size,
        proposals=proposals,
        boxes=boxes,
        output_ids=output_ids,
    )


def faster_rcnn_mobilenet_v2_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 7,
    min_size: int = 480,
    max_size: int = 800,
    channels: int = 128,
    hidden: int = 512,
    proposals: ProposalSettings = FEW_PROPOSALS,
    boxes: BoxSettings = FEW_BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """MobileNet v2 with a pyramid at strides 8, 16, 32 (and 64 for proposals), to train on a few cores.

    The pyramid and the box head are narrower than the paper's (256 and 1024); a cell has three anchor sizes, a third of
    an octave apart.

    Args:
        channels: of the pyramid.
        hidden: width of the box head.
        classes, in_channels, norm, trainable_layers, min_size, max_size, proposals, boxes, output_ids: as for
            `faster_rcnn_resnet50_fpn`; the backbone has seven parts.
    """
    net = mobilenet_v2(in_channels=in_channels, norm=norm_maker(norm))
    body = net.maps((8, 16, 32), trainable_layers)
    fpn = FeaturePyramid(body.channels, channels)
    thirds = [[base, base * 2 ** (1 / 3), base * 2 ** (2 / 3)] for base in (32, 64, 128, 256)]
    rpn = RegionProposalNetwork(channels, thirds, settings=proposals)
    head = TwoLayerHead(channels * 7 * 7, hidden)
    return _assemble(net, classes, in_channels, min_size, max_size, body, fpn, rpn, head, boxes, output_ids)


_OCTAVES = [[32], [64], [128], [256], [512]]


def _assemble(
    net: nn.Module,
    classes: Iterable[str],
    in_channels: int,
    min_size: int,
    max_size: int,
    body: FeatureMaps,
    fpn: FeaturePyramid,
    rpn: RegionProposalNetwork,
    box_head: TwoLayerHead | ConvHead,
    boxes: BoxSettings,
    output_ids: Sequence[int] | None,
) -> FasterRCNN:
    """The parts on a pyramid as one model, which knows where the weights of its backbone's classifier `net` go."""
    names = Classes(classes)
    mean, std = for_channels(IMAGENET_MEAN, in_channels), for_channels(IMAGENET_STD, in_channels)
    predictor = BoxPredictor(box_head.out_features, head_outputs(names, output_ids))
    model = FasterRCNN(
        names,
        Preprocess(mean, std, min_size=min_size, max_size=max_size),
        PyramidBackbone(body, fpn),
        rpn,
        RegionHeads(AlignedRegions(body.taken), box_head, predictor, boxes),
        output_ids,
    )
    model.backbone_keys = shared_keys(net, model)
    return model

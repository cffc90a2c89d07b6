"""Faster R-CNN: Ren, He, Girshick, Sun, "Faster R-CNN: towards real-time object detection with region proposal networks",
NeurIPS 2015; on a feature pyramid: Lin et al. 2017; version 2: Li et al., "Benchmarking detection transfer learning with
vision transformers", 2021 (a deeper proposal head, a convolutional box head, batch normalisation everywhere).

Departures of the pyramid models from the 2015 paper, all as in the published weights: RoI align instead of RoI pool; all
losses trained jointly; smooth L1 bends at 1/9; boxes are clipped to the image in training too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, overload

from torch import Tensor, nn

from sightline.models.detection.detector import Detector, head_outputs
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.nn.backbones.features import FeatureMaps, Stage
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.mobilenet_v3 import mobilenet_v3_large
from sightline.nn.backbones.resnet import resnet18, resnet50
from sightline.nn.heads.box import BoxPredictor, BoxSettings, ConvHead, RegionHeads, TwoLayerHead
from sightline.nn.heads.rpn import ProposalSettings, RegionProposalNetwork
from sightline.nn.layers import FrozenBatchNorm2d, NormLayer
from sightline.nn.necks.fpn import FeaturePyramid, PyramidBackbone
from sightline.ops.regions import multiscale_roi_align
from sightline.structures import Classes, ImageBatch, Instances

Norm = Literal["batch", "frozen"]


class FasterRCNN(Detector):
    """Backbone → region proposals → region features → classes and boxes (figure 2). Every box is corrected twice.

    Args:
        classes: names of the classes.
        preprocess: images → batch.
        backbone: batch [N, C, H, W] → maps by name, fine to coarse.
        rpn: maps → proposals.
        roi_heads: maps and proposals → detections.
        slots: as in `Detector`.
    """

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        backbone: nn.Module,
        rpn: RegionProposalNetwork,
        roi_heads: RegionHeads,
        slots: Sequence[int] | None = None,
    ):
        super().__init__(classes, preprocess, slots)
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads

    @overload
    def forward(self, images: Sequence[Tensor], targets: Sequence[Instances]) -> dict[str, Tensor]: ...
    @overload
    def forward(self, images: Sequence[Tensor], targets: None = None) -> list[Instances]: ...
    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None = None
    ) -> dict[str, Tensor] | list[Instances]:
        """Images [C, Hi, Wi] → detections of each; with targets, the four losses of joint training instead."""
        batch, targets = self.prepare(images, targets)
        maps = self.backbone(batch.tensor)
        proposals, proposal_losses = self.rpn(maps, batch, targets)
        found, box_losses = self.roi_heads(maps, proposals, batch, targets)
        return self.finish(found, batch) if targets is None else proposal_losses | box_losses


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


def faster_rcnn_resnet50_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    proposals: ProposalSettings | None = None,
    boxes: BoxSettings | None = None,
    slots: Sequence[int] | None = None,
) -> FasterRCNN:
    """ResNet-50 with a feature pyramid: 41,755,286 parameters with 90 classes (frozen norms left out).

    Args:
        classes: names of the classes.
        in_channels: channels of the images.
        norm: "batch" learns the backbone's normalisation, "frozen" keeps it.
        trainable_layers: how many of the backbone's five parts learn, counted from its end.
        min_size, max_size: the images' sides inside the network.
        proposals, boxes: numbers of the two stages.
        slots: as in `Detector`.
    """
    net = resnet50(in_channels=in_channels, norm=_norm(norm))
    body = FeatureMaps(net.layers(), net.stages)
    _freeze(body, ["conv1", "layer1", "layer2", "layer3", "layer4"], trainable_layers)
    return _on_pyramid(
        classes, body, in_channels, [[32], [64], [128], [256], [512]], min_size, max_size, proposals, boxes, slots
    )


def faster_rcnn_resnet50_fpn_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    proposals: ProposalSettings | None = None,
    boxes: BoxSettings | None = None,
    slots: Sequence[int] | None = None,
) -> FasterRCNN:
    """Version 2: batch normalisation in pyramid and box head, two convolutions before the proposals. 43,712,278 parameters.

    Arguments as for `faster_rcnn_resnet50_fpn`.
    """
    net = resnet50(in_channels=in_channels, norm=_norm(norm))
    body = FeatureMaps(net.layers(), net.stages)
    _freeze(body, ["conv1", "layer1", "layer2", "layer3", "layer4"], trainable_layers)
    names = Classes(classes)
    return FasterRCNN(
        names,
        _preprocess(in_channels, min_size, max_size),
        PyramidBackbone(body, FeaturePyramid(body.channels, 256, norm=nn.BatchNorm2d)),
        RegionProposalNetwork(256, [[32], [64], [128], [256], [512]], depth=2, settings=proposals),
        RegionHeads(
            AlignedRegions(body.taken),
            ConvHead((256, 7, 7), (256, 256, 256, 256), 1024),
            BoxPredictor(1024, head_outputs(names, slots)),
            boxes,
        ),
        slots,
    )


def faster_rcnn_resnet18_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    proposals: ProposalSettings | None = None,
    boxes: BoxSettings | None = None,
    slots: Sequence[int] | None = None,
) -> FasterRCNN:
    """ResNet-18 with a feature pyramid, for small data and small machines. Arguments as for `faster_rcnn_resnet50_fpn`."""
    net = resnet18(in_channels=in_channels, norm=_norm(norm))
    body = FeatureMaps(net.layers(), net.stages)
    _freeze(body, ["conv1", "layer1", "layer2", "layer3", "layer4"], trainable_layers)
    return _on_pyramid(
        classes, body, in_channels, [[32], [64], [128], [256], [512]], min_size, max_size, proposals, boxes, slots
    )


def faster_rcnn_mobilenet_v3_large_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 6,
    min_size: int = 800,
    max_size: int = 1333,
    proposals: ProposalSettings | None = None,
    boxes: BoxSettings | None = None,
    slots: Sequence[int] | None = None,
) -> FasterRCNN:
    """MobileNet v3 large with a pyramid of two maps at stride 32: 19,386,354 parameters with 90 classes (frozen norms left out).

    Arguments as for `faster_rcnn_resnet50_fpn`; the backbone has six parts.
    """
    proposals = proposals or ProposalSettings(min_score=0.05)
    net = mobilenet_v3_large(in_channels=in_channels, norm=_norm(norm))
    body = FeatureMaps(net.layers(), [Stage("13", 160, 32), Stage("16", 960, 32)])
    _freeze(body, ["0", "2", "4", "7", "13", "16"], trainable_layers)
    sizes = [[32, 64, 128, 256, 512]] * 3
    return _on_pyramid(classes, body, in_channels, sizes, min_size, max_size, proposals, boxes, slots)


def faster_rcnn_mobilenet_v3_large_320_fpn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 6,
    min_size: int = 320,
    max_size: int = 640,
    proposals: ProposalSettings | None = None,
    boxes: BoxSettings | None = None,
    slots: Sequence[int] | None = None,
) -> FasterRCNN:
    """The same network on small images and with 150 proposals: for phones.

    Arguments as for `faster_rcnn_mobilenet_v3_large_fpn`.
    """
    few = ProposalSettings(min_score=0.05, before_nms=(2000, 150), after_nms=(2000, 150))
    return faster_rcnn_mobilenet_v3_large_fpn(
        classes,
        in_channels=in_channels,
        norm=norm,
        trainable_layers=trainable_layers,
        min_size=min_size,
        max_size=max_size,
        proposals=proposals or few,
        boxes=boxes,
        slots=slots,
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
    proposals: ProposalSettings | None = None,
    boxes: BoxSettings | None = None,
    slots: Sequence[int] | None = None,
) -> FasterRCNN:
    """MobileNet v2 with a pyramid at strides 8, 16, 32 (and 64 for proposals): trains on two cores in minutes.

    A narrower pyramid and box head than the paper's (256 and 1024), and three anchor sizes an octave apart by thirds.

    Args:
        channels: of the pyramid.
        hidden: width of the box head.
        classes, in_channels, norm, trainable_layers, min_size, max_size, proposals, boxes, slots: as for
            `faster_rcnn_resnet50_fpn`; the backbone has seven parts.
    """
    proposals = proposals or ProposalSettings(before_nms=(1000, 500), after_nms=(500, 300))
    boxes = boxes or BoxSettings(samples=128)
    net = mobilenet_v2(in_channels=in_channels, norm=_norm(norm))
    body = FeatureMaps(net.layers(), net.stages[2:])
    _freeze(body, ["0", "2", "4", "7", "11", "14", "17"], trainable_layers)
    names = Classes(classes)
    sizes = [[base, base * 2 ** (1 / 3), base * 2 ** (2 / 3)] for base in (32, 64, 128, 256)]
    return FasterRCNN(
        names,
        _preprocess(in_channels, min_size, max_size),
        PyramidBackbone(body, FeaturePyramid(body.channels, channels)),
        RegionProposalNetwork(channels, sizes, settings=proposals),
        RegionHeads(
            AlignedRegions(body.taken),
            TwoLayerHead(channels * 49, hidden),
            BoxPredictor(hidden, head_outputs(names, slots)),
            boxes,
        ),
        slots,
    )


def _on_pyramid(
    classes: Iterable[str],
    body: FeatureMaps,
    in_channels: int,
    sizes: Sequence[Sequence[float]],
    min_size: int,
    max_size: int,
    proposals: ProposalSettings | None,
    boxes: BoxSettings | None,
    slots: Sequence[int] | None,
) -> FasterRCNN:
    """The paper's heads (two dense layers of 1024) on a pyramid of 256 channels."""
    names = Classes(classes)
    return FasterRCNN(
        names,
        _preprocess(in_channels, min_size, max_size),
        PyramidBackbone(body, FeaturePyramid(body.channels, 256)),
        RegionProposalNetwork(256, sizes, settings=proposals),
        RegionHeads(
            AlignedRegions(body.taken),
            TwoLayerHead(256 * 49, 1024),
            BoxPredictor(1024, head_outputs(names, slots)),
            boxes,
        ),
        slots,
    )


def _preprocess(channels: int, min_size: int, max_size: int) -> Preprocess:
    mean, std = for_channels(IMAGENET_MEAN, channels), for_channels(IMAGENET_STD, channels)
    return Preprocess(mean, std, min_size=min_size, max_size=max_size)


def _norm(norm: Norm) -> NormLayer:
    return FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d


def _freeze(body: FeatureMaps, parts: Sequence[str], trainable: int) -> None:
    """Leave the last `trainable` of `parts` (names of their first layers) learning."""
    from sightline.errors import InputError

    if not 0 <= trainable <= len(parts):
        raise InputError(
            f"trainable_layers is {trainable}, but this backbone has {len(parts)} parts: give 0 to {len(parts)}"
        )
    if trainable < len(parts):
        if trainable == 0:
            body.requires_grad_(False)
        else:
            body.freeze_before(parts[len(parts) - trainable])

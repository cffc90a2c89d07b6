"""Keypoint R-CNN: He, Gkioxari, Dollár, Girshick, "Mask R-CNN", ICCV 2017, section 5 ("Mask R-CNN for human pose
estimation"): Faster R-CNN with a branch that predicts the keypoints of each object.

Departures from the paper: images are resized to one size (the published weights were trained with six sizes from 640 to
800 pixels; use augmentation for this), and there is no mask branch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from sightline.models.detection.detector import Detections
from sightline.models.detection.faster_rcnn import SMALL, SMALL_START, START, FasterRCNN, faster_rcnn
from sightline.models.entry import Entry, extends
from sightline.nn.heads.keypoint import KeypointHead, KeypointPredictor, KeypointRegionHeads
from sightline.nn.heads.regions import AlignedRegions
from sightline.nn.necks.fpn import PyramidBackbone
from sightline.structures import ImageBatch, Instances


class KeypointRCNN(FasterRCNN):
    """Faster R-CNN that also predicts keypoints.

    Results have "keypoints" [N, P, 3] in pixels of the image and "keypoint_scores" [N, P], the maximum logit of each
    heatmap. Targets need the field "keypoints". Arguments as for `FasterRCNN`; `roi_heads` are `KeypointRegionHeads`.
    """

    roi_heads: KeypointRegionHeads
    target_fields = ("keypoints",)

    def keypoint_logits_of(self, batch: ImageBatch, boxes: Tensor, rows: Tensor, classes: Tensor) -> Tensor:
        """Like `Detector.keypoint_logits_of`: the maximum of each heat map."""
        heat = self.roi_heads.predict_heat(self.backbone(batch.tensor), list(boxes[:, None]), batch)
        return heat.float().amax((2, 3))

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Like every detector, with keypoints in pixels of the image."""
        results = super().finish(found, batch)
        return [
            r.replace(keypoints=r.keypoints / r.keypoints.new_tensor([sx, sy, 1.0]))
            for r, (sx, sy) in zip(results, batch.scales, strict=True)
        ]


@extends(faster_rcnn)
def keypoint_rcnn(
    classes: Iterable[str],
    *,
    num_keypoints: int = 17,
    convs: int = 8,
    conv_channels: int | None = 512,
    **arguments: Any,
) -> KeypointRCNN:
    """Keypoint R-CNN on any backbone: 14×14 region features, convolutions, 56×56 heatmaps.

    Other arguments as for `faster_rcnn`.

    Args:
        classes: names of the classes.
        num_keypoints: P, keypoints per object; COCO's persons have 17.
        convs: number of convolutions of the keypoint head.
        conv_channels: number of channels of each; None for as many as the pyramid has.
        arguments: additional arguments of `faster_rcnn`.
    """
    base = faster_rcnn(classes, **arguments)
    regions = base.roi_heads.region_features
    assert isinstance(base.backbone, PyramidBackbone)
    assert isinstance(regions, AlignedRegions)
    channels = base.backbone.out_channels
    head = KeypointHead(channels, (conv_channels or channels,) * convs)
    predictor = KeypointPredictor(head.out_channels, num_keypoints)
    features = AlignedRegions(regions.levels, 14)
    return KeypointRCNN.on(base, KeypointRegionHeads(base.roi_heads, features, head, predictor))


_PAPER = "He et al. 2017, Mask R-CNN, section 5"

ENTRIES = (
    Entry(name="keypoint_rcnn", builder=keypoint_rcnn, task="detection", paper=_PAPER, start={"norm": "frozen"}),
    Entry(
        name="keypoint_rcnn_resnet50_fpn",
        builder=keypoint_rcnn,
        task="detection",
        paper=_PAPER,
        summary="ResNet-50 with a feature pyramid: 59,137,258 parameters with one class, 17 keypoints, frozen norms.",
        aliases=("keypointrcnn_resnet50_fpn",),
        start=START,
        fixed={"backbone": "resnet50", "version": 1, "finest": 4},
    ),
    Entry(
        name="keypoint_rcnn_mobilenet_v2_fpn",
        builder=keypoint_rcnn,
        task="detection",
        paper=_PAPER,
        summary="MobileNet v2 with a narrow pyramid, for training on CPUs; the keypoint head has four narrow "
        "convolutions.",
        start=SMALL_START,
        fixed={"backbone": "mobilenet_v2", "version": 1, "finest": 8},
        defaults=SMALL | {"convs": 4, "conv_channels": None},
    ),
)

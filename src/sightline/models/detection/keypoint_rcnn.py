"""Keypoint R-CNN: He, Gkioxari, Dollár, Girshick, "Mask R-CNN", ICCV 2017, section 5 ("Mask R-CNN for human pose
estimation"): Faster R-CNN with a branch that says where the keypoints of each object are.

Departures from the paper: training images have one size (the published weights saw six, 640 to 800 pixels; augmentation
does that here), and there is no mask branch beside this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sightline.models.detection.detector import Detections
from sightline.models.detection.faster_rcnn import (
    BOXES,
    FEW_BOXES,
    FEW_PROPOSALS,
    PROPOSALS,
    AlignedRegions,
    FasterRCNN,
    Norm,
    faster_rcnn_mobilenet_v2_fpn,
    faster_rcnn_resnet50_fpn,
)
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.keypoint import KeypointHead, KeypointPredictor, KeypointRegionHeads
from sightline.nn.heads.rpn import ProposalSettings
from sightline.structures import ImageBatch, Instances


class KeypointRCNN(FasterRCNN):
    """Faster R-CNN whose regions have keypoints, too: results have "keypoints" [N, P, 3] in the image's pixels and
    "keypoint_scores" [N, P], the heat at each of them (no probability: comparable between objects, without a bound).

    Arguments as for `FasterRCNN`; `roi_heads` are `KeypointRegionHeads`, and targets need the field "keypoints".
    """

    roi_heads: KeypointRegionHeads
    target_fields = ("keypoints",)

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """As for every detector, and keypoints in the image's pixels."""
        results = super().finish(found, batch)
        return [
            r.replace(keypoints=r.keypoints / r.keypoints.new_tensor([sx, sy, 1.0]))
            for r, (sx, sy) in zip(results, batch.scales, strict=True)
        ]


def keypoint_rcnn_resnet50_fpn(
    classes: Iterable[str],
    *,
    points: int = 17,
    in_channels: int = 3,
    norm: Norm = "batch",
    norm_eps: float = 1e-5,
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> KeypointRCNN:
    """ResNet-50 with a feature pyramid: 59,137,258 parameters with one class, 17 keypoints and frozen norms.

    Args:
        points: P, keypoints an object; COCO's persons have 17.
        classes, in_channels, norm, norm_eps, trainable_layers, min_size, max_size, proposals, boxes, output_ids: as for
            `faster_rcnn_resnet50_fpn`.
    """
    base = faster_rcnn_resnet50_fpn(
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
    return _with_keypoints(base, 256, points)


def keypoint_rcnn_mobilenet_v2_fpn(
    classes: Iterable[str],
    *,
    points: int = 17,
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
) -> KeypointRCNN:
    """MobileNet v2 with a narrow pyramid, to train on a few cores; four convolutions as narrow find the keypoints.

    Args:
        points: P, keypoints an object.
        classes, in_channels, norm, trainable_layers, min_size, max_size, channels, hidden: as for
            `faster_rcnn_mobilenet_v2_fpn`.
        proposals, boxes, output_ids: as for `faster_rcnn_mobilenet_v2_fpn`.
    """
    base = faster_rcnn_mobilenet_v2_fpn(
        classes,
        in_channels=in_channels,
        norm=norm,
        trainable_layers=trainable_layers,
        min_size=min_size,
        max_size=max_size,
        channels=channels,
        hidden=hidden,
        proposals=proposals,
        boxes=boxes,
        output_ids=output_ids,
    )
    return _with_keypoints(base, channels, points, convs=(channels,) * 4)


def _with_keypoints(base: FasterRCNN, channels: int, points: int, convs: Sequence[int] = (512,) * 8) -> KeypointRCNN:
    """Faster R-CNN and the keypoint branch: 14×14 region features, convolutions, 56×56 maps."""
    head = KeypointHead(channels, convs)
    predictor = KeypointPredictor(head.out_channels, points)
    regions = base.roi_heads.region_features
    assert isinstance(regions, AlignedRegions)
    features = AlignedRegions(regions.levels, 14)
    return KeypointRCNN.on(base, KeypointRegionHeads(base.roi_heads, features, head, predictor))

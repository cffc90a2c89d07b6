"""Mask R-CNN: He, Gkioxari, Dollár, Girshick, "Mask R-CNN", ICCV 2017: Faster R-CNN with a third branch that says which
part of each box is the object. Version 2 is that of Li et al. 2021, as for Faster R-CNN.

Departures from the paper, all as in the published weights: the mask of a detection is asked for in its corrected box of
every class that stayed, at most 100 an image; target masks are brought to the size inside the network by the nearest
pixel before regions are cropped out of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from sightline.models.detection.detector import Detections, head_outputs
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
    faster_rcnn_resnet50_fpn_v2,
)
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.mask import MaskHead, MaskPredictor, MaskRegionHeads
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.layers import NormLayer
from sightline.ops.masks import paste_masks
from sightline.structures import ImageBatch, Instances


class MaskRCNN(FasterRCNN):
    """Faster R-CNN whose regions have masks, too (figure 1): results have "masks" [N, H, W] bool in its pixels.

    Arguments as for `FasterRCNN`; `roi_heads` are `MaskRegionHeads`, and targets need the field "masks".
    """

    roi_heads: MaskRegionHeads
    target_fields = ("masks",)
    class_layers = r"roi_heads\.(box_predictor|mask_predictor\.mask_fcn_logits)\."

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """As for every detector, and masks stretched from their boxes' grids over the image (section 3.1)."""
        results = super().finish(found, batch)
        return [r.replace(masks=paste_masks(r.masks, r.boxes, r.image_size)) for r in results]


def mask_rcnn_resnet50_fpn(
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
) -> MaskRCNN:
    """ResNet-50 with a feature pyramid: 44,401,393 parameters with 90 classes and frozen norms.

    Arguments as for `faster_rcnn_resnet50_fpn`.
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
    return _with_masks(base, channels=256)


def mask_rcnn_resnet50_fpn_v2(
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
) -> MaskRCNN:
    """Version 2: normalisation in pyramid and heads, two convolutions before the proposals: 46,359,409 parameters.

    Arguments as for `faster_rcnn_resnet50_fpn`.
    """
    base = faster_rcnn_resnet50_fpn_v2(
        classes,
        in_channels=in_channels,
        norm=norm,
        trainable_layers=trainable_layers,
        min_size=min_size,
        max_size=max_size,
        proposals=proposals,
        boxes=boxes,
        output_ids=output_ids,
    )
    return _with_masks(base, channels=256, norm=nn.BatchNorm2d)


def mask_rcnn_mobilenet_v2_fpn(
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
) -> MaskRCNN:
    """MobileNet v2 with a narrow pyramid, to train on a few cores; the mask branch is as narrow as the pyramid.

    Arguments as for `faster_rcnn_mobilenet_v2_fpn`.
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
    return _with_masks(base, channels=channels)


def _with_masks(base: FasterRCNN, channels: int, norm: NormLayer | None = None) -> MaskRCNN:
    """Faster R-CNN and the mask branch: 14×14 region features, four convolutions, 28×28 masks (figure 4, right)."""
    head = MaskHead(channels, (channels,) * 4, norm)
    predictor = MaskPredictor(channels, channels, head_outputs(base.classes, base.output_ids))
    regions = base.roi_heads.region_features
    assert isinstance(regions, AlignedRegions)
    features = AlignedRegions(regions.levels, 14)
    return MaskRCNN.on(base, MaskRegionHeads(base.roi_heads, features, head, predictor))

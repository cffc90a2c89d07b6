"""Mask R-CNN: He, Gkioxari, Dollár, Girshick, "Mask R-CNN", ICCV 2017: Faster R-CNN with a third branch that predicts a
mask for each box. Version 2 is that of Li et al. 2021, as for Faster R-CNN.

Departures from the paper, all as in the published weights: masks are predicted for all detections, at most 100 per
image, in their final boxes; target masks are resized to the size inside the network by nearest-neighbour interpolation
before they are cropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from sightline.models.class_outputs import Output, predictor_outputs
from sightline.models.detection.detector import Detections, head_outputs
from sightline.models.detection.faster_rcnn import SMALL, SMALL_START, START, FasterRCNN, faster_rcnn
from sightline.models.entry import Entry, extends
from sightline.nn.heads.mask import MaskHead, MaskPredictor, MaskRegionHeads, select_class
from sightline.nn.heads.regions import AlignedRegions
from sightline.nn.necks.fpn import PyramidBackbone
from sightline.ops.masks import deferred_masks
from sightline.structures import ImageBatch, Instances


class MaskRCNN(FasterRCNN):
    """Faster R-CNN that also predicts masks (figure 1): results have "masks" [N, H, W] bool in pixels of the image.

    Targets need the field "masks". Arguments as for `FasterRCNN`; `roi_heads` are `MaskRegionHeads`.
    """

    roi_heads: MaskRegionHeads
    target_fields = ("masks",)
    class_layers = r"roi_heads\.(box_predictor|mask_predictor\.mask_fcn_logits)\."

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """Those of Faster R-CNN, and one mask per class after the background's."""
        predictor = self.roi_heads.mask_predictor if "mask_predictor" in key else self.roi_heads.box_predictor
        return predictor_outputs(predictor, self.output_names, key, shape)

    def mask_logits_of(self, batch: ImageBatch, boxes: Tensor, rows: Tensor, classes: Tensor) -> Tensor:
        """Like `Detector.mask_logits_of`, on a grid over each box."""
        logits = self.roi_heads.predict_masks(self.backbone(batch.tensor), list(boxes[:, None]), batch)
        return select_class(logits, self._output_of_class[classes]).float()

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Like every detector, with masks that are resized from their boxes to the image when read (section 3.1)."""
        results = super().finish(found, batch)
        return [r.replace(masks=deferred_masks(r.masks, r.boxes, r.image_size)) for r in results]


@extends(faster_rcnn)
def mask_rcnn(classes: Iterable[str], **arguments: Any) -> MaskRCNN:
    """Mask R-CNN on any backbone: 14×14 region features, four convolutions, 28×28 masks (figure 4, right).

    Arguments as for `faster_rcnn`. The mask branch is as wide as the pyramid; in version 2 it has normalisation layers.
    """
    base = faster_rcnn(classes, **arguments)
    regions = base.roi_heads.region_features
    assert isinstance(base.backbone, PyramidBackbone)
    assert isinstance(regions, AlignedRegions)
    channels = base.backbone.out_channels
    head = MaskHead(channels, (channels,) * 4, nn.BatchNorm2d if arguments.get("version") == 2 else None)
    predictor = MaskPredictor(channels, channels, head_outputs(base.classes, base.output_ids))
    features = AlignedRegions(regions.levels, 14)
    return MaskRCNN.on(base, MaskRegionHeads(base.roi_heads, features, head, predictor))


_PAPER = "He et al. 2017, Mask R-CNN"

ENTRIES = (
    Entry(name="mask_rcnn", builder=mask_rcnn, task="detection", paper=_PAPER, start={"norm": "frozen"}),
    Entry(
        name="mask_rcnn_resnet50_fpn",
        builder=mask_rcnn,
        task="detection",
        paper=_PAPER,
        summary="ResNet-50 with a feature pyramid: 44,401,393 parameters with 90 classes and frozen norms.",
        aliases=("maskrcnn_resnet50_fpn",),
        start=START,
        fixed={"backbone": "resnet50", "version": 1, "finest": 4},
    ),
    Entry(
        name="mask_rcnn_resnet50_fpn_v2",
        builder=mask_rcnn,
        task="detection",
        paper=f"{_PAPER}; Li et al. 2021, Benchmarking detection transfer learning with vision transformers",
        summary="Version 2: normalisation layers in pyramid and heads, two convolutions in the RPN: 46,359,409 "
        "parameters.",
        aliases=("maskrcnn_resnet50_fpn_v2",),
        start={"trainable_layers": 3},
        fixed={"backbone": "resnet50", "version": 2, "finest": 4},
    ),
    Entry(
        name="mask_rcnn_mobilenet_v2_fpn",
        builder=mask_rcnn,
        task="detection",
        paper=_PAPER,
        summary="MobileNet v2 with a narrow pyramid, for training on CPUs; the mask branch is as narrow.",
        start=SMALL_START,
        fixed={"backbone": "mobilenet_v2", "version": 1, "finest": 8},
        defaults=SMALL,
    ),
)

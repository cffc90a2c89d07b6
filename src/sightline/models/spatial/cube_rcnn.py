"""Cube R-CNN: Brazil, Kumar, Straub, Ravi, Johnson, Gkioxari, "Omni3D: a large benchmark and model for 3D object
detection in the wild", CVPR 2023: Faster R-CNN with a third branch that predicts a cuboid for each box.

Departures from the paper:

- the branch also knows where its region is in the view of the camera (`RegionCameras.geometry`): from the cropped
  features alone, neither the size of a box nor its height above the horizon is known, and both tell the depth;
- the losses of corners are divided by the size of the object, as overlap is relative to it, and not by its depth;
- the depth is the exponential of the output, standardised by the mean and deviation of the training data; the
  uncertainty μ is a softplus, so that exp(−μ) is at most 1;
- the projected centre may lie outside of its box, as that of a truncated object does, and sizes relative to the mean of
  the class are limited to a factor of 20;
- IoUness (section 4.3): anchors of the background have the target 0, with which they are sampled as in Faster R-CNN.

With `depth`, depth maps are an additional input (not in the paper): they are added to the image by a learned
convolution, which starts at zero, and the branch sees the depths inside of its region.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.class_outputs import Output, predictor_outputs
from sightline.models.detection.detector import Detections, head_outputs
from sightline.models.detection.faster_rcnn import SMALL, START, FasterRCNN, faster_rcnn
from sightline.models.entry import Entry, extends
from sightline.models.spatial.cameras import with_all_cameras
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.cuboid import (
    CuboidCoder,
    CuboidHead,
    CuboidPredictor,
    CuboidRegionHeads,
    Decoded,
    RegionCameras,
    depth_channels,
)
from sightline.nn.heads.regions import AlignedRegions
from sightline.nn.heads.rpn import ProposalSettings, RegionProposalNetwork
from sightline.nn.necks.fpn import PyramidBackbone
from sightline.ops.assignment import sample_balanced
from sightline.ops.boxes import elementwise_iou, encode_boxes
from sightline.runtime.sharing import batch_count
from sightline.structures import ImageBatch, Instances

FOCAL = 2.0
"""The focal length assumed without knowledge of the data, in heights of the image, as in the published demo."""
UNKNOWN_DISTANCES = "distances are only right up to a factor"
"""What a wrong camera does to the results."""
VIRTUAL_DEPTH = (1.5, 0.6)
"""Mean and standard deviation of the logarithm of virtual depth without knowledge of the data: 2.5 to 8 metres."""


class IoUnessProposals(RegionProposalNetwork):
    """A region proposal network that scores boxes by their IoU with an object (section 4.3).

    The target of a positive anchor is its IoU with its object instead of 1, so that proposals of objects that are not
    annotated, and of poor fit, are not learned as if they were certain.
    """

    @classmethod
    def like(cls, other: RegionProposalNetwork) -> IoUnessProposals:
        """A network with the layers, the anchors and the settings of another one."""
        own = cls.__new__(cls)
        nn.Module.__init__(own)
        own.settings, own.anchor_bases, own.head = other.settings, other.anchor_bases, other.head
        return own

    def losses(
        self, scores: Tensor, deltas: Tensor, anchors: Tensor, matches: Sequence[Tensor], targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """Binary cross-entropy of the IoU, and smooth L1 loss of the deltas; as in `RegionProposalNetwork.losses`."""
        s = self.settings
        terms, boxes, count = [], [], 0
        for score, delta, match, target in zip(scores, deltas, matches, targets, strict=True):
            positive, negative = sample_balanced(match >= 0, match == -1, s.samples, s.positive_fraction)
            own, regions = target.boxes[match[positive]], anchors[positive]
            wanted = torch.cat([elementwise_iou(own, regions), score.new_zeros(len(negative))]).to(score.dtype)
            logits = score[torch.cat([positive, negative])]
            terms.append(F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum"))
            boxes.append(F.smooth_l1_loss(delta[positive], encode_boxes(own, regions), beta=1 / 9, reduction="sum"))
            count += len(logits)
        divisor = batch_count(count)
        return {
            "loss_objectness": torch.stack(terms).sum() / divisor,
            "loss_proposal_box": torch.stack(boxes).sum() / divisor,
        }


class CubeRCNN(FasterRCNN):
    """Faster R-CNN that also predicts cuboids (figure 3): results have "cuboids" [N, 9] in metres and radians.

    Images are `View`s with the intrinsics of their camera. A plain image is taken as that of a camera without skew,
    whose principal point is the middle of the image and whose focal length is `assumed_focal` heights of the image; its
    results have the field "camera_guess". Results have the "cameras" [N, 3, 3] in pixels of the image.

    Targets need the field "cuboids". Arguments as for `FasterRCNN`; `roi_heads` are `CuboidRegionHeads`.

    Attributes:
        assumed_focal: focal length of images without a camera, in heights of the image.
        depth_input: convolution from the two channels of a depth map to those of the image; None for a model that does
            not use depth.
    """

    task = "cuboids"
    roi_heads: CuboidRegionHeads
    target_fields = ("cuboids",)
    takes_cameras = True
    class_layers = r"roi_heads\.(box_predictor|cuboid_predictor)\."
    # zooms change the focal length, whose range in the data is usually narrow
    recipe_defaults = {"augmentation": "light"}
    _told = False

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.assumed_focal = FOCAL
        self.depth_input: nn.Conv2d | None = None

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """Those of Faster R-CNN, and thirteen of a cuboid per class after the background's."""
        predictor = self.roi_heads.cuboid_predictor if "cuboid_predictor" in key else self.roi_heads.box_predictor
        return predictor_outputs(predictor, self.output_names, key, shape)

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None
    ) -> tuple[ImageBatch, list[Instances] | None]:
        """Like every detector; all images of the batch have a camera, and its depth if the model uses depth."""
        batch, moved = super().prepare(images, targets)
        whole = with_all_cameras(batch, self.assumed_focal, UNKNOWN_DISTANCES, self._told)
        batch, self._told = whole, self._told or whole is not batch
        if self.depth_input is not None:
            far = depth_channels(batch, self.roi_heads.coder.virtual_depth)
            batch = replace(batch, tensor=batch.tensor + self.depth_input(far.to(batch.tensor.dtype)))
        return batch, moved

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Like every detector, with the camera of each object in pixels of the original image."""
        results = []
        for result, camera, (sx, sy) in zip(super().finish(found, batch), batch.cameras, batch.scales, strict=True):
            assert camera is not None, "prepare gives each image a camera"
            matrix = torch.diag(torch.tensor([1 / sx, 1 / sy, 1], dtype=torch.float64)) @ camera.intrinsics
            fields: dict[str, Any] = {"cameras": matrix.to(result.boxes).expand(len(result), 3, 3)}
            if camera.assumed:
                fields["camera_guess"] = torch.ones(len(result), dtype=torch.bool, device=result.boxes.device)
            results.append(result.replace(**fields))
        return results

    def cuboids_in(self, batch: ImageBatch, boxes: Tensor, classes: Tensor) -> tuple[Decoded, RegionCameras]:
        """What the branch predicts in one box [N, 4] of each image of a batch, for one class [N] each."""
        maps = self.backbone(batch.tensor)
        return self.roi_heads.decoded(maps, list(boxes[:, None]), self._output_of_class[classes], batch)


@extends(faster_rcnn)
def cube_rcnn(
    classes: Iterable[str],
    *,
    depth: bool = False,
    class_sides: Sequence[Sequence[float]] | None = None,
    virtual_depth: tuple[float, float] = VIRTUAL_DEPTH,
    assumed_focal: float = FOCAL,
    **arguments: Any,
) -> CubeRCNN:
    """Cube R-CNN on any backbone: 7×7 region features and two fully connected layers (figure 3).

    Args:
        classes: names of the classes.
        depth: whether the depth maps of images are an additional input. Images without one are taken as unknown depth.
        class_sides: mean width, height and length of the cuboids of each class in metres; by default 1 for all. `train`
            takes them from the data, and so the two following arguments.
        virtual_depth: mean and standard deviation of the logarithm of the objects' virtual depth (the depth divided by
            the focal length in heights of the image).
        assumed_focal: focal length of images without a camera, in heights of the image.
        arguments: as for `faster_rcnn`.

    Raises:
        InputError: a number is out of range, or `class_sides` does not have three sides for each class.
    """
    base = faster_rcnn(classes, **arguments)
    outputs = head_outputs(base.classes, base.output_ids)
    sides = torch.ones(outputs + 1, 3)
    if class_sides is not None:
        own = [list(map(float, row)) for row in class_sides]
        if len(own) != len(base.classes) or any(len(row) != 3 or not min(row) > 0 for row in own):
            raise InputError(
                f"class_sides must be {len(base.classes)} lists of w, h, l above 0 in metres, one per class, not "
                f"{str(class_sides)[:80]}"
            )
        sides[base._output_of_class] = torch.tensor(own)
    mean, deviation = virtual_depth
    if not (math.isfinite(mean) and 0 < deviation < math.inf and 0 < assumed_focal < math.inf):
        raise InputError(
            f"virtual_depth is {virtual_depth} and assumed_focal {assumed_focal}, but the deviation of virtual_depth "
            "and the focal length must be above 0"
        )
    regions = base.roi_heads.region_features
    assert isinstance(base.backbone, PyramidBackbone)
    assert isinstance(regions, AlignedRegions)
    size, hidden = regions.size, arguments.get("hidden", 1024)
    inputs = (base.backbone.out_channels + (2 if depth else 0)) * size**2
    head = CuboidHead(inputs, hidden)
    heads = CuboidRegionHeads(
        base.roi_heads,
        AlignedRegions(regions.levels, size),
        head,
        CuboidPredictor(head.out_features, outputs),
        CuboidCoder(sides, (float(mean), float(deviation))),
        depth_size=size if depth else 0,
    )
    base.rpn = IoUnessProposals.like(base.rpn)
    model = CubeRCNN.on(base, heads)
    model.assumed_focal = float(assumed_focal)
    if depth:
        model.depth_input = nn.Conv2d(2, base.in_channels, 3, padding=1, bias=False)
        nn.init.zeros_(model.depth_input.weight)
    return model


_PAPER = "Brazil et al. 2023, Omni3D: a large benchmark and model for 3D object detection in the wild"
_SCENES: dict[str, Any] = {
    **SMALL,
    "min_size": 224,
    "max_size": 448,
    "proposals": ProposalSettings(before_nms=(500, 300), after_nms=(200, 100), samples=128),
    "boxes": BoxSettings(samples=64),
}
"""Arguments of the small models, for small images of a few objects each: a step takes half of the time."""

ENTRIES = (
    Entry(name="cube_rcnn", builder=cube_rcnn, task="cuboids", paper=_PAPER, start={"norm": "frozen"}),
    Entry(
        name="cube_rcnn_resnet50_fpn",
        builder=cube_rcnn,
        task="cuboids",
        paper=_PAPER,
        summary="ResNet-50 with a feature pyramid; the paper has DLA-34.",
        start=START,
        fixed={"backbone": "resnet50", "version": 1, "finest": 4},
    ),
    Entry(
        name="cube_rcnn_mobilenet_v2_fpn",
        builder=cube_rcnn,
        task="cuboids",
        paper=_PAPER,
        summary="MobileNet v2 with a narrow pyramid, for training on CPUs.",
        start=START,
        fixed={"backbone": "mobilenet_v2", "version": 1, "finest": 8},
        defaults=_SCENES,
    ),
    Entry(
        name="cube_rcnn_lite0_fpn",
        builder=cube_rcnn,
        task="cuboids",
        paper=_PAPER,
        summary="EfficientNet-Lite0 with a narrow pyramid, for training on CPUs; its ImageNet weights are installed "
        "with Sightline.",
        start=START,
        fixed={"backbone": "efficientnet_lite0", "version": 1, "finest": 8},
        defaults=_SCENES,
    ),
)

"""Light-Head R-CNN: Li, Peng, Yu, Zhang, Deng, Sun, "Light-head R-CNN: in defense of two-stage object detector", 2017.

In contrast to R-FCN, the position-sensitive maps are thin (10 · 7 · 7 = 490 channels for any number of classes) and are
computed by a large separable convolution, so that a fully connected layer per region is affordable.

Departures: joint training with the losses of Faster R-CNN; bins are sampled bilinearly, as in RoI align.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sightline.models.detection.detector import head_outputs
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.detection.parts import single_map
from sightline.models.detection.r_fcn import SMALL, SMALL_START, START
from sightline.models.entry import Entry
from sightline.models.preprocess import InputSize, imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.named import OPTIONS, BackboneOptions, StridedName, build_backbone
from sightline.nn.heads.box import BoxSettings, RegionHeads
from sightline.nn.heads.regions import SharedBoxPredictor
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.heads.rpn_single import SingleMapRPN
from sightline.ops.position_sensitive import ps_roi_align
from sightline.structures import Classes, ImageBatch

SIZE = InputSize(800, 1200)
PROPOSALS = ProposalSettings(before_nms=(12000, 6000), after_nms=(2000, 1000), min_size=16)
BOXES = BoxSettings(samples=256)


class LargeSeparableConv(nn.Module):
    """k×1 then 1×k, plus 1×k then k×1 (figure 3): the receptive field of a k×k convolution with 2/k of its weights.

    Args:
        channels, middle, out: number of channels of the input, between the two convolutions of a branch, and of the
            output.
        kernel: kernel size k, odd; 15 in the paper.
    """

    def __init__(self, channels: int, middle: int, out: int, kernel: int = 15):
        super().__init__()
        half = kernel // 2
        self.columns_first = nn.Sequential(
            nn.Conv2d(channels, middle, (kernel, 1), padding=(half, 0)),
            nn.Conv2d(middle, out, (1, kernel), padding=(0, half)),
        )
        self.rows_first = nn.Sequential(
            nn.Conv2d(channels, middle, (1, kernel), padding=(0, half)),
            nn.Conv2d(middle, out, (kernel, 1), padding=(half, 0)),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, out, H, W]."""
        return torch.relu(self.columns_first(x) + self.rows_first(x))


class ThinRegions(nn.Module):
    """Thin position-sensitive maps, and the features of regions pooled from them (section 3.2).

    Args:
        level: name of the map.
        channels: number of channels of the map.
        stride: stride of the map in pixels of the batch.
        middle: channels inside the large separable convolution: 256 (section 3.2's setting L), 64 (setting S).
        thin: number of channels of a region's features.
        bins: number of bins along each side of a region.
    """

    def __init__(self, level: str, channels: int, stride: int, *, middle: int, thin: int = 10, bins: int = 7):
        super().__init__()
        self.level, self.stride, self.bins = level, stride, bins
        self.levels: tuple[str, ...] = (level,)
        self.maps = LargeSeparableConv(channels, middle, thin * bins * bins)

    def forward(self, maps: dict[str, Tensor], boxes: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """Maps [N, C, H, W], boxes [R_i, 4] per image → [ΣR_i, thin, bins, bins]."""
        return ps_roi_align(self.maps(maps[self.level]), boxes, self.bins, 1 / self.stride, sampling_ratio=2)


def light_head_rcnn(
    classes: Iterable[str],
    *,
    backbone: StridedName = "resnet101",
    in_channels: int = 3,
    options: BackboneOptions = OPTIONS,
    size: InputSize = SIZE,
    dilated: bool = True,
    middle: int = 256,
    hidden: int = 2048,
    anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
    rpn_channels: int = 512,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """Light-Head R-CNN on any backbone that can be dilated.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        options: normalisation of the backbone, and how many of its layers are trained.
        size: size that images are resized to.
        dilated: whether regions are pooled from the last stage, dilated to stride 16; otherwise from the map of stride
            16 that proposals are predicted from.
        middle: channels inside the large separable convolution: 256 in the paper's setting L, 64 in its setting S.
        hidden: width of the fully connected layer.
        anchor_sizes: anchor sizes at each cell, in pixels; each size comes in three aspect ratios.
        rpn_channels: channels of the RPN's 3×3 convolution.
        proposals, boxes: settings of the two stages.
        output_ids: as in `Detector`.
    """
    names, net = Classes(classes), build_backbone(backbone, in_channels, options, known=StridedName)
    body = single_map(net, options.trainable_layers, dilated=dilated)
    rpn = SingleMapRPN(body.taken[0], body.channels[0], anchor_sizes, hidden=rpn_channels, settings=proposals)
    heads = RegionHeads(
        ThinRegions(body.taken[-1], body.channels[-1], stride=16, middle=middle, thin=10, bins=7),
        nn.Sequential(nn.Flatten(), nn.Linear(10 * 7 * 7, hidden), nn.ReLU(inplace=True)),
        SharedBoxPredictor(hidden, head_outputs(names, output_ids)),
        boxes,
    )
    model = FasterRCNN(names, imagenet_preprocess(in_channels, size), body, rpn, heads, output_ids)
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Li et al. 2017, Light-head R-CNN"

ENTRIES = (
    Entry(name="light_head_rcnn", builder=light_head_rcnn, task="detection", paper=_PAPER, start={"norm": "frozen"}),
    Entry(
        name="light_head_rcnn_resnet101",
        builder=light_head_rcnn,
        task="detection",
        paper=_PAPER,
        summary="ResNet-101 with its last stage at stride 16: setting L.",
        start=START,
        fixed={"backbone": "resnet101", "dilated": True},
    ),
    Entry(
        name="light_head_rcnn_mobilenet_v2",
        builder=light_head_rcnn,
        task="detection",
        paper=_PAPER,
        summary="The map of stride 16 of MobileNet v2 for both stages, with smaller anchors, for CPUs: setting S.",
        start=SMALL_START,
        fixed={"backbone": "mobilenet_v2", "dilated": False, "middle": 64},
        defaults=SMALL | {"hidden": 512},
    ),
)

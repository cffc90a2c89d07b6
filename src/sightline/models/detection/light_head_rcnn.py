"""Light-Head R-CNN: Li, Peng, Yu, Zhang, Deng, Sun, "Light-head R-CNN: in defense of two-stage object detector", 2017.

What it changed in R-FCN: the position-sensitive maps are thin (10 · 7 · 7 = 490 channels, whatever the number of
classes) and made by a large separable convolution, so one dense layer can follow each region again.

Departures: joint training with every Sightline detector's losses; bins are read by bilinear samples, as RoI
align does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sightline.models.detection.detector import head_outputs
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.detection.single_map import dilated_resnet_body, mobilenet_v2_body
from sightline.models.preprocess import imagenet_preprocess
from sightline.models.weights import shared_keys
from sightline.nn.backbones.resnet import resnet101
from sightline.nn.heads.box import BoxSettings, RegionHeads
from sightline.nn.heads.regions import SharedBoxPredictor
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.heads.rpn_single import SingleMapRPN
from sightline.nn.layers import Norm
from sightline.ops.position_sensitive import ps_roi_align
from sightline.structures import Classes, ImageBatch

PROPOSALS = ProposalSettings(before_nms=(12000, 6000), after_nms=(2000, 1000), min_size=16)
SMALL_PROPOSALS = ProposalSettings(before_nms=(2000, 1000), after_nms=(1000, 300), min_size=4)
BOXES = BoxSettings(samples=256)


class LargeSeparableConv(nn.Module):
    """k×1 then 1×k, plus 1×k then k×1 (figure 3): the reach of a k×k convolution for 2k/k² of its weights.

    Args:
        channels, middle, out: C of the input, between the two convolutions of a branch, and of the output.
        kernel: k, odd; 15 in the paper.
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
    """Thin position-sensitive maps, and the features of regions from them (section 3.2).

    Args:
        level: name of the map.
        channels: C of the map.
        stride: pixels of the batch per cell of the map.
        middle: channels inside the large separable convolution: 256 (section 3.2's setting L), 64 (setting S).
        thin: channels of a region's features.
        bins: along a region's side.
    """

    def __init__(self, level: str, channels: int, stride: int, *, middle: int, thin: int = 10, bins: int = 7):
        super().__init__()
        self.level, self.stride, self.bins = level, stride, bins
        self.maps = LargeSeparableConv(channels, middle, thin * bins * bins)

    def forward(self, maps: dict[str, Tensor], boxes: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """Maps [N, C, H, W], boxes [R_i, 4] an image → [ΣR_i, thin, bins, bins]."""
        return ps_roi_align(self.maps(maps[self.level]), boxes, self.bins, 1 / self.stride, sampling_ratio=2)


def light_head_rcnn_resnet101(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    norm: Norm = "batch",
    trainable_layers: int = 5,
    min_size: int = 800,
    max_size: int = 1200,
    hidden: int = 2048,
    proposals: ProposalSettings = PROPOSALS,
    boxes: BoxSettings = BOXES,
    output_ids: Sequence[int] | None = None,
) -> FasterRCNN:
    """ResNet-101 with its last stage at stride 16: setting L.

    Args:
        classes: names of the classes.
        in_channels: channels of the images.
        norm: "batch" learns the backbone's normalisation, "frozen" keeps it.
        trainable_layers: how many of the backbone's parts learn (a ResNet has five), counted from its end.
        min_size, max_size: the images' sides inside the network.
        hidden: width of the one dense layer.
        proposals, boxes: numbers of the two stages.
        output_ids: as in `Detector`.
    """
    names = Classes(classes)
    net, body = dilated_resnet_body(resnet101, in_channels, norm, trainable_layers)
    rpn = SingleMapRPN("layer3", 1024, sizes=(32, 64, 128, 256, 512), settings=proposals)
    heads = RegionHeads(
        ThinRegions("layer4", 2048, stride=16, middle=256, thin=10, bins=7),
        nn.Sequential(nn.Flatten(), nn.Linear(10 * 7 * 7, hidden), nn.ReLU(inplace=True)),
        SharedBoxPredictor(hidden, head_outputs(names, output_ids)),
        boxes,
    )
    model = FasterRCNN(
        names, imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size), body, rpn, heads, output_ids
    )
    model.backbone_keys = shared_keys(net, model)
    return model


def light_head_rcnn_mobilenet_v2(
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
    """MobileNet v2's map of stride 16, read by both stages, and smaller anchors, for a few cores: setting S.

    Arguments as for `light_head_rcnn_resnet101`; the backbone has seven parts.
    """
    names = Classes(classes)
    net, body = mobilenet_v2_body(in_channels, norm, trainable_layers)
    rpn = SingleMapRPN("13", 96, sizes=(32, 64, 128, 256), hidden=128, settings=proposals)
    heads = RegionHeads(
        ThinRegions("13", 96, stride=16, middle=64, thin=10, bins=7),
        nn.Sequential(nn.Flatten(), nn.Linear(10 * 7 * 7, hidden), nn.ReLU(inplace=True)),
        SharedBoxPredictor(hidden, head_outputs(names, output_ids)),
        boxes,
    )
    model = FasterRCNN(
        names, imagenet_preprocess(in_channels, min_size=min_size, max_size=max_size), body, rpn, heads, output_ids
    )
    model.backbone_keys = shared_keys(net, model)
    return model

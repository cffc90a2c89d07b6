"""SSD on MobileNet v1: Howard et al., "MobileNets", arXiv 2017, section 4.6; Huang et al., "Speed/accuracy trade-offs
for modern convolutional object detectors", CVPR 2017, section 3. The detector itself is SSD (`ssd.py`).

Departures: images are normalised as for ImageNet classifiers. The papers do not specify the predictors; 1×1
convolutions are used as published, which gives the number of parameters of table 13 (6.8 million).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sightline.models.detection.detector import SMALL_RATE, head_outputs
from sightline.models.detection.ssd import SSD, SSDSettings, init_normal
from sightline.models.entry import Entry
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.models.weights import shared_keys
from sightline.nn.backbones.mobilenet_v1 import MobileNetV1, mobilenet_v1
from sightline.nn.heads.ssd import SSDHead
from sightline.nn.layers import ConvNormAct, NormLayer, batch_norm, make_divisible
from sightline.ops.anchors import default_box_shapes
from sightline.structures import Classes


class SSDMobileNetBackbone(nn.Module):
    """MobileNet v1's last maps at strides 16 and 32, followed by pairs of convolutions.

    Args:
        net: the classifier, whose convolutions are used.
        extra: number of channels of each pair: a 1×1 convolution to half of them, then a 3×3 of stride 2.
        norm: normalisation layer of the pairs.
    """

    def __init__(self, net: MobileNetV1, extra: Sequence[int], norm: NormLayer):
        super().__init__()
        layers, fine = list(net.features), net.stages[-2]
        cut = int(fine.layer) + 1
        self.features = nn.Sequential(nn.Sequential(*layers[:cut]), nn.Sequential(*layers[cut:]))
        self.channels = [fine.channels, net.last_channels]
        self.extra = nn.ModuleList()
        for out in extra:
            self.extra.append(
                nn.Sequential(
                    ConvNormAct(self.channels[-1], out // 2, 1, norm=norm, act=nn.ReLU6),
                    ConvNormAct(out // 2, out, 3, 2, norm=norm, act=nn.ReLU6),
                )
            )
            self.channels.append(out)
        init_normal(self.extra)

    def part_layers(self) -> dict[str, list[nn.Module]]:
        """The layers of each part that can be frozen, by name: those of each half."""
        return {f"features.{i}": [half] for i, half in enumerate(self.features)}

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, C, H, W] → six maps, at strides 16, 32, 64, …"""
        maps = []
        for part in (*self.features, *self.extra):
            x = part(x)
            maps.append(x)
        return maps

    def map_layers(self) -> list[nn.Module]:
        """The layers of the maps, from fine to coarse."""
        return [*self.features, *self.extra]


SETTINGS = SSDSettings(nms_iou=0.6, max_detections=100)


def ssd_mobilenet_v1(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 300,
    width: float = 1.0,
    settings: SSDSettings = SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> SSD:
    """SSD on MobileNet v1: 1917 boxes, 6.8 million parameters with 90 classes.

    Args:
        classes: names of the classes.
        in_channels: number of channels of the images.
        image_size: side of the square that images are resized to, in pixels, at least 1; 300 in the paper.
        width: width multiplier, a factor on all channel counts, including those of the additional layers.
        settings: thresholds and limits.
        output_ids: as in `Detector`.
    """
    names = Classes(classes)
    net = mobilenet_v1(1, in_channels=in_channels, width=width)
    extra = [make_divisible(channels * width, 16) for channels in (512, 256, 256, 128)]
    backbone = SSDMobileNetBackbone(net, extra, batch_norm(eps=1e-3, momentum=0.03))
    shapes = default_box_shapes([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    # the finest map has three boxes per cell: a small square, and those of ratios 2 and 1/2
    shapes[0] = torch.cat([torch.tensor([[0.1, 0.1]]), default_box_shapes([[2]], scales=(0.2, 0.2))[0][2:]])
    head = SSDHead(backbone.channels, [len(s) for s in shapes], head_outputs(names, output_ids), kernel=1)
    init_normal(head)
    mean, std = for_channels(IMAGENET_MEAN, in_channels), for_channels(IMAGENET_STD, in_channels)
    model = SSD(
        names,
        Preprocess(mean, std, fixed_size=(image_size, image_size), divisor=1),
        backbone,
        head,
        shapes,
        settings,
        output_ids,
    )
    model.recipe_defaults = {"augmentation": "ssd", **SMALL_RATE}
    model.backbone_keys = shared_keys(net, model)
    return model


ENTRIES = (
    Entry(
        name="ssd_mobilenet_v1",
        builder=ssd_mobilenet_v1,
        task="detection",
        paper="Howard et al. 2017, MobileNets; Huang et al. 2017, Speed/accuracy trade-offs",
        backbone="mobilenet_v1",
    ),
)

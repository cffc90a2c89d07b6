"""SSDlite: Sandler et al., "MobileNetV2", CVPR 2018, section 6.2 (separable predictors), with MobileNet v2 and v3
(Howard et al. 2019, section 6.3); the detector itself is SSD (`ssd.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from sightline.models.detection.detector import SMALL_RATE, head_outputs
from sightline.models.detection.ssd import SSD, SSDSettings, init_normal
from sightline.models.entry import Entry
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.models.weights import shared_keys
from sightline.nn.backbones.features import Branch, Network
from sightline.nn.backbones.mobilenet_v2 import InvertedResidual
from sightline.nn.backbones.mobilenet_v3 import InvertedResidualV3, mobilenet_v3_large
from sightline.nn.backbones.named import PyramidName, build_backbone
from sightline.nn.heads.ssd import SSDHead
from sightline.nn.layers import ConvNormAct, NormLayer, batch_norm
from sightline.ops.anchors import default_box_shapes
from sightline.structures import Classes


class SSDliteBackbone(nn.Module):
    """A MobileNet split at the expansion of the first block of stride 32, followed by four separable blocks.

    The first map is that expansion at stride 16, the second the network's last map at stride 32 (MobileNet v2, section
    6.2).

    Args:
        net: a MobileNet; any other network is split between its stages.
        extra: number of output channels of the separable blocks, each of stride 2.
        norm: normalisation layer of those blocks.
    """

    def __init__(self, net: Network, extra: Sequence[int], norm: NormLayer):
        super().__init__()
        layers, fine = net.layers(), next(stage for stage in net.stages if stage.stride == 16)
        cut, channels = list(layers).index(fine.layer) + 1, net.last_map.channels
        before, (block, *after) = list(layers.values())[:cut], list(layers.values())[cut:]
        if isinstance(block, InvertedResidual | InvertedResidualV3):
            before, after = [*before, block.block[0]], [block.block[1:], *after]
            self.channels = [block.expanded, channels, *extra]
        else:
            after = [block, *after]
            self.channels = [fine.channels, channels, *extra]
        side = before[-1] if isinstance(before[-1], Branch) else nn.Identity()
        parts = ([layer for layer in part if not isinstance(layer, Branch)] for part in (before, after))
        self.features = nn.Sequential(*(nn.Sequential(*part) for part in parts))
        self.side = side
        self.extra = nn.ModuleList()
        for out in extra:
            middle = out // 2
            self.extra.append(
                nn.Sequential(
                    ConvNormAct(channels, middle, 1, norm=norm, act=nn.ReLU6),
                    ConvNormAct(middle, middle, 3, 2, groups=middle, norm=norm, act=nn.ReLU6),
                    ConvNormAct(middle, out, 1, norm=norm, act=nn.ReLU6),
                )
            )
            channels = out
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
        return [self.side(maps[0]), *maps[1:]]

    def map_layers(self) -> list[nn.Module]:
        """The layers of the maps, from fine to coarse."""
        first = self.side if isinstance(self.side, Branch) else self.features[0]
        return [first, self.features[1], *self.extra]


SETTINGS = SSDSettings()
_NORM = batch_norm(eps=1e-3, momentum=0.03)


def ssdlite320_mobilenet_v3_large(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    reduced_tail: bool = True,
    image_size: int = 320,
    settings: SSDSettings = SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> SSD:
    """SSDlite on MobileNet v3 large: 3,440,060 parameters with 90 classes.

    Args:
        classes: names of the classes.
        in_channels: number of channels of the images.
        reduced_tail: whether the last stage of the backbone has half the channels, as in the paper and the published
            detector. ImageNet weights of the whole network need False.
        image_size: side of the square that images are resized to, in pixels.
        settings: thresholds and limits.
        output_ids: as in `Detector`.
    """
    net = mobilenet_v3_large(in_channels=in_channels, norm=_NORM, reduced_tail=reduced_tail)
    half = (0.5, 0.5, 0.5)
    return _ssdlite(net, classes, in_channels, image_size, half, half, settings, output_ids)


def ssdlite(
    classes: Iterable[str],
    *,
    backbone: PyramidName = "mobilenet_v2",
    in_channels: int = 3,
    image_size: int = 320,
    settings: SSDSettings = SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> SSD:
    """SSDlite on any backbone (MobileNet v2, section 6.2).

    Images are normalised as for ImageNet classifiers, so that their published weights fit the backbone.

    Args:
        classes: names of the classes.
        backbone: name of the classification network used as the backbone.
        in_channels: number of channels of the images.
        image_size: side of the square that images are resized to, in pixels.
        settings: thresholds and limits.
        output_ids: as in `Detector`.
    """
    net = build_backbone(backbone, in_channels, known=PyramidName)
    return _ssdlite(net, classes, in_channels, image_size, IMAGENET_MEAN, IMAGENET_STD, settings, output_ids)


def _ssdlite(
    net: Network,
    classes: Iterable[str],
    in_channels: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    settings: SSDSettings,
    output_ids: Sequence[int] | None,
) -> SSD:
    names = Classes(classes)
    backbone = SSDliteBackbone(net, (512, 256, 256, 128), _NORM)
    shapes = default_box_shapes([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    head = SSDHead(backbone.channels, [len(s) for s in shapes], head_outputs(names, output_ids), separable_norm=_NORM)
    init_normal(head)
    preprocess = Preprocess(
        for_channels(mean, in_channels), for_channels(std, in_channels), fixed_size=(image_size, image_size), divisor=1
    )
    model = SSD(names, preprocess, backbone, head, shapes, settings, output_ids)
    model.recipe_defaults = model.recipe_defaults | SMALL_RATE
    model.backbone_keys = shared_keys(net, model)
    return model


_PAPER = "Sandler et al. 2018, MobileNetV2"

ENTRIES = (
    Entry(name="ssdlite", builder=ssdlite, task="detection", paper=_PAPER),
    Entry(
        name="ssdlite320_mobilenet_v3_large",
        builder=ssdlite320_mobilenet_v3_large,
        task="detection",
        paper="Howard et al. 2019, Searching for MobileNetV3",
        backbone="mobilenet_v3_large",
        start={"reduced_tail": False},
    ),
    Entry(
        name="ssdlite320_mobilenet_v2",
        builder=ssdlite,
        task="detection",
        paper=_PAPER,
        summary="SSDlite on MobileNet v2 (MobileNet v2, section 6.2).",
        fixed={"backbone": "mobilenet_v2"},
    ),
)

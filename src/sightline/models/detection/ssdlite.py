"""SSDlite: Sandler et al., "MobileNetV2", CVPR 2018, section 6.2 (separable predictors), with MobileNet v2 and v3
(Howard et al. 2019, section 6.3); the detector itself is SSD (`ssd.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from sightline.models.detection.detector import SMALL_RATE, head_outputs
from sightline.models.detection.ssd import SSD, SSDSettings, normal_start
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.models.weights import shared_keys
from sightline.nn.backbones.mobilenet_v2 import InvertedResidual, mobilenet_v2
from sightline.nn.backbones.mobilenet_v3 import InvertedResidualV3, mobilenet_v3_large
from sightline.nn.heads.ssd import SSDHead
from sightline.nn.layers import ConvNormAct, NormLayer, batch_norm
from sightline.ops.anchors import default_box_shapes
from sightline.structures import Classes


class SSDliteBackbone(nn.Module):
    """A MobileNet cut at the expansion of the first block of stride 32, and four separable blocks behind it.

    The first map is that expansion at stride 16, the second the network's last at stride 32 (MobileNet v2, section
    6.2).

    Args:
        layers: the network's layers in order.
        cut: position of the first block of stride 32.
        channels: C of the network's last map.
        extra: output channels of the separable blocks behind it, each of stride 2.
        norm: maker of the normalisation of those blocks.
    """

    def __init__(self, layers: Sequence[nn.Module], cut: int, channels: int, extra: Sequence[int], norm: NormLayer):
        super().__init__()
        block = layers[cut]
        assert isinstance(block, InvertedResidual | InvertedResidualV3)
        self.features = nn.Sequential(
            nn.Sequential(*layers[:cut], block.block[0]), nn.Sequential(block.block[1:], *layers[cut + 1 :])
        )
        self.channels = [block.expanded, channels, *extra]
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
        normal_start(self.extra)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, C, H, W] → six maps, at strides 16, 32, 64, …"""
        maps = []
        for part in (*self.features, *self.extra):
            x = part(x)
            maps.append(x)
        return maps


SETTINGS = SSDSettings()


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
        in_channels: channels of the images.
        reduced_tail: halve the last stage of the backbone, as the paper and the published detector do. ImageNet's
            weights of the whole network need False.
        image_size: side of the square that images are resized to.
        settings: thresholds and counts.
        output_ids: as in `Detector`.
    """
    norm = batch_norm(eps=1e-3, momentum=0.03)
    net = mobilenet_v3_large(in_channels=in_channels, norm=norm, reduced_tail=reduced_tail)
    backbone = SSDliteBackbone(list(net.features), 13, net.last_channels, (512, 256, 256, 128), norm)
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return _ssdlite(net, classes, backbone, in_channels, image_size, mean, std, norm, settings, output_ids)


def ssdlite320_mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 320,
    settings: SSDSettings = SETTINGS,
    output_ids: Sequence[int] | None = None,
) -> SSD:
    """SSDlite on MobileNet v2 (MobileNet v2, section 6.2).

    Images are normalised as for ImageNet, so that published classifiers serve as backbones unchanged. Arguments as for
    `ssdlite320_mobilenet_v3_large`.
    """
    norm = batch_norm(eps=1e-3, momentum=0.03)
    net = mobilenet_v2(in_channels=in_channels)
    backbone = SSDliteBackbone(list(net.features), 14, net.last_channels, (512, 256, 256, 128), norm)
    return _ssdlite(
        net, classes, backbone, in_channels, image_size, IMAGENET_MEAN, IMAGENET_STD, norm, settings, output_ids
    )


def _ssdlite(
    net: nn.Module,
    classes: Iterable[str],
    backbone: SSDliteBackbone,
    in_channels: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    norm: NormLayer,
    settings: SSDSettings,
    output_ids: Sequence[int] | None,
) -> SSD:
    names = Classes(classes)
    shapes = default_box_shapes([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    head = SSDHead(backbone.channels, [len(s) for s in shapes], head_outputs(names, output_ids), separable_norm=norm)
    normal_start(head)
    preprocess = Preprocess(
        for_channels(mean, in_channels), for_channels(std, in_channels), fixed_size=(image_size, image_size), divisor=1
    )
    model = SSD(names, preprocess, backbone, head, shapes, settings, output_ids)
    model.recipe_defaults = model.recipe_defaults | SMALL_RATE
    model.backbone_keys = shared_keys(net, model)
    return model

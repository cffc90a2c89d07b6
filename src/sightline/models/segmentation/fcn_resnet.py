"""FCN on a dilated ResNet: the fully convolutional networks of Long, Shelhamer and Darrell, CVPR 2015, as they are
published with weights today: stride 8 by the hole algorithm instead of skips, and an auxiliary head (Zhao et al.,
Pyramid scene parsing network, CVPR 2017, section 4) on the stage before the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from torch import Tensor, nn

from sightline.models.keep_size import segmenter_preprocess
from sightline.models.segmentation.segmenter import Segmenter, resized
from sightline.models.weights import shared_keys
from sightline.nn.backbones.dilation import dilate
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.resnet import ResNet, resnet50, resnet101
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.structures import Classes


class FCNHead(nn.Sequential):
    """3×3 to a quarter of the channels, dropout, 1×1 to the classes: [N, C, h, w] → [N, K, h, w]."""

    def __init__(self, channels: int, classes: int, dropout: float = 0.1):
        inner = channels // 4
        super().__init__(
            nn.Conv2d(channels, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(inner, classes, 1),
        )


class DilatedNetwork(nn.Module):
    """A backbone of small stride with a head on its last map, and one on a map before it, which helps it learn.

    Args:
        backbone: batch → maps by name; the last is the head's, the first the auxiliary head's.
        classifier: map [N, C, h, w] → logits [N, K, h, w].
        aux_classifier: the same for the first map; None for none.
    """

    def __init__(self, backbone: FeatureMaps, classifier: nn.Module, aux_classifier: nn.Module | None = None):
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[N, C, H, W] → logits "out" [N, K, H, W] and, where there is that head, "aux"."""
        size = (int(x.shape[-2]), int(x.shape[-1]))
        maps = list(self.backbone(x).values())
        logits = {"out": resized(self.classifier(maps[-1]), size)}
        if self.aux_classifier is not None:
            logits["aux"] = resized(self.aux_classifier(maps[0]), size)
        return logits


def dilated_resnet(build: Callable[..., ResNet], in_channels: int) -> tuple[ResNet, FeatureMaps]:
    """A ResNet with its last two stages at stride 8, and their maps."""
    net = build(in_channels=in_channels)
    dilate(nn.Sequential(net.get_submodule("layer3"), net.get_submodule("layer4")))
    return net, FeatureMaps(net.layers(), [replace(stage, stride=8) for stage in net.stages[2:]])


def with_heads(
    classes: Iterable[str],
    net: nn.Module,
    network: nn.Module,
    in_channels: int,
    min_size: int | None,
    max_size: int | None,
    losses: PixelLosses,
    class_layers: str = r"^network\.(aux_)?classifier\.4\.",
) -> Segmenter:
    """The segmenter around a network made from the layers of the classifier `net`."""
    preprocess = segmenter_preprocess(in_channels, min_size, max_size)
    model = Segmenter(classes, preprocess, network, loss=losses)
    model.class_layers = class_layers
    model.backbone_keys = shared_keys(net, model)
    return model


def fcn_resnet50(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    aux: bool = True,
    min_size: int | None = None,
    max_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Segmenter:
    """FCN on ResNet-50: 35,322,218 parameters with 21 classes.

    Args:
        classes: names of the classes, the background among them.
        in_channels: channels of the images.
        aux: whether there is an auxiliary head, whose loss counts half.
        min_size, max_size: the images' sides inside the network: the shorter becomes `min_size` pixels, unless the
            longer would pass `max_size`; None for the image's own size, and for no limit. Published weights were
            measured at 520, without a limit.
        losses: what it learns by.
    """
    return _fcn(resnet50, classes, in_channels, aux, min_size, max_size, losses)


def fcn_resnet101(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    aux: bool = True,
    min_size: int | None = None,
    max_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Segmenter:
    """FCN on ResNet-101: 54,314,346 parameters with 21 classes. Arguments as for `fcn_resnet50`."""
    return _fcn(resnet101, classes, in_channels, aux, min_size, max_size, losses)


def _fcn(
    build: Callable[..., ResNet],
    classes: Iterable[str],
    in_channels: int,
    aux: bool,
    min_size: int | None,
    max_size: int | None,
    losses: PixelLosses,
) -> Segmenter:
    names = Classes(classes)
    net, body = dilated_resnet(build, in_channels)
    head = FCNHead(body.channels[1], len(names))
    network = DilatedNetwork(body, head, FCNHead(body.channels[0], len(names)) if aux else None)
    return with_heads(names, net, network, in_channels, min_size, max_size, losses)

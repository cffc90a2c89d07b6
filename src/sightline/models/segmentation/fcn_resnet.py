"""FCN on a dilated ResNet: the fully convolutional networks of Long, Shelhamer and Darrell, CVPR 2015, in the form with
published weights: stride 8 by dilation instead of skips, and an auxiliary head (Zhao et al., Pyramid scene parsing
network, CVPR 2017, section 4) on the second-to-last stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn

from sightline.models.entry import Entry
from sightline.models.keep_size import segmenter_preprocess
from sightline.models.segmentation.segmenter import Segmenter, map_size, resized
from sightline.models.weights import shared_keys
from sightline.nn.backbones.dilation import dilate, dilated_maps
from sightline.nn.backbones.features import FeatureMaps, Network, Stage
from sightline.nn.backbones.mobilenet_v3 import MobileNetV3
from sightline.nn.backbones.named import StridedName, build_backbone
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.structures import Classes


class FCNHead(nn.Sequential):
    """3×3 convolution to a quarter of the channels, dropout, 1×1 convolution: [N, C, h, w] → [N, K, h, w]."""

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
    """A dilated backbone with a head on its last map, and an optional auxiliary head on an earlier map.

    Args:
        backbone: batch → maps by name. The head uses the last map, the auxiliary head the first.
        classifier: map [N, C, h, w] → logits [N, K, h, w].
        aux_classifier: the same for the first map, or None.
    """

    def __init__(self, backbone: FeatureMaps, classifier: nn.Module, aux_classifier: nn.Module | None = None):
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[N, C, H, W] → logits "out" [N, K, H, W], and "aux" if there is an auxiliary head."""
        maps = list(self.backbone(x).values())
        logits = {"out": resized(self.classifier(maps[-1]), map_size(x))}
        if self.aux_classifier is not None:
            logits["aux"] = resized(self.aux_classifier(maps[0]), map_size(x))
        return logits

    def main(self, x: Tensor) -> Tensor:
        """The logits "out" alone, as the head gives them: [N, C, H, W] → [N, K, h, w]."""
        logits: Tensor = self.classifier(list(self.backbone(x).values())[-1])
        return logits

    def drop_training_parts(self) -> None:
        """Delete the auxiliary head."""
        self.aux_classifier = None

    def map_layers(self) -> list[nn.Module]:
        """Those of the backbone."""
        return self.backbone.map_layers()


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
    """A segmentation model with a network made from the layers of the classifier `net`."""
    preprocess = segmenter_preprocess(in_channels, min_size, max_size)
    model = Segmenter(classes, preprocess, network, loss=losses)
    model.class_layers = class_layers
    model.backbone_keys = shared_keys(net, model)
    return model


def encoder_maps(net: Network, output_stride: int, low: int) -> FeatureMaps:
    """A finer map of an encoder, and its last one at `output_stride`; `low` as in `dilated_maps`.

    MobileNet v3 is cut as published: all kernels of the last stage are dilated by 2, the first one, too, the map of
    stride 8 is the first of three blocks', and the last has the channels behind the 1×1 convolution.
    """
    if isinstance(net, MobileNetV3) and output_stride == 16 and low == 8:
        layers, stages = list(net.features), {stage.stride: stage for stage in net.stages}
        begin, last = int(stages[16].layer) + 1, len(layers) - 1
        first = int(stages[4].layer) + 1
        dilate(nn.Sequential(*layers[begin:last]), rate=2)
        taken = [Stage(str(first), stages[8].channels, 8), Stage(str(last), net.last_channels, 16)]
        return net.maps_of(taken)
    return dilated_maps(net, output_stride, low)


def fcn(
    classes: Iterable[str],
    *,
    encoder: StridedName = "resnet50",
    in_channels: int = 3,
    output_stride: Literal[8, 16] = 8,
    aux: bool = True,
    min_size: int | None = None,
    max_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Segmenter:
    """FCN on any encoder that can be dilated.

    Args:
        classes: names of the classes, including the background.
        encoder: name of the classification network used as the encoder.
        in_channels: number of channels of the images.
        output_stride: stride of the last map in pixels.
        aux: whether there is an auxiliary head; its loss has a weight of 0.5.
        min_size, max_size: the shorter side is resized to `min_size` pixels, unless the longer side would exceed
            `max_size`. `min_size` None keeps the size; `max_size` None sets no limit. Published weights were evaluated
            with a `min_size` of 520 and no limit.
        losses: the loss, a weighted sum of per-pixel losses.
    """
    names, net = Classes(classes), build_backbone(encoder, in_channels, known=StridedName)
    body = encoder_maps(net, output_stride, low=16 if output_stride == 8 else 8)
    head = FCNHead(body.channels[1], len(names))
    network = DilatedNetwork(body, head, FCNHead(body.channels[0], len(names)) if aux else None)
    return with_heads(names, net, network, in_channels, min_size, max_size, losses)


_PAPER = "Long et al. 2015, Fully convolutional networks"

ENTRIES = (
    Entry(name="fcn", builder=fcn, task="segmentation", paper=_PAPER),
    Entry(
        name="fcn_resnet50",
        builder=fcn,
        task="segmentation",
        paper=_PAPER,
        summary="FCN on ResNet-50: 35,322,218 parameters with 21 classes.",
        fixed={"encoder": "resnet50", "output_stride": 8},
    ),
    Entry(
        name="fcn_resnet101",
        builder=fcn,
        task="segmentation",
        paper=_PAPER,
        summary="FCN on ResNet-101: 54,314,346 parameters with 21 classes.",
        fixed={"encoder": "resnet101", "output_stride": 8},
    ),
)

"""LR-ASPP: the light head of Howard et al., "Searching for MobileNetV3", ICCV 2019, section 6.4 and figure 10."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from sightline.models.entry import Entry
from sightline.models.segmentation.fcn_resnet import encoder_maps, with_heads
from sightline.models.segmentation.segmenter import Segmenter, map_size, resized
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.named import StridedName, build_backbone
from sightline.ops.pixel_losses import CROSS_ENTROPY, PixelLosses
from sightline.structures import Classes


class LiteHead(nn.Module):
    """The last map is scaled by globally pooled features, and the scores of a finer map are added.

    Departure, as in the published weights: global average pooling instead of the paper's 49×49 pooling.

    Args:
        low, high: number of channels of the finer map and of the last map.
        classes: number of outputs.
        inner: number of intermediate channels.
    """

    def __init__(self, low: int, high: int, classes: int, inner: int = 128):
        super().__init__()
        self.cbr = nn.Sequential(nn.Conv2d(high, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True))
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(high, inner, 1, bias=False), nn.Sigmoid())
        self.low_classifier = nn.Conv2d(low, classes, 1)
        self.high_classifier = nn.Conv2d(inner, classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """[N, C, 2h, 2w] and [N, D, h, w] → logits [N, K, 2h, 2w]."""
        x = self.cbr(high) * self.scale(high)
        x = resized(x, map_size(low))
        return self.low_classifier(low) + self.high_classifier(x)


class LiteNetwork(nn.Module):
    """A backbone of two maps and the head on both: [N, C, H, W] → logits [N, K, H, W]."""

    def __init__(self, backbone: FeatureMaps, classifier: LiteHead):
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return resized(self.main(x), map_size(x))

    def main(self, x: Tensor) -> Tensor:
        """The logits as the head gives them: [N, C, H, W] → [N, K, h, w]."""
        logits: Tensor = self.classifier(*self.backbone(x).values())
        return logits

    def map_layers(self) -> list[nn.Module]:
        """Those of the backbone."""
        return self.backbone.map_layers()


def lraspp(
    classes: Iterable[str],
    *,
    encoder: StridedName = "mobilenet_v3_large",
    in_channels: int = 3,
    inner: int = 128,
    min_size: int | None = None,
    max_size: int | None = None,
    losses: PixelLosses = CROSS_ENTROPY,
) -> Segmenter:
    """LR-ASPP on any encoder that can be dilated, its last map at stride 16.

    Args:
        classes: names of the classes, including the background.
        encoder: name of the classification network used as the encoder.
        in_channels: number of channels of the images.
        inner: number of channels of the head.
        min_size, max_size: the shorter side is resized to `min_size` pixels, unless the longer side would exceed
            `max_size`. `min_size` None keeps the size; `max_size` None sets no limit. Published weights were evaluated
            with a `min_size` of 520 and no limit.
        losses: the loss, a weighted sum of per-pixel losses.
    """
    names, net = Classes(classes), build_backbone(encoder, in_channels, known=StridedName)
    body = encoder_maps(net, 16, low=8)
    low, high = body.channels
    network = LiteNetwork(body, LiteHead(low, high, len(names), inner))
    pattern = r"^network\.classifier\.(low|high)_classifier\."
    return with_heads(names, net, network, in_channels, min_size, max_size, losses, pattern)


_PAPER = "Howard et al. 2019, Searching for MobileNetV3"

ENTRIES = (
    Entry(name="lraspp", builder=lraspp, task="segmentation", paper=_PAPER),
    Entry(
        name="lraspp_mobilenet_v3_large",
        builder=lraspp,
        task="segmentation",
        paper=_PAPER,
        summary="LR-ASPP on MobileNet v3 large: 3,221,538 parameters with 21 classes.",
        fixed={"encoder": "mobilenet_v3_large"},
    ),
)

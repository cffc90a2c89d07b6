"""MobileNet v1: Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications",
arXiv 2017.

Departures, as in the published weights: ReLU6 in place of ReLU; the last depthwise convolution keeps its map's size
(the stride of 2 that table 1 gives it does not fit the sizes beside it); hardly any dropout before the last layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.nn.backbones.features import Network, Stage
from sightline.nn.layers import ConvNormAct, NormLayer, make_divisible

# channels c, stride s of the thirteen separable convolutions (table 1)
_TABLE = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)


class SeparableConv(nn.Sequential):
    """Filter 3×3 channel by channel, then mix the channels 1×1, each with normalisation and ReLU6 (section 3.1)."""

    def __init__(self, channels: int, out: int, stride: int, norm: NormLayer):
        super().__init__(
            ConvNormAct(channels, channels, 3, stride, groups=channels, norm=norm, act=nn.ReLU6),
            ConvNormAct(channels, out, 1, norm=norm, act=nn.ReLU6),
        )


class MobileNetV1(Network):
    """Stem, thirteen separable convolutions, pooling, one dense layer (table 1).

    Args:
        num_classes: outputs of the last layer; 4,231,976 parameters with 1000.
        in_channels: number of channels of the image.
        norm: normalisation layer.
        width: α, the factor on all channel counts (section 3.3).
        dropout: dropout probability before the last layer.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = nn.BatchNorm2d,
        width: float = 1.0,
        dropout: float = 0.001,
    ):
        super().__init__()
        if not width > 0:
            raise InputError(f"width is {width}, but must be above 0; the published ones are 1, 0.75, 0.5 and 0.25")
        channels = make_divisible(32 * width)
        layers: list[nn.Module] = [ConvNormAct(in_channels, channels, 3, 2, norm=norm, act=nn.ReLU6)]
        stride_so_far, ends = 2, {}
        for c, stride in _TABLE:
            out = make_divisible(c * width)
            stride_so_far *= stride
            layers.append(SeparableConv(channels, out, stride, norm))
            channels = out
            ends[stride_so_far] = (len(layers) - 1, out)  # the last layer at each stride carries the map
        self.last_channels = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))
        self.stages = [Stage(str(index), out, stride) for stride, (index, out) in ends.items()]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order (for `FeatureMaps`)."""
        return dict(self.features.named_children())

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        x = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(x, 1))


def mobilenet_v1(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = nn.BatchNorm2d, width: float = 1.0
) -> MobileNetV1:
    """MobileNet v1; `width` 1, 0.75, 0.5 and 0.25 are the published ones."""
    return MobileNetV1(num_classes, in_channels=in_channels, norm=norm, width=width)

"""EfficientNet v2: Tan and Le, "EfficientNetV2: smaller models and faster training", ICML 2021.

Departures, as in the published weights: padding is symmetric, see `efficientnet`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from sightline.nn.backbones.efficientnet import EfficientNet, MBConv, Row
from sightline.nn.layers import ConvNormAct, NormLayer, StochasticDepth, batch_norm

# expansion t, kernel k, stride s, channels c, repeats n (table 4)
_SMALL: tuple[Row, ...] = (
    (1, 3, 1, 24, 2),
    (4, 3, 2, 48, 4),
    (4, 3, 2, 64, 4),
    (4, 3, 2, 128, 6),
    (6, 3, 1, 160, 9),
    (6, 3, 2, 256, 15),
)
_PUBLISHED_NORM = batch_norm(eps=1e-3)


class FusedMBConv(nn.Module):
    """k×k convolution to `expansion` times the channels, linear 1×1 projection (section 3.2, figure 2).

    One k×k convolution does what expansion and depthwise convolution do in `MBConv`; early stages, which have few
    channels, are faster with it. Without expansion, it is one k×k convolution. Arguments and shapes as for `MBConv`.
    """

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int, drop: float, norm: NormLayer):
        super().__init__()
        inner = channels * expansion
        layers = [ConvNormAct(channels, inner if expansion > 1 else out, kernel, stride, norm=norm, act=nn.SiLU)]
        if expansion > 1:
            layers.append(ConvNormAct(inner, out, 1, norm=norm, act=None))
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop)
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → [N, out, H / stride, W / stride]."""
        return x + self.stochastic_depth(self.block(x)) if self.adds else self.block(x)


class EfficientNetV2(EfficientNet):
    """Stem, three stages of `FusedMBConv`, others of `MBConv`, 1×1 convolution to 1280 channels, pooling, dense layer.

    Args:
        stages: the stages (table 4).
        dropout, num_classes, in_channels, norm: as for `EfficientNet`.
    """

    def __init__(
        self,
        stages: Sequence[Row],
        dropout: float,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        norm: NormLayer = _PUBLISHED_NORM,
    ):
        super().__init__(
            *(1.0, 1.0, dropout, num_classes),
            in_channels=in_channels,
            norm=norm,
            stages=stages,
            stem=stages[0][3],
            last=1280,
        )

    def block(self, stage: int) -> Callable[..., nn.Module]:
        """The class of a stage's blocks."""
        return FusedMBConv if stage < 3 else MBConv


def efficientnet_v2_s(
    num_classes: int = 1000, *, in_channels: int = 3, norm: NormLayer = _PUBLISHED_NORM
) -> EfficientNetV2:
    """EfficientNet v2-S for images of 384 pixels: 21,458,488 parameters with 1000 classes."""
    return EfficientNetV2(_SMALL, 0.2, num_classes, in_channels=in_channels, norm=norm)

"""ConvNeXt: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, "A ConvNet for the 2020s", CVPR 2022."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.backbones.features import Branch, Network, Stage
from sightline.nn.layers import MapNorm, Permute, StochasticDepth, normal_start


class ConvNeXtBlock(nn.Module):
    """7×7 depthwise convolution, layer normalisation, 1×1 to four times the channels, GELU, 1×1 back (figure 4).

    The 1×1 convolutions are linear layers over the last axis. The branch is multiplied by one learnt factor per channel
    ("layer scale", Touvron et al. 2021), and dropped for some images in training (stochastic depth).

    Args:
        channels: number of channels C: [N, C, H, W] → [N, C, H, W].
        drop: probability of stochastic depth.
        scale: first value of the factors.
    """

    def __init__(self, channels: int, drop: float, scale: float = 1e-6):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), scale))
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.stochastic_depth(self.layer_scale * self.block(x))


class ConvNeXt(Network):
    """4×4 patches, four stages with 2×2 convolutions of stride 2 between them, pooling, one dense layer (section 2).

    As a backbone, each feature map is normalised by a layer of its own, as in the paper's detectors (appendix A.3).

    Args:
        width: channels of the first stage; each later stage has twice as many.
        depths: number of blocks of each stage.
        num_classes: outputs of the last layer.
        in_channels: number of channels of the image.
        drop: probability of stochastic depth of the last block; it grows linearly from 0.
    """

    def __init__(
        self, width: int, depths: Sequence[int], num_classes: int = 1000, *, in_channels: int = 3, drop: float = 0.1
    ):
        super().__init__()
        parts: list[nn.Module] = [nn.Sequential(nn.Conv2d(in_channels, width, 4, 4), MapNorm(width))]
        self.stages: list[Stage] = []
        done, total = 0, max(sum(depths) - 1, 1)
        for number, depth in enumerate(depths):
            channels = width * 2**number
            if number:
                parts.append(nn.Sequential(MapNorm(channels // 2), nn.Conv2d(channels // 2, channels, 2, 2)))
            blocks = (ConvNeXtBlock(channels, drop * (done + i) / total) for i in range(depth))
            parts.append(nn.Sequential(*blocks))
            done += depth
            self.stages.append(Stage(f"norm{len(parts) - 1}", channels, 4 * 2**number))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(MapNorm(channels), nn.Flatten(1), nn.Linear(channels, num_classes))
        self.apply(normal_start)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order, and a norm beside each stage."""
        found: dict[str, nn.Module] = {}
        norms = {stage.layer: stage.channels for stage in self.stages}
        for name, part in self.features.named_children():
            found[name] = part
            if (norm := f"norm{name}") in norms:
                found[norm] = Branch(MapNorm(norms[norm]))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], height and width at least 32 → logits [N, num_classes]."""
        return self.classifier(nn.functional.adaptive_avg_pool2d(self.features(x), 1))


def convnext_tiny(
    num_classes: int = 1000, *, in_channels: int = 3, width: int = 96, depths: Sequence[int] = (3, 3, 9, 3)
) -> ConvNeXt:
    """ConvNeXt-T: 28,589,128 parameters with 1000 classes."""
    return ConvNeXt(width, depths, num_classes, in_channels=in_channels)

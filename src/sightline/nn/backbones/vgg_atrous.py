"""VGG-16 as SSD's backbone: Liu et al., "SSD: single shot multibox detector", ECCV 2016, section 3 and figure 2.

Its dense layers as atrous convolutions are of Chen et al., "Semantic image segmentation with deep convolutional nets
and fully connected CRFs", ICLR 2015 (DeepLab).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.nn.backbones.features import grouped_layers
from sightline.nn.backbones.vgg import VGG
from sightline.nn.layers.fully_convolutional import subsampled_convolution


class AtrousVGG(nn.Module):
    """VGG-16 with its fully connected layers as convolutions, and additional convolutions (figure 2; section 3).

    Maps: conv4_3 with L2 normalisation and a learned scale (section 3.1), fc7, and the output of each pair. Sizes after
    the third pooling are rounded up, the fifth pooling has stride 1, and fc6 is a 3×3 convolution with dilation 6.

    Args:
        net: the classifier, whose convolutions are used.
        extra: (middle channels, channels, kernel, stride, padding) of each pair: 1×1, then the kernel.
        trainable_layers: number of VGG's five blocks to train, counted from the last. Additional layers are always
            trained.
    """

    def __init__(self, net: VGG, extra: Sequence[tuple[int, int, int, int, int]], trainable_layers: int = 5):
        super().__init__()
        layers = list(net.features)
        ends = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        if not 0 <= trainable_layers <= len(ends):
            raise InputError(
                f"trainable_layers is {trainable_layers}, but this backbone has {len(ends)} parts: give 0 to that"
            )
        layers[ends[2]] = nn.MaxPool2d(2, ceil_mode=True)
        wide = 1024
        dense = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, wide, 3, padding=6, dilation=6),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, 1),
            nn.ReLU(inplace=True),
        )
        init_xavier(dense)
        self.scale_weight = nn.Parameter(torch.full((512,), 20.0))
        self.features = nn.Sequential(*layers[: ends[3]])
        self.extra = nn.ModuleList([nn.Sequential(*layers[ends[3] : ends[4]], dense)])
        self.channels = [512, wide]
        for middle, out, kernel, stride, padding in extra:
            pair = nn.Sequential(
                nn.Conv2d(self.channels[-1], middle, 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(middle, out, kernel, stride, padding),
                nn.ReLU(inplace=True),
            )
            init_xavier(pair)
            self.extra.append(pair)
            self.channels.append(out)
        for layer in layers[: [0, *ends][len(ends) - trainable_layers]]:
            layer.requires_grad_(False)

    def part_layers(self) -> dict[str, list[nn.Module]]:
        """VGG's blocks by the name of their first layer, starting at the image; fc6 and fc7 belong to the last one."""
        layers = dict(self.features.named_children())
        ends = [int(name) + 1 for name, layer in layers.items() if isinstance(layer, nn.MaxPool2d)]
        blocks = grouped_layers(layers, [str(start) for start in (0, *ends)])
        return {**{f"features.{name}": block for name, block in blocks.items()}, "extra.0": [self.extra[0]]}

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, C, H, W] → maps at strides 8, 16, 32, …"""
        x = self.features(x)
        maps = [self.scale_weight[:, None, None] * F.normalize(x, dim=1)]
        for part in self.extra:
            x = part(x)
            maps.append(x)
        return maps

    def map_layers(self) -> list[nn.Module]:
        """The layers of the maps, from fine to coarse; the first is the map before its L2 normalisation."""
        return [self.features, *self.extra]

    def sides(self, image: int) -> list[int]:
        """Sides of the maps of a square image with side `image`; 0 for maps that the image is too small for."""
        found, side = [], image
        for part in (self.features, *self.extra):
            for layer in part.modules():
                if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                    side = _side_after(layer, side)
            found.append(side)
        return found


def atrous_dense_layers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of a VGG-16 classifier with fc6 and fc7 as this backbone's convolutions (section 3, "Base network").

    fc6, 4096 outputs of 7×7 cells, becomes 1024 outputs of 3×3; fc7 becomes 1×1 between them: every fourth output and
    channel, every third cell. Dense layers without numbers (of files that hold the convolutions alone, and not-a-number
    for the rest) are left out.
    """
    state = dict(state)
    for layer, channels, cells, shape in (
        ("classifier.0", 512, 7, (1024, 512, 3, 3)),
        ("classifier.3", 4096, 1, (1024, 1024, 1, 1)),
    ):
        weight, bias = state.pop(f"{layer}.weight", None), state.pop(f"{layer}.bias", None)
        if weight is None or bias is None or not (weight.isfinite().all() and bias.isfinite().all()):
            continue
        if weight.shape == (4096, channels * cells**2) and bias.shape == (4096,):  # else it is refused by its shape
            weight, bias = subsampled_convolution(weight, cells, shape), bias[::4]
        state |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
    return state


def _side_after(layer: nn.Conv2d | nn.MaxPool2d, side: int) -> int:
    """Side of a square map after a convolution or pooling; 0 if the input is too small."""
    kernel, stride, padding, dilation = (
        v[0] if isinstance(v, tuple) else int(v)
        for v in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    room = side + 2 * padding - dilation * (kernel - 1) - 1
    if getattr(layer, "ceil_mode", False):
        room += stride - 1
    return room // stride + 1 if side > 0 and room >= 0 else 0


def init_xavier(module: nn.Module) -> None:
    """Initialise SSD's new convolutions (section 3): Xavier initialisation, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

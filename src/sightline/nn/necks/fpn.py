"""Feature pyramid network: Lin et al., "Feature pyramid networks for object detection", CVPR 2017."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.layers import ConvNormAct, NormLayer


class FeaturePyramid(nn.Module):
    """Feature pyramid: lateral 1×1 convolutions, a top-down path, and 3×3 convolutions on every level (figure 3).

    Without `extra`, the coarsest map is subsampled once more as P6, for region proposals (section 4.1, footnote).

    Args:
        in_channels: number of channels of each input map, from fine to coarse.
        out_channels: number of channels of every output map (256 in the paper).
        norm: normalisation layer after each convolution; None in the paper.
        extra: module from the coarsest input map and the coarsest output map to additional maps by name, see
            `sightline.nn.necks.last_levels`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        norm: NormLayer | None = None,
        extra: nn.Module | None = None,
    ):
        super().__init__()
        self.inner_blocks = nn.ModuleList(ConvNormAct(c, out_channels, 1, norm=norm, act=None) for c in in_channels)
        self.layer_blocks = nn.ModuleList(
            ConvNormAct(out_channels, out_channels, 3, norm=norm, act=None) for _ in in_channels
        )
        self.out_channels = out_channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.extra_blocks = extra

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps [N, C_i, H_i, W_i], from fine to coarse → maps [N, out_channels, H_i, W_i], and "pool" or `extra`'s."""
        laterals = [block(x) for block, x in zip(self.inner_blocks, maps.values(), strict=True)]
        for i in range(len(laterals) - 2, -1, -1):
            laterals[i] = laterals[i] + F.interpolate(laterals[i + 1], size=laterals[i].shape[-2:], mode="nearest")
        out = {name: block(x) for name, block, x in zip(maps, self.layer_blocks, laterals, strict=True)}
        coarsest = next(reversed(out.values()))
        if self.extra_blocks is not None:
            return out | self.extra_blocks(next(reversed(maps.values())), coarsest)
        return out | {"pool": F.max_pool2d(coarsest, 1, 2)}

    def map_layers(self) -> list[nn.Module]:
        """The layers of the maps of the inputs' strides, then the layers of `extra`."""
        return [*self.layer_blocks, *(() if self.extra_blocks is None else self.extra_blocks.children())]


class PyramidBackbone(nn.Module):
    """A backbone followed by a feature pyramid.

    Args:
        body: backbone that returns feature maps.
        fpn: feature pyramid on these maps.
    """

    def __init__(self, body: FeatureMaps, fpn: FeaturePyramid):
        super().__init__()
        self.body = body
        self.fpn = fpn
        self.out_channels = fpn.out_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[N, C, H, W] → maps by name, from fine to coarse."""
        return self.fpn(self.body(x))

    def map_layers(self) -> list[nn.Module]:
        """The layers of the pyramid's maps."""
        return self.fpn.map_layers()

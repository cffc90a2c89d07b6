"""Path aggregation: Liu et al., "Path aggregation network for instance segmentation", CVPR 2018, section 3.1.

Maps are fused by concatenation and CSP blocks, as in RTMDet (Lyu et al. 2022, section 3.2) and PP-YOLOE (Xu et al.
2022, section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.backbones.csp import CSPBlock, square_conv
from sightline.nn.layers import ConvNormAct, NormLayer, batch_norm
from sightline.nn.layers.concatenation import concatenate


class PathAggregation(nn.Module):
    """A top-down path followed by a bottom-up path.

    Args:
        in_channels: number of channels of each input map, from fine to coarse.
        out_channels: number of channels of every output map and of all intermediate maps.
        blocks: number of residual pairs in each CSP block.
        norm: normalisation layer; by default batch norm with YOLOX's settings.
        residual: whether each CSP block has a shortcut from the lateral map of its level (He et al. 2016). The scale of
            its last normalisation layer starts at zero (Goyal et al. 2017, section 5.1), so that the neck starts as
            its 1×1 lateral convolutions. A pretrained backbone's features then reach the head unchanged, where several
            layers of random weights would have to learn to pass them on.
        separable: whether the 3×3 convolutions are depthwise separable (Yu et al., "PP-PicoDet", 2021, section 3.2).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        blocks: int = 1,
        norm: NormLayer | None = None,
        residual: bool = False,
        separable: bool = False,
    ):
        super().__init__()
        norm = norm or batch_norm(eps=1e-3, momentum=0.03)
        c, steps = out_channels, len(in_channels) - 1
        self.laterals = nn.ModuleList(ConvNormAct(i, c, 1, norm=norm, act=nn.SiLU) for i in in_channels)
        self.top_down = nn.ModuleList(CSPBlock(2 * c, c, blocks, norm, False, separable) for _ in range(steps))
        self.down = nn.ModuleList(square_conv(c, 2, norm, separable) for _ in range(steps))
        self.bottom_up = nn.ModuleList(CSPBlock(2 * c, c, blocks, norm, False, separable) for _ in range(steps))
        self.out_channels, self.residual = out_channels, residual
        if residual:
            self.maps = nn.ModuleList(nn.Identity() for _ in in_channels)  # the sums, for whoever reads layers' outputs
            for block in [*self.top_down, *self.bottom_up]:
                nn.init.zeros_(block.join[1].weight)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, C_i, H_i, W_i], from fine to coarse, each half as large → maps [N, out_channels, H_i, W_i]."""
        maps = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        finer = [maps[-1]]  # coarse to fine
        for block, x in zip(self.top_down, reversed(maps[:-1]), strict=True):
            up = F.interpolate(finer[-1], size=x.shape[-2:], mode="nearest")
            joined = block(concatenate([x, up]))
            finer.append(x + joined if self.residual else joined)
        out = [finer.pop()]  # from fine to coarse
        for down, block in zip(self.down, self.bottom_up, strict=True):
            x = finer.pop()
            joined = block(concatenate([down(out[-1]), x]))
            out.append(x + joined if self.residual else joined)
        return [layer(x) for layer, x in zip(self.maps, out, strict=True)] if self.residual else out

    def map_layers(self) -> list[nn.Module]:
        """The layers whose outputs are the maps, from fine to coarse."""
        return list(self.maps) if self.residual else [self.top_down[-1], *self.bottom_up]

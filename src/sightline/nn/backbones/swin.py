"""Swin transformer: Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo, "Swin transformer: hierarchical vision transformer using
shifted windows", ICCV 2021.

Maps stay [N, C, H, W] between the layers; inside a block, the channels are the last axis. Images of any size: the image
is padded to whole patches, maps of odd size to even ones before they are merged, and maps to whole windows (with zeros
after the normalisation, as in the published weights).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.nn.backbones.features import Branch, Network, Stage
from sightline.nn.layers import MapNorm, StochasticDepth, feed_forward, normal_start

_APART = -100.0
"""Added to the logit of two cells that are not neighbours in the image; the published weights were trained with it."""


class WindowAttention(nn.Module):
    """Self-attention inside windows, which may be shifted, with a learnt bias per relative position (section 3.2).

    Args:
        channels: number of channels C of the map.
        heads: number of attention heads.
        window: side of a window in cells.
        shift: number of cells by which windows are shifted up and left. The map is rolled, so that the number of
            windows stays the same; cells that are not neighbours do not attend to each other (figure 4).
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_positions(window).flatten())
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] → [N, H, W, C]."""
        n, height, width, channels = x.shape
        window, cells = self.window, self.window**2
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        rows, columns = x.shape[1] // window, x.shape[2] // window
        # a single window contains all cells, so there is nothing to shift
        down, right = (self.shift if count > 1 else 0 for count in (rows, columns))
        if down or right:
            x = x.roll((-down, -right), (1, 2))
        x = x.reshape(n, rows, window, columns, window, channels).transpose(2, 3).reshape(-1, cells, channels)
        q, k, v = self.qkv(x).reshape(x.shape[0], cells, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.reshape(1, cells, cells, self.heads).permute(0, 3, 1, 2)
        if down or right:
            bias = (bias + self.mask(rows, columns, down, right)).repeat(n, 1, 1, 1)
        x = F.scaled_dot_product_attention(q, k, v, bias.to(q.dtype))
        x = self.proj(x.transpose(1, 2).reshape(-1, cells, channels))
        x = x.reshape(n, rows, columns, window, window, channels).transpose(2, 3)
        x = x.reshape(n, rows * window, columns * window, channels)
        if down or right:
            x = x.roll((down, right), (1, 2))
        return x[:, :height, :width]

    def mask(self, rows: int, columns: int, down: int, right: int) -> Tensor:
        """What is added to the logits of each window of the rolled map: [rows · columns, 1, cells, cells]."""
        device = self.relative_position_index.device

        def region(count: int, shift: int) -> Tensor:
            """The region [count, window] that each row (or column) of the map is from."""
            at = torch.arange(count * self.window, device=device)
            last, rolled = at >= (count - 1) * self.window, at >= count * self.window - shift
            return (last.int() + rolled.int() if shift else at * 0).reshape(count, self.window)

        vertical, across = region(rows, down), region(columns, right)
        regions = 3 * vertical[:, None, :, None] + across[None, :, None, :]
        regions = regions.reshape(rows * columns, 1, self.window**2)
        return _APART * (regions[..., :, None] != regions[..., None, :]).float()


def relative_positions(window: int) -> Tensor:
    """The entry of the bias table for each pair of a window's cells: int64 [window², window²] (section 3.2)."""
    at = torch.arange(window)
    y, x = (axis.flatten() for axis in torch.meshgrid(at, at, indexing="ij"))
    return (y[:, None] - y + window - 1) * (2 * window - 1) + x[:, None] - x + window - 1


class SwinBlock(nn.Module):
    """Window attention and two linear layers with GELU, each with normalisation before and a shortcut (figure 3b).

    Args:
        channels, heads, window, shift: see `WindowAttention`.
        drop: probability of stochastic depth.
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int, drop: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window, shift)
        self.stochastic_depth = StochasticDepth(drop)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = feed_forward(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, H, W]."""
        x = x.permute(0, 2, 3, 1)
        x = x + self.stochastic_depth(self.attn(self.norm1(x)))
        x = x + self.stochastic_depth(self.mlp(self.norm2(x)))
        return x.permute(0, 3, 1, 2)


class PatchMerging(nn.Module):
    """The four cells of each 2×2 block become one: [N, C, H, W] → [N, 2 · C, ⌈H / 2⌉, ⌈W / 2⌉] (section 3.1)."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)).permute(0, 2, 3, 1)
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1))).permute(0, 3, 1, 2)


class Patchify(nn.Conv2d):
    """4×4 patches as vectors: [N, in_channels, H, W] → [N, width, ⌈H / 4⌉, ⌈W / 4⌉] (section 3.1)."""

    def __init__(self, in_channels: int, width: int):
        super().__init__(in_channels, width, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, -x.shape[-1] % 4, 0, -x.shape[-2] % 4)))


class Swin(Network):
    """Patches, four stages with merging between them, normalisation, pooling, one dense layer (figure 3a).

    As a backbone, each feature map is normalised by a layer of its own, as in the paper's detectors; for the last, that
    is the network's.

    Args:
        width: channels of the first stage, a multiple of 32; each later stage has twice as many, and one head per 32.
        depths: number of blocks of each stage. Every second block has shifted windows.
        num_classes: outputs of the last layer.
        in_channels: number of channels of the image.
        window: side of a window in cells.
        drop: probability of stochastic depth of the last block; it grows linearly from 0.
    """

    def __init__(
        self,
        width: int,
        depths: Sequence[int],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        window: int = 7,
        drop: float = 0.2,
    ):
        super().__init__()
        if width < 32 or width % 32:
            raise InputError(f"width is {width}, but must be a multiple of 32: an attention head has 32 channels")
        start = {"0": Patchify(in_channels, width), "2": MapNorm(width, 1e-5)}  # numbered as in the published weights
        parts: list[nn.Module] = [nn.Sequential(OrderedDict(start))]
        self.stages: list[Stage] = []
        done, total = 0, max(sum(depths) - 1, 1)
        for number, depth in enumerate(depths):
            channels = width * 2**number
            if number:
                parts.append(PatchMerging(channels // 2))
            blocks = (
                SwinBlock(channels, channels // 32, window, window // 2 * (i % 2), drop * (done + i) / total)
                for i in range(depth)
            )
            parts.append(nn.Sequential(*blocks))
            done += depth
            last = number == len(depths) - 1
            self.stages.append(Stage("norm" if last else f"norm{len(parts) - 1}", channels, 4 * 2**number))
        self.features = nn.Sequential(*parts)
        self.norm = MapNorm(channels, 1e-5)
        self.head = nn.Linear(channels, num_classes)
        self.apply(normal_start)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order, and a norm beside each stage but the last."""
        found: dict[str, nn.Module] = {}
        norms = {stage.layer: stage.channels for stage in self.stages}
        for name, part in self.features.named_children():
            found[name] = part
            if (norm := f"norm{name}") in norms:
                found[norm] = Branch(MapNorm(norms[norm]))
        return found | {"norm": self.norm}

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        x = F.adaptive_avg_pool2d(self.norm(self.features(x)), 1)
        return self.head(torch.flatten(x, 1))


def swin_t(
    num_classes: int = 1000, *, in_channels: int = 3, width: int = 96, depths: Sequence[int] = (2, 2, 6, 2)
) -> Swin:
    """Swin-T: 28,288,354 parameters with 1000 classes."""
    return Swin(width, depths, num_classes, in_channels=in_channels)

"""The head of YOLO v2 and the decoding of its outputs: Redmon and Farhadi, "YOLO9000: better, faster, stronger", CVPR
2017, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sightline.nn.backbones.yolo_v1 import init_leaky, leaky
from sightline.nn.layers import ConvNormAct, NormLayer, SpaceToDepth
from sightline.ops.boxes import MAX_LOG_RATIO


class YOLOv2Head(nn.Module):
    """Two 3×3 convolutions on the coarse map, the passthrough from the fine map, then a 3×3 and a 1×1 convolution.

    The passthrough is a 1×1 convolution on the fine map, which has half the stride, followed by space-to-depth (section
    2, "Fine-grained features").

    Args:
        fine, coarse: number of channels of the two maps.
        anchors: number of anchors A.
        outputs: number of outputs per box besides the first five: the classes.
        width: number of channels of the 3×3 convolutions.
        passed: number of channels of the 1×1 convolution on the fine map; 64 become 256 at half the size.
        reorg: space-to-depth layer; darknet's weights need `DarknetReorg`.
        norm: normalisation layer.
    """

    def __init__(
        self,
        fine: int,
        coarse: int,
        anchors: int,
        outputs: int,
        *,
        width: int = 1024,
        passed: int = 64,
        reorg: type[SpaceToDepth] = SpaceToDepth,
        norm: NormLayer = nn.BatchNorm2d,
    ):
        super().__init__()
        self.convolutions = nn.Sequential(
            ConvNormAct(coarse, width, 3, norm=norm, act=leaky), ConvNormAct(width, width, 3, norm=norm, act=leaky)
        )
        self.passthrough = nn.Sequential(ConvNormAct(fine, passed, 1, norm=norm, act=leaky), reorg(2))
        self.joined = ConvNormAct(4 * passed + width, width, 3, norm=norm, act=leaky)
        self.last = nn.Conv2d(width, anchors * (5 + outputs), 1)
        init_leaky(self)
        nn.init.normal_(self.last.weight, 0, 0.01)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """[N, fine, 2H, 2W], [N, coarse, H, W] → [N, A·(5 + outputs), H, W], anchor by anchor (x, y, w, h, o, …)."""
        joined = torch.cat([self.passthrough(fine), self.convolutions(coarse)], 1)
        return self.last(self.joined(joined))

    def map_layers(self) -> list[nn.Module]:
        """The convolution before the last."""
        return [self.joined]


class RegionOutputs(NamedTuple):
    """The parts of a region map with A anchors and K classes.

    Attributes:
        centres: [N, H, W, A, 2], (σ(tx), σ(ty)): offset from the cell's top-left corner, in cells.
        sides: [N, H, W, A, 2], (tw, th): logarithms of width and height relative to the anchor.
        objects: [N, H, W, A], logits of objectness.
        classes: [N, H, W, A, K], logits.
    """

    centres: Tensor
    sides: Tensor
    objects: Tensor
    classes: Tensor


def split_region(tensor: Tensor, anchors: int) -> RegionOutputs:
    """Split a map [N, A·(5 + K), H, W] with (tx, ty, tw, th, to, classes) per anchor into its parts, in float32."""
    parts = tensor.unflatten(1, (anchors, -1)).permute(0, 3, 4, 1, 2).float()
    return RegionOutputs(parts[..., :2].sigmoid(), parts[..., 2:4], parts[..., 4], parts[..., 5:])


def region_boxes(outputs: RegionOutputs, anchors: Tensor | Sequence[Sequence[float]]) -> Tensor:
    """Direct location prediction: bx = σ(tx) + cx, by = σ(ty) + cy, bw = pw·exp(tw), bh = ph·exp(th).

    Args:
        outputs: result of `split_region`.
        anchors: [A, 2], (pw, ph) in cells.

    Returns:
        [N, H, W, A, 4], (cx, cy, w, h) as fractions of the map.
    """
    centres, sides = outputs.centres, outputs.sides
    height, width = centres.shape[1:3]
    row, column = torch.meshgrid(
        torch.arange(height, device=centres.device), torch.arange(width, device=centres.device), indexing="ij"
    )
    size = centres.new_tensor([width, height])
    shapes = torch.as_tensor(anchors, dtype=centres.dtype, device=centres.device)
    places = centres + torch.stack([column, row], -1)[:, :, None]
    # limit boxes to 62 times the anchor's size, since those of an untrained network could overflow
    return torch.cat([places / size, shapes * sides.clamp(max=MAX_LOG_RATIO).exp() / size], -1)

"""Masks from convolutions whose weights are predicted for each object (Tian et al., "CondInst", 2020, section 3).

A map of few channels is shared by all objects of an image. For each object, a branch predicts the weights of three 1×1
convolutions, which turn this map and the object's relative coordinates into its mask. As in RTMDet-Ins (Lyu et al.
2022, section 3.4), the map is computed from the neck's maps and the branch shares its convolutions among the levels.

Departures from these papers, which matter for small objects and short training runs:

- The convolutions are computed on a grid of points over the object's box, not on the whole map. They are 1×1
  convolutions, so this gives their exact values at these points. A small object gets as many points as a large one,
  and the cost per object is constant.
- With `coarse`, for inference, boxes that cover few cells of the map get a quarter of the points, between which the
  logits are interpolated: more points than cells add little.
- The map's second convolution is depthwise: at twice the resolution, a full one took longer than all others together.
- Coordinates are relative to the box instead of to the object's point, and in units of the box.
- The layer that predicts the weights starts with the weights of an ordinary network as its bias, so that all objects
  first share one network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.heads.point_branch import PointBranch
from sightline.nn.layers import ConvNormAct, NormLayer, batch_norm
from sightline.ops.mask_grids import grid_coordinates
from sightline.ops.regions import roi_align

_OBJECTS = 32  # whose values on the grid are computed at once; more leave the cache


class MaskFeatures(nn.Sequential):
    """The map that all objects share: [N, C, H, W] of the finest level → [N, out_channels, 2H, 2W].

    Args:
        channels: number of channels of the input map.
        hidden: number of channels of the intermediate maps.
        out_channels: number of channels of the result.
        norm: normalisation layer; by default batch norm with YOLOX's settings.
    """

    def __init__(self, channels: int, hidden: int = 32, out_channels: int = 8, norm: NormLayer | None = None):
        norm = norm or batch_norm(eps=1e-3, momentum=0.03)
        super().__init__(
            ConvNormAct(channels, hidden, 3, norm=norm, act=nn.SiLU),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            ConvNormAct(hidden, hidden, 3, groups=hidden, norm=norm, act=nn.SiLU),
            nn.Conv2d(hidden, out_channels, 1),
        )
        self.out_channels = out_channels


class DynamicMaskHead(nn.Module):
    """The masks of selected points, as logits on a grid over the box of each.

    Args:
        channels: number of channels of every map of the neck.
        levels: number of maps.
        hidden: number of channels between the predicted convolutions.
        features: the map that all objects share, from the finest map of the neck; by default `MaskFeatures`.
        stride: stride of that map in pixels.
        norm: normalisation layer; by default batch norm with YOLOX's settings.
        residual: whether the branch's convolutions start as the identity, see `SharedBranch`.
    """

    def __init__(
        self,
        channels: int,
        levels: int = 3,
        hidden: int = 8,
        features: MaskFeatures | None = None,
        stride: int = 4,
        norm: NormLayer | None = None,
        residual: bool = False,
    ):
        super().__init__()
        self.stride = stride
        self.features = features or MaskFeatures(channels, norm=norm)
        inputs = self.features.out_channels + 2  # and the coordinates
        self.layers = ((inputs, hidden), (hidden, hidden), (hidden, 1))
        outputs = sum(i * o + o for i, o in self.layers)
        self.branch = PointBranch(channels, outputs, levels, norm=norm, residual=residual)
        with torch.no_grad():
            start = [torch.cat([torch.randn(i * o) * math.sqrt(2 / i), torch.zeros(o)]) for i, o in self.layers]
            self.branch.values.bias.copy_(torch.cat(start))

    def forward(
        self,
        maps: Sequence[Tensor],
        images: Tensor,
        points: Tensor,
        boxes: Tensor,
        size: int,
        coarse: bool = False,
    ) -> Tensor:
        """Mask logits [P, size, size] of selected points on regular grids over `boxes`.

        Args:
            maps: [N, C, H_i, W_i], maps of the neck from fine to coarse.
            images: [P] int64, the image of each point.
            points: [P] int64, its number, map by map, row by row.
            boxes: [P, 4] xyxy, the regions of the grids, in pixels of the batch.
            size: number of rows and columns of the grids.
            coarse: whether boxes of at most size / 2 cells of the shared map are computed with half as many rows and
                columns, and interpolated bilinearly.
        """
        shared = self.features(maps[0]).float()
        weights = self.branch(maps, images, points).float()
        if not coarse or size < 4:
            return self.on_grids(shared, weights, images, boxes, size)
        half = size // 2
        few = (boxes[:, 2:] - boxes[:, :2]).amax(1) <= half * self.stride
        logits = boxes.new_empty((len(boxes), size, size), dtype=torch.float32)
        for chosen, rows in ((few, half), (~few, size)):
            at = chosen.nonzero().flatten()
            if len(at):
                own = self.on_grids(shared, weights[at], images[at], boxes[at], rows)
                logits[at] = F.interpolate(own[None], (size, size), mode="bilinear")[0] if rows < size else own
        return logits

    def on_grids(self, shared: Tensor, weights: Tensor, images: Tensor, boxes: Tensor, size: int) -> Tensor:
        """The predicted convolutions `weights` [P, W] of the map `shared` on grids over boxes: [P, size, size]."""
        rois = torch.cat([images[:, None].to(boxes.dtype), boxes], 1)
        inside = roi_align(shared, rois, size, 1 / self.stride, sampling_ratio=1, aligned=True)
        place = grid_coordinates(size, boxes.device).flatten(1)
        parts = zip(inside.flatten(2).split(_OBJECTS), weights.split(_OBJECTS), strict=True)
        logits = [self.convolved(torch.cat([f, place.expand(len(f), -1, -1)], 1), w) for f, w in parts]
        return torch.cat(logits).view(-1, size, size)

    def convolved(self, values: Tensor, weights: Tensor) -> Tensor:
        """The predicted convolutions: values [P, inputs, S] and weights [P, W] → logits [P, 1, S]."""
        # in automatic mixed precision these products would be of half precision, and the masks' outlines coarse
        with torch.autocast(values.device.type, enabled=False):
            start = 0
            for number, (inputs, outputs) in enumerate(self.layers):
                matrix = weights[:, start : start + inputs * outputs].view(-1, outputs, inputs)
                start += inputs * outputs
                values = torch.baddbmm(weights[:, start : start + outputs, None], matrix, values)
                start += outputs
                if number + 1 < len(self.layers):
                    values = F.relu(values)
        return values

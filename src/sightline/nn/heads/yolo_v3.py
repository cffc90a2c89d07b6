"""The head of YOLO v3, and cells and anchors of its predictions: Redmon and Farhadi, "YOLOv3", 2018, section 2.1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.nn.heads.rows import map_rows
from sightline.structures import Size


@dataclass(frozen=True)
class Places:
    """Cells and anchors of D predictions, in the order of levels (fine to coarse), rows, cells and anchors.

    Attributes:
        cells: [D, 2], column and row of the cell.
        strides: [D], side of the cell in pixels.
        anchors: [D, 2], width and height of the anchor in pixels.
        shapes: anchors of each level, [A_i, 2].
        sizes: (height, width) of each level's map in cells.
        steps: stride of each level.
    """

    cells: Tensor
    strides: Tensor
    anchors: Tensor
    shapes: Sequence[Tensor]
    sizes: Sequence[Size]
    steps: Sequence[int]

    def __len__(self) -> int:
        return len(self.cells)

    @classmethod
    def of(cls, shapes: Sequence[Tensor], sizes: Sequence[Size], steps: Sequence[int]) -> Places:
        """The cells and anchors of maps with these sizes and strides, on the device of the anchors."""
        cells, strides, anchors = [], [], []
        for shape, (height, width), step in zip(shapes, sizes, steps, strict=True):
            y, x = torch.meshgrid(
                torch.arange(height, device=shape.device), torch.arange(width, device=shape.device), indexing="ij"
            )
            at = torch.stack([x, y], -1).reshape(-1, 1, 2).expand(-1, len(shape), 2).reshape(-1, 2)
            cells.append(at.to(shape.dtype))
            strides.append(shape.new_full((len(at),), float(step)))
            anchors.append(shape.repeat(height * width, 1))
        return cls(torch.cat(cells), torch.cat(strides), torch.cat(anchors), shapes, sizes, steps)

    def ids(self, level: Tensor, anchor: Tensor, column: Tensor, row: Tensor) -> Tensor:
        """Indices of the predictions of a level, anchor and cell; all [M] int64."""
        counts = [h * w * len(s) for (h, w), s in zip(self.sizes, self.shapes, strict=True)]
        firsts = level.new_tensor([sum(counts[:i]) for i in range(len(counts))])
        widths = level.new_tensor([w for _, w in self.sizes])
        each = level.new_tensor([len(s) for s in self.shapes])
        return firsts[level] + (row * widths[level] + column) * each[level] + anchor


class YOLOv3Head(nn.Module):
    """A 1×1 convolution on each map: x, y, width, height, objectness, IoU if `iou_aware`, and the classes.

    Args:
        channels: number of channels of each map.
        anchors: number of anchors per cell of each map.
        num_classes: number of classes K, without background.
        iou_aware: whether the IoU of each box with its object is predicted (Wu et al., "IoU-aware single-stage object
            detector", 2020, section 3.1).
        prior: initial objectness (Lin et al., "Focal loss", 2017, section 3.3), so that the many background predictions
            do not dominate the first steps.
    """

    def __init__(
        self,
        channels: Sequence[int],
        anchors: Sequence[int],
        num_classes: int,
        iou_aware: bool = False,
        prior: float = 0.01,
    ):
        super().__init__()
        self.numbers = 5 + iou_aware + num_classes
        self.iou_aware = iou_aware
        self.predictors = nn.ModuleList(
            nn.Conv2d(c, a * self.numbers, 1) for c, a in zip(channels, anchors, strict=True)
        )
        for layer in self.predictors:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
            with torch.no_grad():
                layer.bias.view(-1, self.numbers)[:, 4] = -math.log((1 - prior) / prior)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps [N, C_i, H_i, W_i] → [N, D, 5 (+ 1) + K], in the order of `Places`."""
        rows = []
        for predictor, x in zip(self.predictors, maps, strict=True):
            rows.append(map_rows(predictor(x), self.numbers))
        return torch.cat(rows, 1)

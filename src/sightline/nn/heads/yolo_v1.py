"""Heads that turn the last map into a grid of boxes: Redmon et al., "You only look once", CVPR 2016, section 2.1.

The output of both is [N, S, S, 5B + C]: for each cell (x, y, √w, √h, confidence) of each of its B boxes, then the
C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.nn.backbones.yolo_v1 import init_leaky, leaky
from sightline.nn.layers import ConvNormAct
from sightline.structures import Size


class YOLOv1Head(nn.Module):
    """The paper's last layers: four convolutions, the second of stride 2, and two fully connected layers.

    Args:
        channels: number of channels of the map.
        size: (height, width) of the map.
        grid, boxes, classes: S, B and C.
        hidden: width of the first fully connected layer.
        width: number of channels of the convolutions.
        dropout: dropout probability before the last layer.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        grid: int,
        boxes: int,
        classes: int,
        *,
        hidden: int = 4096,
        width: int = 1024,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.grid = grid
        strides = (1, 2, 1, 1)
        self.convolutions = nn.Sequential(
            *(
                ConvNormAct(c, width, 3, stride, norm=None, act=leaky)
                for c, stride in zip((channels, width, width, width), strides, strict=True)
            )
        )
        cells = -(-size[0] // 2) * -(-size[1] // 2)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(cells * width, hidden), leaky(inplace=True))
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(hidden, grid * grid * (5 * boxes + classes))
        init_leaky(self)
        _start_last(self.last, boxes, grid * grid)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, height, width] → [N, S, S, 5B + C]."""
        x = self.last(self.dropout(self.hidden(self.convolutions(x))))
        return x.unflatten(1, (self.grid, self.grid, -1))


class GridHead(nn.Module):
    """A fully convolutional head, which shares its weights between all cells.

    Args:
        channels: number of channels of the map, which is resized to S × S cells by adaptive average pooling.
        grid, boxes, classes: S, B and C.
        width: number of channels of the intermediate layers.
    """

    def __init__(self, channels: int, grid: int, boxes: int, classes: int, *, width: int = 256):
        super().__init__()
        self.cells = nn.AdaptiveAvgPool2d(grid)
        self.convolutions = nn.Sequential(
            ConvNormAct(channels, width, 1, act=leaky), ConvNormAct(width, width, 3, act=leaky)
        )
        self.last = nn.Conv2d(width, 5 * boxes + classes, 1)
        init_leaky(self.convolutions)
        _start_last(self.last, boxes)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, h, w] → [N, S, S, 5B + C]."""
        return self.last(self.convolutions(self.cells(x))).permute(0, 2, 3, 1)


def _start_last(layer: nn.Linear | nn.Conv2d, boxes: int, cells: int = 1) -> None:
    """Initialise with small weights: boxes are centred in their cell, a quarter of the image in size, confidence 0."""
    nn.init.normal_(layer.weight, 0, 0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.bias.view(cells, -1)[:, : 5 * boxes].view(cells, boxes, 5)[..., :4] = 0.5

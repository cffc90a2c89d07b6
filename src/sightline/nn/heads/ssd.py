"""Heads of single-shot detectors: Liu et al., "SSD", ECCV 2016; SSDlite: Sandler et al., "MobileNetV2", CVPR 2018."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.heads.rows import map_rows
from sightline.nn.layers import ConvNormAct, NormLayer


class MapPredictor(nn.Module):
    """A convolutional predictor for each map. Outputs are concatenated along the boxes.

    Args:
        channels: number of channels of each map.
        anchors: number of default boxes per cell of each map.
        outputs: number of outputs per box: K + 1 classes or 4 deltas.
        separable_norm: normalisation layer of SSDlite's depthwise convolution; None uses SSD's plain convolution.
        kernel: kernel size of the plain convolution; 3 in the paper.
    """

    def __init__(
        self,
        channels: Sequence[int],
        anchors: Sequence[int],
        outputs: int,
        separable_norm: NormLayer | None = None,
        kernel: int = 3,
    ):
        super().__init__()
        self.outputs = outputs
        self.module_list = nn.ModuleList()
        for c, a in zip(channels, anchors, strict=True):
            if separable_norm is None:
                predictor: nn.Module = nn.Conv2d(c, a * outputs, kernel, padding=kernel // 2)
            else:
                spatial = ConvNormAct(c, c, 3, groups=c, norm=separable_norm, act=nn.ReLU6)
                predictor = nn.Sequential(spatial, nn.Conv2d(c, a * outputs, 1))
            self.module_list.append(predictor)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps [N, C_i, H_i, W_i] → [N, Σ H_i·W_i·A_i, outputs], in the order of maps, rows, cells and boxes."""
        rows = []
        for predictor, x in zip(self.module_list, maps, strict=True):
            rows.append(map_rows(predictor(x), self.outputs))
        return torch.cat(rows, 1)


class SSDHead(nn.Module):
    """Class scores, background first, and deltas for every default box (section 2.1).

    Args:
        channels, anchors: as in `MapPredictor`.
        num_classes: number of classes K, without background.
        separable_norm, kernel: as in `MapPredictor`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        anchors: Sequence[int],
        num_classes: int,
        separable_norm: NormLayer | None = None,
        kernel: int = 3,
    ):
        super().__init__()
        self.classification_head = MapPredictor(channels, anchors, num_classes + 1, separable_norm, kernel)
        self.regression_head = MapPredictor(channels, anchors, 4, separable_norm, kernel)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps → scores [N, D, K+1] before the softmax, deltas [N, D, 4]."""
        return self.classification_head(maps), self.regression_head(maps)

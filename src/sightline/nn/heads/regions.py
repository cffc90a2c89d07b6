"""Parts of detectors on a single map: RoI pooling, and a head with the fully connected layers of a classifier.

Girshick, "Fast R-CNN", ICCV 2015, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.ops.regions import roi_pool
from sightline.structures import ImageBatch


class PooledRegions:
    """RoI pooling from one map (section 2.1).

    Args:
        level: name of the map.
        stride: stride of the map in pixels of the batch.
        size: height and width of the features.
    """

    def __init__(self, level: str, stride: int, size: int = 7):
        self.level, self.stride, self.size = level, stride, size
        self.levels: tuple[str, ...] = (level,)

    def __call__(self, maps: dict[str, Tensor], boxes: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """Maps [N, C, H, W], boxes [R_i, 4] of each image → [ΣR_i, C, size, size]."""
        return roi_pool(maps[self.level], boxes, self.size, 1 / self.stride)


class DenseHead(nn.Module):
    """The fully connected layers of a classifier, except for the last one: [R, C, h, w] → [R, F].

    Args:
        fc6, fc7: the layers.
        dropout: dropout probability after each layer.
    """

    def __init__(self, fc6: nn.Module, fc7: nn.Module, dropout: float = 0.5):
        super().__init__()
        self.fc6, self.fc7 = fc6, fc7
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.relu(self.fc6(x.flatten(1))))
        return self.dropout(self.relu(self.fc7(x)))


class SharedBoxPredictor(nn.Module):
    """K + 1 class scores, background first, and class-agnostic deltas: [R, F] → [R, K+1], [R, K+1, 4].

    Used by R-FCN (Dai et al. 2016, section 2) and Light-Head R-CNN (Li et al. 2017, section 3.2).
    """

    outputs_per_class = {"cls_score": 1, "bbox_pred": 0}

    def __init__(self, inputs: int, num_classes: int):
        super().__init__()
        self.cls_score = nn.Linear(inputs, num_classes + 1)
        self.bbox_pred = nn.Linear(inputs, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.cls_score(x)
        return scores, self.bbox_pred(x)[:, None].expand(-1, scores.shape[1], -1)

"""The features of regions, and heads on them: RoI pooling from one map (Girshick, "Fast R-CNN", ICCV 2015, section 2),
and RoI align from a pyramid (Lin et al., "Feature pyramid networks", CVPR 2017, section 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sightline.ops.regions import multiscale_roi_align, pyramid_scales, region_levels, roi_pool
from sightline.structures import ImageBatch, Size


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


class AlignedRegions:
    """RoI align on the pyramid level that fits the size of each box (Lin et al. 2017, equation 1).

    Args:
        levels: names of the feature maps to use.
        size: height and width of the features.
        samples: number of sampling points along each side of a bin.
        aligned: as in `sightline.ops.regions.roi_align`.
    """

    def __init__(self, levels: Sequence[str], size: int = 7, samples: int = 2, aligned: bool = False):
        self.levels, self.size, self.samples, self.aligned = tuple(levels), size, samples, aligned

    def __call__(self, maps: dict[str, Tensor], boxes: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """Maps [N, C, H, W], boxes [R_i, 4] per image → [ΣR_i, C, size, size]."""
        chosen = [maps[name] for name in self.levels]
        size = self.image_size(batch)
        return multiscale_roi_align(chosen, boxes, size, self.size, self.samples, aligned=self.aligned)

    def level_of(self, maps: dict[str, Tensor], boxes: Tensor, batch: ImageBatch) -> Tensor:
        """The level, [R] int64, that features of boxes [R, 4] are cropped from."""
        heights = [maps[name].shape[-2] for name in self.levels]
        return region_levels(boxes, pyramid_scales(heights, self.image_size(batch)[0]))

    @staticmethod
    def image_size(batch: ImageBatch) -> Size:
        """The size that strides are computed from: without padding, as in the published models."""
        return max(h for h, _ in batch.sizes), max(w for _, w in batch.sizes)


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

"""The head of R-FCN: Dai, Li, He, Sun, "R-FCN: object detection via region-based fully convolutional networks", NeurIPS
2016, section 2. All layers run once on the image; regions only pool and average position-sensitive scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.heads.box import BoxSettings, RegionHeads, Samples
from sightline.nn.layers import ConvNormAct
from sightline.ops.position_sensitive import ps_roi_pool
from sightline.structures import ImageBatch, Instances


class PositionSensitiveRegions:
    """Position-sensitive RoI pooling: each bin (i, j) averages separate maps over its cells (equation 1).

    Args:
        bins: number of bins k along each side.
        stride: stride of the maps in pixels of the batch.
    """

    def __init__(self, bins: int, stride: int):
        self.bins, self.stride = bins, stride

    def __call__(self, maps: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Maps [N, k²·C, H, W], boxes [R_i, 4] of each image → [ΣR_i, C, k, k]."""
        return ps_roi_pool(maps, boxes, self.bins, 1 / self.stride, whole_map=True)


class ScoreMaps(nn.Module):
    """k² score maps for each of K + 1 classes, and k² maps for each of four class-agnostic deltas.

    Args:
        channels: number of channels of the input map.
        num_classes: number of classes K.
        bins: number of bins k along each side of a region.
    """

    def __init__(self, channels: int, num_classes: int, bins: int):
        super().__init__()
        self.cls_maps = nn.Conv2d(channels, bins**2 * (num_classes + 1), 1)
        self.bbox_maps = nn.Conv2d(channels, bins**2 * 4, 1)
        for conv in (self.cls_maps, self.bbox_maps):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    @property
    def outputs_per_class(self) -> dict[str, int]:
        """The number of successive channels per class: k² scores; the deltas are the same for all classes."""
        return {"cls_maps": self.bbox_maps.out_channels // 4, "bbox_maps": 0}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] → [N, k²·(K+1), H, W], [N, k²·4, H, W]."""
        return self.cls_maps(x), self.bbox_maps(x)


class PositionSensitiveHeads(RegionHeads):
    """Convolutions → score maps → bins of each region → their mean (figure 1). No layers are applied per region.

    Args:
        level: name of the map.
        channels: number of channels of the map.
        num_classes: number of classes K.
        bins: number of bins k along each side of a region; 3 or 7 in the paper (table 1).
        stride: stride of the map in pixels of the batch.
        hidden: number of channels of the 1×1 convolution before the score maps (1024 in the paper).
        hard_examples: number of regions per image for online hard example mining, which trains the regions with the
            largest losses (Shrivastava et al. 2016; section 2, "Training"). None trains a random sample of
            `settings.samples` regions.
        settings: thresholds and limits.
    """

    def __init__(
        self,
        level: str,
        channels: int,
        num_classes: int,
        *,
        bins: int,
        stride: int,
        hidden: int,
        hard_examples: int | None = None,
        settings: BoxSettings | None = None,
    ):
        if hard_examples is not None:  # all proposals are candidates
            settings = replace(settings or BoxSettings(), samples=2**20, positive_fraction=1.0)
        trunk = ConvNormAct(channels, hidden, 1, norm=None)
        regions = PositionSensitiveRegions(bins, stride)
        super().__init__(regions, trunk, ScoreMaps(hidden, num_classes, bins), settings)  # type: ignore[arg-type]
        self.level, self.hard_examples = level, hard_examples
        self.vote = regions

    @property
    def levels(self) -> tuple[str, ...]:
        """The one map."""
        return (self.level,)

    def predict(self, maps: dict[str, Tensor], regions: Sequence[Tensor], batch: ImageBatch) -> tuple[Tensor, Tensor]:
        """Like `RegionHeads.predict`; the deltas [ΣR, K+1, 4] are the same for all classes."""
        score_maps, box_maps = self.box_predictor(self.box_head(maps[self.level]))
        scores = self.vote(score_maps, regions).mean((2, 3))
        deltas = self.vote(box_maps, regions).mean((2, 3))
        return scores, deltas[:, None].expand(-1, scores.shape[1], -1)

    def region_losses(
        self, maps: dict[str, Tensor], samples: Samples, batch: ImageBatch, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """Like `RegionHeads.region_losses`; with `hard_examples`, only of the regions with the largest losses."""
        logits, deltas = self.predict(maps, samples.regions, batch)
        labels, box_targets = samples.labels, samples.box_targets
        if self.hard_examples is not None:
            hard = hardest(logits, deltas[:, 0], labels, box_targets, self.hard_examples * len(batch))
            logits, deltas, labels, box_targets = logits[hard], deltas[hard], labels[hard], box_targets[hard]
        return self.losses(logits, deltas, labels, box_targets)


@torch.no_grad()
def hardest(logits: Tensor, deltas: Tensor, labels: Tensor, box_targets: Tensor, count: int) -> Tensor:
    """The indices of the `count` regions with the largest sum of classification and box loss, over all images.

    Shapes: logits [R, K+1], deltas and box_targets [R, 4], labels [R]. Background regions have no box loss.
    """
    box = F.smooth_l1_loss(deltas, box_targets, beta=1 / 9, reduction="none").sum(1)
    loss = F.cross_entropy(logits, labels, reduction="none") + box * (labels > 0)
    return loss.topk(min(count, len(loss))).indices

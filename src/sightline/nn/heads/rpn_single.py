"""The region proposal network as published in 2015, on one map: Ren et al. 2015, sections 3.1 and 3.3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.nn.heads.rpn import ProposalSettings, RegionProposalNetwork, RPNHead
from sightline.nn.layers import ConvNormAct
from sightline.ops.assignment import match_threshold
from sightline.ops.boxes import box_iou
from sightline.structures import Instances


class TwoScoreHead(RPNHead):
    """An RPN head with 2A scores per cell (section 3.1: "for simplicity … a two-class softmax layer").

    The softmax of two scores is the sigmoid of their difference, which `forward` returns as the score.
    """

    def __init__(self, channels: int, anchors: int, hidden: int):
        super().__init__(channels, anchors)
        self.conv = nn.Sequential(ConvNormAct(channels, hidden, 3, norm=None))
        self.cls_logits = nn.Conv2d(hidden, 2 * anchors, 1)
        self.bbox_pred = nn.Conv2d(hidden, 4 * anchors, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps [N, C, H, W] → for each map, scores [N, H·W·A] before the sigmoid, and deltas [N, H·W·A, 4]."""
        pairs, deltas = super().forward(maps)
        return [(p := pair.unflatten(1, (-1, 2)))[..., 1] - p[..., 0] for pair in pairs], deltas


class SingleMapRPN(RegionProposalNetwork):
    """Proposals from one map. Anchors that cross the border of the image are ignored in training (section 3.3).

    These are about 14 000 of 20 000 anchors in an image of 1000 × 600 pixels. Departure: if an image is so small that
    all anchors cross its border, none is ignored.

    Args:
        level: name of the map.
        channels: number of channels of the map.
        sizes: anchor sizes in pixels of the batch (128, 256, 512 in the paper).
        ratios: ratios of height to width.
        hidden: number of channels between the 3×3 and the 1×1 convolutions (512 for VGG).
        settings: thresholds and limits.
    """

    def __init__(
        self,
        level: str,
        channels: int,
        sizes: Sequence[float] = (128, 256, 512),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        *,
        hidden: int = 512,
        settings: ProposalSettings | None = None,
    ):
        super().__init__(channels, [sizes], ratios, settings=settings)
        self.level = level
        self.head = TwoScoreHead(channels, len(self.anchor_bases[0]), hidden)

    def taken(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """The one map."""
        return {self.level: maps[self.level]}

    def assign(self, anchors: Tensor, targets: Sequence[Instances]) -> list[Tensor]:
        """Like `RegionProposalNetwork.assign`; anchors that cross the border of their image are −2."""
        s, matches = self.settings, []
        for target in targets:
            height, width = target.image_size
            inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] <= width) & (anchors[:, 3] <= height)
            ids = inside.nonzero().flatten() if inside.any() else torch.arange(len(anchors), device=anchors.device)
            match = torch.full((len(anchors),), -2, dtype=torch.int64, device=anchors.device)
            iou = box_iou(target.boxes, anchors[ids])
            match[ids] = match_threshold(iou, s.positive_iou, s.negative_iou, allow_low_quality=True)
            matches.append(match)
        return matches

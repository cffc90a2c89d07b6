"""Region proposal network: Ren, He, Girshick, Sun, "Faster R-CNN", NeurIPS 2015, section 3.1, subsections as
in the journal version (PAMI 2017); on a pyramid: Lin et al. 2017.

The four steps are separate: `RPNHead` (network), `RegionProposalNetwork.assign`, `.losses`, `.propose` (decoding).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.layers import ConvNormAct
from sightline.ops.anchors import base_anchors, pyramid_anchors
from sightline.ops.assignment import match_threshold, sample_balanced
from sightline.ops.boxes import box_iou, clip_boxes_to_image, decode_boxes, encode_boxes
from sightline.ops.suppression import batched_nms
from sightline.runtime.sharing import batch_count
from sightline.structures import ImageBatch, Instances, Size


class RPNHead(nn.Module):
    """A 3×3 convolution on every map, and two 1×1 convolutions for A scores and 4A deltas per cell (figure 3).

    Args:
        channels: number of channels of the maps.
        anchors: number of anchors A per cell.
        depth: number of 3×3 convolutions; 1 in the paper.
    """

    def __init__(self, channels: int, anchors: int, depth: int = 1):
        super().__init__()
        self.conv = nn.Sequential(*(ConvNormAct(channels, channels, 3, norm=None) for _ in range(depth)))
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps [N, C, H, W] → for each map, scores [N, H·W·A] before the sigmoid, and deltas [N, H·W·A, 4]."""
        hidden = [self.conv(x) for x in maps]
        scores = [self.cls_logits(x).permute(0, 2, 3, 1).flatten(1) for x in hidden]
        deltas = [self.bbox_pred(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4) for x in hidden]
        return scores, deltas


@dataclass(frozen=True)
class ProposalSettings:
    """Settings of the proposal stage. Pairs are values for (training, prediction).

    Attributes:
        positive_iou, negative_iou: anchors with at least `positive_iou` are positive, anchors below `negative_iou` are
            background.
        samples, positive_fraction: number of sampled anchors per image in training, and maximum fraction of positives.
        before_nms: maximum number of boxes per level before NMS.
        after_nms: maximum number of boxes per image after NMS.
        nms_iou: IoU above which NMS removes the lower-scoring box.
        min_score: boxes with a lower objectness are removed.
        min_size: boxes with a shorter side, in pixels, are removed.
    """

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    samples: int = 256
    positive_fraction: float = 0.5
    before_nms: tuple[int, int] = (2000, 1000)
    after_nms: tuple[int, int] = (2000, 1000)
    nms_iou: float = 0.7
    min_score: float = 0.0
    min_size: float = 1e-3


class RegionProposalNetwork(nn.Module):
    """Region proposal network: predicts class-agnostic boxes of objects.

    Args:
        channels: number of channels of the maps.
        sizes: anchor sizes of each level in pixels of the batch (square root of an anchor's area).
        ratios: ratios of height to width of the anchors.
        depth: number of 3×3 convolutions of the head.
        settings: thresholds and limits.
    """

    def __init__(
        self,
        channels: int,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        *,
        depth: int = 1,
        settings: ProposalSettings | None = None,
    ):
        super().__init__()
        self.settings = settings or ProposalSettings()
        self.anchor_bases = [base_anchors(level, ratios) for level in sizes]
        self.head = RPNHead(channels, len(self.anchor_bases[0]), depth)

    def forward(
        self, maps: dict[str, Tensor], batch: ImageBatch, targets: Sequence[Instances] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Maps → proposals [P_i, 4] of each image (xyxy, pixels of the batch), and with targets the two losses."""
        scores, deltas, anchors = self.outputs(maps, batch)
        proposals = self.propose(scores, deltas, anchors, batch.sizes, training=targets is not None)
        if targets is None:
            return proposals, {}
        matches = self.assign(torch.cat(anchors), targets)
        return proposals, self.losses(torch.cat(scores, 1), torch.cat(deltas, 1), torch.cat(anchors), matches, targets)

    def taken(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """The maps that proposals are predicted from; all by default."""
        return maps

    def outputs(self, maps: dict[str, Tensor], batch: ImageBatch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Maps → scores [N, S_l] before the sigmoid, deltas [N, S_l, 4] and anchors [S_l, 4] of each level."""
        maps = self.taken(maps)
        return (*self.head(list(maps.values())), self.anchors(maps, batch))

    def ranked_proposals(self, maps: dict[str, Tensor], batch: ImageBatch) -> list[tuple[Tensor, Tensor]]:
        """The proposals [P_i, 4] of each image for prediction, best first, and their objectness [P_i]."""
        return self.ranked(*self.outputs(maps, batch), batch.sizes, training=False)

    def anchors(self, maps: dict[str, Tensor], batch: ImageBatch) -> list[Tensor]:
        """The anchors of each level: [H·W·A, 4] xyxy in pixels of the batch."""
        shapes: list[Size] = [(x.shape[-2], x.shape[-1]) for x in maps.values()]
        size = batch.tensor.shape[-2], batch.tensor.shape[-1]
        return pyramid_anchors(self.anchor_bases, shapes, size, device=batch.tensor.device, dtype=torch.float32)

    def assign(self, anchors: Tensor, targets: Sequence[Instances]) -> list[Tensor]:
        """For each image, the index of each anchor's object: −1 for background, −2 for ignored (section 3.1.2)."""
        s = self.settings
        return [
            match_threshold(box_iou(t.boxes, anchors), s.positive_iou, s.negative_iou, allow_low_quality=True)
            for t in targets
        ]

    def losses(
        self, scores: Tensor, deltas: Tensor, anchors: Tensor, matches: Sequence[Tensor], targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """Equation 1: binary cross-entropy of the sampled anchors, smooth L1 loss (β = 1/9) of the positives.

        Both are divided by the number of sampled anchors. Shapes: scores [N, S], deltas [N, S, 4], anchors [S, 4].
        """
        s = self.settings
        box_terms, logits, labels = [], [], []
        for score, delta, match, target in zip(scores, deltas, matches, targets, strict=True):
            positive, negative = sample_balanced(match >= 0, match == -1, s.samples, s.positive_fraction)
            box_targets = encode_boxes(target.boxes[match[positive]], anchors[positive])
            box_terms.append(F.smooth_l1_loss(delta[positive], box_targets, beta=1 / 9, reduction="sum"))
            sampled = torch.cat([positive, negative])
            logits.append(score[sampled])
            labels.append((match[sampled] >= 0).to(score.dtype))
        logit, label = torch.cat(logits), torch.cat(labels)
        count = batch_count(len(logit))
        return {
            "loss_objectness": F.binary_cross_entropy_with_logits(logit, label, reduction="sum") / count,
            "loss_proposal_box": torch.stack(box_terms).sum() / count,
        }

    @torch.no_grad()
    def propose(
        self,
        scores: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Sequence[Size],
        training: bool,
    ) -> list[Tensor]:
        """The best decoded boxes of each image after per-level NMS, best first: [P_i, 4]."""
        return [boxes for boxes, _ in self.ranked(scores, deltas, anchors, sizes, training)]

    @torch.no_grad()
    def ranked(
        self,
        scores: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Sequence[Size],
        training: bool,
    ) -> list[tuple[Tensor, Tensor]]:
        """Like `propose`, with the objectness [P_i] in [0, 1] of each box."""
        s, mode = self.settings, 0 if training else 1
        boxes, best, levels = [], [], []
        for level, (score, delta, anchor) in enumerate(zip(scores, deltas, anchors, strict=True)):
            value, ids = score.float().topk(min(s.before_nms[mode], score.shape[1]), dim=1)
            chosen = delta.float().gather(1, ids[..., None].expand(-1, -1, 4))
            boxes.append(decode_boxes(chosen, anchor[ids]))
            best.append(value.sigmoid())
            levels.append(torch.full_like(ids, level))
        all_boxes, all_scores, all_levels = torch.cat(boxes, 1), torch.cat(best, 1), torch.cat(levels, 1)
        proposals = []
        for box, score, level_ids, size in zip(all_boxes, all_scores, all_levels, sizes, strict=True):
            box = clip_boxes_to_image(box, size)
            keep = ((box[:, 2:] - box[:, :2]) >= s.min_size).all(1) & (score >= s.min_score)
            box, score, level_ids = box[keep], score[keep], level_ids[keep]
            kept = batched_nms(box, score, level_ids, s.nms_iou)[: s.after_nms[mode]]
            proposals.append((box[kept], score[kept]))
        return proposals

"""The second stage of dense captioning: Johnson, Karpathy, Fei-Fei, "DenseCap: fully convolutional localization
networks for dense captioning", CVPR 2016, sections 3.1.2 to 3.1.4.

A region's features become a code by the recognition network (fully connected layers). From the code follow whether the
region is one that labels describe, a second correction of its box, and its caption. Captions may have a recognition
network of their own: the correction of boxes, whose loss changes with every region, otherwise decides what the layers
learn, and colours and materials are learned much later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.heads.box import RegionHeads, Samples
from sightline.nn.heads.captioner import Captioner
from sightline.nn.heads.regions import AlignedRegions
from sightline.ops.boxes import clip_boxes_to_image
from sightline.ops.regions import roi_align
from sightline.ops.suppression import batched_nms
from sightline.structures import ImageBatch, Instances, Size
from sightline.structures.vocabulary import PADDING


@dataclass(frozen=True)
class CaptionSettings:
    """Settings of the captions.

    Attributes:
        longest: maximum number of words; later words of longer captions are neither learned nor generated.
        beam: number of captions that beam search follows for each region; 1 takes the most likely word each time.
        samples: maximum number of regions per image whose captions are learned in one step.
        weight: factor of the caption loss.
    """

    longest: int = 15
    beam: int = 3
    samples: int = 128
    weight: float = 1.0


class BilinearRegions:
    """One bilinear sample per cell of a grid over each region (section 3.1.2, "Bilinear interpolation").

    Departure: samples are at the centres of the cells; the paper's first and last ones are on the region's border.

    Args:
        level: name of the map.
        stride: stride of the map in pixels of the batch.
        size: height and width of the grid.
    """

    def __init__(self, level: str, stride: int, size: int = 7):
        self.level, self.stride, self.size = level, stride, size
        self.levels: tuple[str, ...] = (level,)

    def __call__(self, maps: dict[str, Tensor], boxes: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """Maps [N, C, H, W], boxes [R_i, 4] of each image → [ΣR_i, C, size, size]."""
        return roi_align(maps[self.level], boxes, self.size, 1 / self.stride, sampling_ratio=1, aligned=True)


class CaptionRegionHeads(RegionHeads):
    """Regions → scores, boxes and captions. Detections get "words" [N, L], losses a "loss_caption".

    A region has one score, the probability that it is not background, and one box. Its label is the most likely
    class; boxes suppress each other regardless of their classes.

    Args:
        boxes: the recognition network with its two other outputs; boxes are the same for all classes.
        captioner: codes [R, F], or [R, 2F] with `context` → captions.
        captions: settings of the captions.
        context: factor by which a region is enlarged to a second one, whose code is appended to the region's for its
            caption; None as in the paper.
        caption_head: recognition network of the captions, [R, C, h, w] → [R, F]; None for that of the boxes, as in the
            paper.
    """

    def __init__(
        self,
        boxes: RegionHeads,
        captioner: Captioner,
        captions: CaptionSettings,
        context: float | None = None,
        caption_head: nn.Module | None = None,
    ):
        super().__init__(boxes.region_features, boxes.box_head, boxes.box_predictor, boxes.settings)
        self.captioner = captioner
        self.caption_head = caption_head
        self.caption_settings = captions
        self.context = context

    def detect(
        self, maps: dict[str, Tensor], proposals: Sequence[Tensor], batch: ImageBatch
    ) -> list[dict[str, Tensor]]:
        """The detections with "words" [N, L] int64, the ids of the words of their captions.

        Captions are made from the codes of the regions that the boxes were regressed from (section 3.1.4).
        """
        codes = self.codes(maps, proposals, batch)
        logits, deltas = self.box_predictor(codes)
        found = self.decode(logits, deltas, proposals, batch.sizes)
        rows = [fields.pop("regions") for fields in found]
        described = self.described(codes, maps, proposals, rows, batch)
        s = self.caption_settings
        captions = self.captioner.beam(described, s.longest, s.beam)
        split = captions.ids.split([len(own) for own in rows])
        return [fields | {"words": words} for fields, words in zip(found, split, strict=True)]

    def region_losses(
        self, maps: dict[str, Tensor], samples: Samples, batch: ImageBatch, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """The losses of scores, boxes and captions; targets have "words" [N, T]."""
        codes = self.codes(maps, samples.regions, batch)
        logits, deltas = self.box_predictor(codes)
        losses = self.losses(logits, deltas, samples.labels, samples.box_targets)
        rows = [(of >= 0).nonzero().flatten()[: self.caption_settings.samples] for of in samples.objects]
        words = [t.words[of[own]] for t, of, own in zip(targets, samples.objects, rows, strict=True)]
        described = self.described(codes, maps, samples.regions, rows, batch)
        longest = max(own.shape[1] for own in words)  # cached targets have widths of their own
        padded = [F.pad(own, (0, longest - own.shape[1]), value=PADDING) for own in words]
        loss = self.captioner.loss(described, torch.cat(padded))
        return losses | {"loss_caption": self.caption_settings.weight * loss}

    def described(
        self,
        codes: Tensor,
        maps: dict[str, Tensor],
        regions: Sequence[Tensor],
        rows: Sequence[Tensor],
        batch: ImageBatch,
    ) -> Tensor:
        """What the captions of some regions are made from.

        Args:
            codes: [ΣR, F], the outputs of the box head for all regions.
            maps: the maps of the batch.
            regions: [R_i, 4] for each image.
            rows: [S_i] int64 for each image: which of its regions are described.
            batch: the batch.

        Returns:
            The codes of these regions [ΣS, F], or with those of their context [ΣS, 2F].
        """
        chosen = [region[own] for region, own in zip(regions, rows, strict=True)]
        if self.caption_head is None:
            first = torch.tensor([0, *(len(region) for region in regions)]).cumsum(0).tolist()
            own = codes[torch.cat([row + start for row, start in zip(rows, first, strict=False)])]
        else:
            own = self._caption_codes(maps, chosen, batch)
        if self.context is None:
            return own
        around = [enlarged(region, self.context, size) for region, size in zip(chosen, batch.sizes, strict=True)]
        return torch.cat([own, self._caption_codes(maps, around, batch)], 1)

    def _caption_codes(self, maps: dict[str, Tensor], regions: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        head = self.box_head if self.caption_head is None else self.caption_head
        codes: Tensor = head(self.region_features(maps, regions, batch))
        return codes

    def scored(
        self, logits: Tensor, deltas: Tensor, proposals: Sequence[Tensor], sizes: Sequence[Size]
    ) -> list[tuple[Tensor, Tensor]]:
        """Scores [R_i, K+1] and boxes [R_i, K+1, 4]: the score of a region is in the column of its most likely class.

        All other columns are 0.
        """
        found = []
        for own, boxes in super().scored(logits, deltas, proposals, sizes):
            best = own[:, 1:].argmax(1, keepdim=True) + 1
            found.append((torch.zeros_like(own).scatter(1, best, 1 - own[:, :1]), boxes))
        return found

    @torch.no_grad()
    def decode(
        self, logits: Tensor, deltas: Tensor, proposals: Sequence[Tensor], sizes: Sequence[Size]
    ) -> list[dict[str, Tensor]]:
        """The best boxes of each image after NMS over all classes, with "regions" [N], the index of their region."""
        s, results = self.settings, []
        for scores, boxes in self.scored(logits, deltas, proposals, sizes):
            score, label = scores.max(1)
            box = boxes[:, 0]
            keep = (score > s.min_score) & (box[:, 2:] - box[:, :2] >= s.min_size).all(1)
            region = keep.nonzero().flatten()
            nms = batched_nms(box[region], score[region], torch.zeros_like(region), s.nms_iou)[: s.max_detections]
            region = region[nms]
            results.append({"boxes": box[region], "labels": label[region], "scores": score[region], "regions": region})
        return results


def enlarged(boxes: Tensor, factor: float, size: Size) -> Tensor:
    """Boxes [R, 4] xyxy with their sides multiplied by `factor` about the centre, clipped to the image (h, w)."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * (factor / 2)
    return clip_boxes_to_image(torch.cat([centre - half, centre + half], 1), size)


def aligned_once(regions: AlignedRegions) -> AlignedRegions:
    """The same region features with one bilinear sample per cell of the grid (section 3.1.2)."""
    return AlignedRegions(regions.levels, regions.size, samples=1)

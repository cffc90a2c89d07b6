"""Parts shared by detectors: the candidates of dense detectors and of region proposal networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.detection.candidates import Candidates, DenseCandidates, Selection
from sightline.models.detection.parts import SelectionSettings
from sightline.nn.heads.rpn import ProposalSettings, RegionProposalNetwork
from sightline.ops.boxes import decode_boxes
from sightline.structures import ImageBatch


def dense_selection(settings: SelectionSettings) -> Selection:
    """How `best_candidates` and `suppressed` select."""
    return Selection(
        settings.min_score, settings.candidates, nms_iou=settings.nms_iou, max_detections=settings.max_detections
    )


def require_regions(regions: Sequence[Tensor], batch: ImageBatch) -> None:
    """Check that there are boxes [R, 4] for every image of a batch.

    Raises:
        InputError: the numbers differ, or a tensor has another shape.
    """
    if len(regions) != len(batch) or any(region.ndim != 2 or region.shape[1] != 4 for region in regions):
        raise InputError(
            f"regions have shapes {[list(region.shape) for region in regions]}, but must be one tensor [R, 4] for each "
            f"of the {len(batch)} images"
        )


def dense_proposals(rpn: RegionProposalNetwork, maps: dict[str, Tensor], batch: ImageBatch) -> DenseCandidates:
    """The candidates of a region proposal network: every anchor with its objectness."""
    scores, deltas, anchors = rpn.outputs(maps, batch)
    logits, origins = torch.cat(scores, 1).float()[..., None], torch.cat(anchors)
    boxes = decode_boxes(torch.cat(deltas, 1).float(), origins)
    return DenseCandidates(boxes, logits, logits.sigmoid(), origins, [a.shape[0] for a in anchors])


def proposal_candidates(rpn: RegionProposalNetwork, maps: dict[str, Tensor], batch: ImageBatch) -> list[Candidates]:
    """`dense_proposals` of each image, clipped to it."""
    return dense_proposals(rpn, maps, batch).of_images(batch.sizes)


def proposal_selection(settings: ProposalSettings) -> Selection:
    """How `RegionProposalNetwork.ranked` selects in prediction."""
    return Selection(
        settings.min_score,
        settings.before_nms[1],
        min_size=settings.min_size,
        nms_iou=settings.nms_iou,
        max_detections=settings.after_nms[1],
        per_class=False,
        per_level=True,
    )

"""What becomes of a detector's candidates: which of them fits an object best, and where the selection removed it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sightline.models.detection.candidates import Candidates, Selection, considered, select, suppression_groups
from sightline.ops.boxes import box_iou, elementwise_iou

End = Literal["unlikely", "candidates", "suppressed", "detections", "selected"]
"""Where a candidate ended: below the score, outside the limit of candidates or too small, suppressed, outside the limit
of detections, or among the detections."""


@dataclass(frozen=True)
class Traced:
    """The best candidate of each of G objects. A candidate fits an object if their IoU is high enough.

    Attributes:
        overlap: [G] highest IoU of any candidate's box of the object's class.
        nearest: [G] its row.
        score: [G] highest score for the object's class among the candidates that fit; −1 if none fits.
        row: [G] the row of that candidate.
        end: where it ended.
        by_row, by_class: [G] the candidate that suppressed it; −1 for none.
        by_overlap: [G] IoU with that box.
    """

    overlap: Tensor
    nearest: Tensor
    score: Tensor
    row: Tensor
    end: list[End]
    by_row: Tensor
    by_class: Tensor
    by_overlap: Tensor


@torch.no_grad()
def trace(
    candidates: Candidates, selection: Selection, boxes: Tensor, labels: Tensor, threshold: float, iou: float
) -> Traced:
    """Follow the best candidate of each object through the selection.

    If a detector does not select by plain suppression (`Selection.method`), the ends after "candidates" are unknown:
    "suppressed", without the box that did it.

    Args:
        candidates: of one image.
        selection: of the same model.
        boxes: [G, 4] objects in pixels of the batch.
        labels: [G] int64 columns of the candidates' scores.
        threshold: minimum score, if it is above that of the selection.
        iou: minimum IoU of a box that fits.
    """
    count, columns = len(boxes), candidates.scores.shape[1]
    device = boxes.device
    if not len(candidates):
        none, missing = torch.zeros(count, device=device), torch.full((count,), -1, device=device)
        return Traced(none, missing, none - 1, missing, ["unlikely"] * count, missing, missing, none)
    overlaps = own_overlaps(candidates, boxes, labels)
    scores = candidates.scores[:, labels].masked_fill(overlaps < iou, -1)
    (overlap, nearest), (score, row) = overlaps.max(0), scores.max(0)
    keys = row * columns + labels
    plain = selection.method == "nms"
    everything = replace(selection, max_detections=None)
    entered = considered(candidates, selection)
    unlimited = select(candidates, everything) if plain else entered
    likely = (score >= threshold) & (score > selection.min_score)
    inside, alive = torch.isin(keys, _keys(entered, columns)), torch.isin(keys, _keys(unlimited, columns)) & plain
    kept = alive & torch.isin(keys, _keys((unlimited[0][: selection.max_detections], unlimited[1]), columns))
    names: tuple[End, ...] = ("unlikely", "candidates", "suppressed", "detections", "selected")
    steps = likely.long() * (1 + inside.long() * (1 + alive.long() * (1 + kept.long())))
    by_row, by_class, by_overlap = _suppressors(candidates, selection, unlimited, row, labels)
    gone = (steps == 2) & plain
    missing = torch.full_like(row, -1)
    return Traced(
        overlap=overlap,
        nearest=nearest,
        score=score,
        row=row,
        end=[names[step] for step in steps.tolist()],
        by_row=torch.where(gone, by_row, missing),
        by_class=torch.where(gone, by_class, missing),
        by_overlap=torch.where(gone, by_overlap, torch.zeros_like(by_overlap)),
    )


def own_overlaps(candidates: Candidates, boxes: Tensor, labels: Tensor) -> Tensor:
    """[M, G] IoU of each candidate's box of the object's class with the object."""
    if candidates.boxes.shape[1] == 1:
        return box_iou(candidates.boxes[:, 0], boxes)
    return elementwise_iou(candidates.boxes[:, labels], boxes[None].expand(len(candidates), -1, -1))


def _keys(pairs: tuple[Tensor, Tensor], columns: int) -> Tensor:
    rows, classes = pairs
    return rows * columns + classes[: len(rows)]


def _suppressors(
    candidates: Candidates, selection: Selection, kept: tuple[Tensor, Tensor], row: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Row, class and IoU [G] of the kept box of highest score that suppresses each pair (row, label)."""
    rows, classes = kept
    if not len(rows) or selection.nms_iou is None:
        missing = torch.full_like(row, -1)
        return missing, missing, torch.zeros(len(row), device=row.device)
    overlaps = box_iou(candidates.boxes_of(row, labels), candidates.boxes_of(rows, classes))
    groups = suppression_groups(candidates, selection, rows, classes)
    overlaps = overlaps * (suppression_groups(candidates, selection, row, labels)[:, None] == groups)
    above = overlaps > selection.nms_iou
    first = torch.where(above.any(1), above.long().argmax(1), overlaps.argmax(1))  # kept boxes are sorted by score
    return rows[first], classes[first], overlaps.gather(1, first[:, None])[:, 0]

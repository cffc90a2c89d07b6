"""What a detector compares before it selects its detections: the input of explanations and of "why was it missed"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.boxes import clip_boxes_to_image
from sightline.ops.suppression import batched_nms
from sightline.structures import Size

Method = Literal["nms", "soft_nms", "matrix_nms", "merging"]
"""How boxes are suppressed, see `Selection`."""


@dataclass(frozen=True)
class Candidates:
    """The boxes of one image before selection: M boxes, each with a score for each of K classes.

    Logits and boxes are differentiable with respect to the batch if gradients are enabled. Every detection is one
    candidate and one class, so (row, class) identifies it.

    Attributes:
        boxes: [M, K, 4] or [M, 1, 4] float, (x1, y1, x2, y2) in pixels of the batch, clipped to the image; one box per
            class, or one for all classes.
        logits: [M, K] float, class scores before the sigmoid or softmax. Columns are the model's classes; region
            proposals have the single column of objectness.
        scores: [M, K] float in [0, 1], by which detections are selected; includes objectness or centre-ness if the
            model has it.
        origins: [M, 4] float, the anchor, cell or region that each box was regressed from, in pixels of the batch.
        levels: [M] int64, index of the feature map that each box was predicted from, see `Model.map_layers`.
    """

    boxes: Tensor
    logits: Tensor
    scores: Tensor
    origins: Tensor
    levels: Tensor

    def __len__(self) -> int:
        return len(self.logits)

    def boxes_of(self, rows: Tensor, classes: Tensor) -> Tensor:
        """The boxes [D, 4] of the pairs (row, class), [D] int64 each."""
        return self.boxes[rows, classes if self.boxes.shape[1] > 1 else torch.zeros_like(classes)]


class Encoded(NamedTuple):
    """What boxes are decoded from, so that those of a few places can be decoded alone.

    Attributes:
        values: [N, M, R] outputs of the head.
        references: [M, S] what they are relative to, such as anchors.
        decode: values [..., R] and references [..., S] → boxes [..., 4].
    """

    values: Tensor
    references: Tensor
    decode: Callable[[Tensor, Tensor], Tensor]

    def boxes(self) -> Tensor:
        """The boxes [N, M, 4] of all places."""
        return self.decode(self.values, self.references)


@dataclass(frozen=True)
class DenseCandidates:
    """The candidates of a dense detector for a batch of N images: the same M places in every image.

    Attributes:
        boxes: [N, M, 4] xyxy in pixels of the batch, not clipped.
        logits, scores: [N, M, K], as in `Candidates`.
        origins: [M, 4], anchors or cells.
        counts: number of places of each level; levels lie one after another.
        encoded: what the boxes are decoded from, if each is decoded on its own.
    """

    boxes: Tensor
    logits: Tensor
    scores: Tensor
    origins: Tensor
    counts: Sequence[int]
    encoded: Encoded | None = None

    @classmethod
    def decoded(
        cls, encoded: Encoded, logits: Tensor, scores: Tensor, origins: Tensor, counts: Sequence[int]
    ) -> DenseCandidates:
        """Candidates whose boxes are decoded from `encoded`."""
        return cls(encoded.boxes(), logits, scores, origins, counts, encoded)

    def of_images(self, sizes: Sequence[Size]) -> list[Candidates]:
        """The candidates of each image, clipped to its size (height, width) in the batch."""
        device = self.boxes.device
        levels = torch.arange(len(self.counts), device=device).repeat_interleave(
            torch.tensor(list(self.counts), device=device), output_size=self.boxes.shape[1]
        )
        rows = zip(self.boxes, self.logits, self.scores, sizes, strict=True)
        return [
            Candidates(clip_boxes_to_image(box, size)[:, None], logit, score, self.origins, levels)
            for box, logit, score, size in rows
        ]


@dataclass(frozen=True)
class Selection:
    """How detections are selected from candidates, in this order.

    Attributes:
        min_score: candidates with this score or a lower one are removed.
        candidates: maximum number of pairs (row, class), by score; None for no limit.
        candidates_per: what this limit holds for: a "level", a "class", or the whole "image".
        min_size: boxes with a shorter side, in pixels of the batch, are removed.
        method: "nms"; "soft_nms" and "matrix_nms", which lower scores instead of removing boxes, so that detections
            have lower scores than their candidates; or "merging", which averages boxes and adds scores, so that
            detections differ from candidates.
        nms_iou: IoU above which a box is suppressed by a box of higher score; None without suppression.
        max_detections: maximum number of detections per image; None for no limit.
        per_class: whether boxes only suppress boxes of the same class.
        per_level: whether boxes only suppress boxes of the same level, as in region proposal networks.
        decay: how "matrix_nms" and "soft_nms" lower scores, see `sightline.ops.matrix_nms`.
        sigma: width of the Gaussian of these methods.
    """

    min_score: float = 0.0
    candidates: int | None = None
    candidates_per: Literal["level", "class", "image"] = "level"
    min_size: float = 0.0
    method: Method = "nms"
    nms_iou: float | None = 0.5
    max_detections: int | None = 100
    per_class: bool = True
    per_level: bool = False
    decay: Literal["gaussian", "linear"] = "gaussian"
    sigma: float = 0.5


@torch.no_grad()
def select(candidates: Candidates, selection: Selection) -> tuple[Tensor, Tensor]:
    """Select detections by non-maximum suppression.

    Args:
        candidates: of one image.
        selection: of the same model.

    Returns:
        Rows and classes of the detections, [D] int64 each, by descending score.

    Raises:
        InputError: the model does not select by non-maximum suppression; see `Selection.method`.
    """
    if selection.method != "nms":
        raise InputError(
            f"detections are selected by {selection.method}, which changes scores or boxes; find the candidate of a "
            "detection with sightline.explain.targets.detected_box instead"
        )
    rows, classes = considered(candidates, selection)
    scores = candidates.scores[rows, classes]
    if selection.nms_iou is None:
        kept = scores.argsort(descending=True, stable=True)
    else:
        groups = suppression_groups(candidates, selection, rows, classes)
        kept = batched_nms(candidates.boxes_of(rows, classes), scores, groups, selection.nms_iou)
    kept = kept[: selection.max_detections]
    return rows[kept], classes[kept]


@torch.no_grad()
def considered(candidates: Candidates, selection: Selection) -> tuple[Tensor, Tensor]:
    """Rows and classes [P] int64 of the pairs that enter suppression: score, limit and size are sufficient."""
    rows, classes = (candidates.scores > selection.min_score).nonzero(as_tuple=True)
    if selection.candidates is not None:
        groups = {"level": candidates.levels[rows], "class": classes, "image": torch.zeros_like(rows)}
        kept = _best(candidates.scores[rows, classes], groups[selection.candidates_per], selection.candidates)
        rows, classes = rows[kept], classes[kept]
    boxes = candidates.boxes_of(rows, classes)
    large = (boxes[:, 2:] - boxes[:, :2] >= selection.min_size).all(1)
    return rows[large], classes[large]


def suppression_groups(candidates: Candidates, selection: Selection, rows: Tensor, classes: Tensor) -> Tensor:
    """[P] int64 group of each pair (row, class): boxes only suppress boxes of the same group."""
    groups = classes if selection.per_class else torch.zeros_like(classes)
    return groups + candidates.levels[rows] * candidates.logits.shape[1] if selection.per_level else groups


def _best(scores: Tensor, groups: Tensor, count: int) -> Tensor:
    """Positions of the `count` highest scores of each group."""
    parts = []
    for group in groups.unique():
        own = (groups == group).nonzero().flatten()
        parts.append(own[scores[own].topk(min(count, len(own))).indices])
    return torch.cat(parts) if parts else groups

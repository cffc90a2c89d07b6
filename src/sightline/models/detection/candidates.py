"""What a detector compares before it selects its detections: the input of explanations and of "why was it missed"."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """The boxes of one image before selection: M boxes, each with a score for each of K classes.

    Logits and boxes are differentiable with respect to the batch if gradients are enabled. Every detection is one
    candidate and one class, so (row, class) identifies it.

    Attributes:
        boxes: [M, K, 4] or [M, 1, 4] float, (x1, y1, x2, y2) in pixels of the batch, clipped to the image; one box per
            class, or one for all classes.
        logits: [M, K] float, class scores before the sigmoid or softmax. Columns are the model's classes.
        scores: [M, K] float in [0, 1], by which detections are selected; includes objectness or centre-ness if the
            model has it.
        origins: [M, 4] float, the anchor, cell or region that each box was regressed from, in pixels of the batch.
        levels: [M] int64, index of the feature map of each box; zeros for regions.
    """

    boxes: Tensor
    logits: Tensor
    scores: Tensor
    origins: Tensor
    levels: Tensor


@dataclass(frozen=True)
class Selection:
    """How detections are selected from candidates, in this order.

    Attributes:
        min_score: candidates with a lower score are removed.
        candidates: maximum number of candidates per level; None for no limit.
        nms_iou: IoU above which a box is suppressed by a box of higher score; None without suppression.
        max_detections: maximum number of detections per image; None for no limit.
        per_class: whether boxes only suppress boxes of the same class.
    """

    min_score: float = 0.0
    candidates: int | None = None
    nms_iou: float | None = 0.5
    max_detections: int | None = 100
    per_class: bool = True

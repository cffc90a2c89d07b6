"""The cause of each missed object of one image, from the candidates of the detector."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.trace import Traced, trace
from sightline.models.detection.candidates import Candidates, Selection, select
from sightline.models.detection.detector import Detector
from sightline.ops.boxes import box_iou
from sightline.structures import ImageBatch

NEVER_PREDICTED, NO_ORIGIN = "class never predicted", "no origin"
CAUSES = {
    "suppressed": "a box fits, but a box of higher score suppressed it",
    "top k": "a box fits, but there were more candidates or detections than the limit",
    "taken": "a box fits, but it was matched to another object of the class",
    NEVER_PREDICTED: "no box of its class reaches half of the score threshold in any image",
    NO_ORIGIN: "no anchor overlaps it enough, or no point lies inside it (for FCOS: of the level of its size)",
    "wrong class": "a box fits, but only another class reaches the threshold",
    "not proposed": "no region proposal overlaps it enough",
    "localization": "no box overlaps it enough after regression",
    "below threshold": "a box fits, but its score is too low",
}
"""The causes and their meanings, in the order in which they are tested: first whether the selection removed a box that
fits, then what went wrong before it."""
_OVERLAPS = 0.1
"""IoU from which a detection counts as what was found instead of an object."""


def tests_before(first: str, second: str) -> bool:
    """Whether a cause is tested before another."""
    names = list(CAUSES)
    return names.index(first) < names.index(second)


@dataclass(frozen=True)
class Rules:
    """When an object is found.

    Attributes:
        threshold: minimum score of a detection.
        iou: minimum IoU of a detection, or a proposal, and its object.
        origin_iou: minimum IoU of an anchor and an object that it fits.
    """

    threshold: float
    iou: float
    origin_iou: float


@dataclass(frozen=True)
class ImageView:
    """What a detector computes for one image, in pixels of the batch.

    Attributes:
        model: the detector.
        candidates, selection: its candidates, and how it selects from them.
        proposals, proposal_selection: the same of its region proposal network; None without one.
        boxes, classes, scores: its detections, by descending score: [D, 4], [D], [D].
    """

    model: Detector
    candidates: Candidates
    selection: Selection
    proposals: Candidates | None
    proposal_selection: Selection | None
    boxes: Tensor
    classes: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Finding:
    """A missed object and its cause; the attributes are those of `sightline.explain.missed.Missed`.

    Boxes are in pixels of the batch; `origin` has 0 or 4 elements, and `instead_class` is a class id.
    """

    object: int
    cause: str
    text: str
    figures: dict[str, float]
    row: int
    class_id: int
    origin: Tensor | None = None
    level: int = 0
    instead: Tensor | None = None
    instead_class: int = -1
    instead_score: float | None = None


@torch.no_grad()
def views(model: Detector, batch: ImageBatch) -> list[ImageView]:
    """What a detector computes for each image of a batch."""
    candidates, selection = model.candidates(batch), model.selection()
    proposals: Sequence[Candidates | None] = [None] * len(batch)
    proposal_selection = None
    if model.origin == "region":
        with suppress(InputError):  # unless its regions come from elsewhere, such as selective search
            proposals, proposal_selection = model.proposal_candidates(batch), model.proposal_selection()
    found = []
    results = model.batch_results(batch) if selection.method != "nms" else [None] * len(batch)
    for i, (own, of_network, result) in enumerate(zip(candidates, proposals, results, strict=True)):
        if result is None:
            rows, classes = select(own, selection)
            boxes, scores = own.boxes_of(rows, classes), own.scores[rows, classes]
        else:  # boxes or scores of detections are not those of candidates
            result = result[result.scores.argsort(descending=True)]
            boxes, classes, scores = batch.in_batch(result.boxes, i), result.labels, result.scores
        found.append(ImageView(model, own, selection, of_network, proposal_selection, boxes, classes, scores))
    return found


@torch.no_grad()
def missed_in(view: ImageView, boxes: Tensor, labels: Tensor, counts: Tensor, rules: Rules) -> list[Finding]:
    """The objects of an image that no detection finds, with their causes.

    Args:
        view: the image.
        boxes: [G, 4] all objects in pixels of the batch.
        labels: [G] int64 class ids of the model.
        counts: [G] bool, on the CPU; objects that do not count are neither found nor missed.
        rules: when an object is found.
    """
    objects = (counts & ~found_objects(view, boxes, labels, counts, rules)).nonzero().flatten()
    if not len(objects):
        return []
    at = objects.to(boxes.device)
    return _Causes(view, boxes[at], labels[at], rules).findings(objects.tolist())


def found_objects(view: ImageView, boxes: Tensor, labels: Tensor, counts: Tensor, rules: Rules) -> Tensor:
    """[G] bool, on the CPU: whether a detection is matched to each object. By descending score, each detection takes
    the free object of its class with the highest IoU."""
    likely = view.scores >= rules.threshold
    overlaps = box_iou(view.boxes[likely], boxes).cpu()
    overlaps = overlaps * ((view.classes[likely][:, None] == labels).cpu() & counts)
    found = torch.zeros(len(boxes), dtype=torch.bool)
    for detection in (overlaps >= rules.iou).any(1).nonzero().flatten().tolist() if len(boxes) else []:
        overlap, best = overlaps[detection].masked_fill(found, -1).max(0)
        if overlap >= rules.iou:
            found[best] = True
    return found


class _Causes:
    """The causes of G missed objects of an image, computed together."""

    def __init__(self, view: ImageView, boxes: Tensor, labels: Tensor, rules: Rules):
        self.view, self.rules, self.labels = view, rules, labels
        self.names = view.model.classes
        self.traced = trace(view.candidates, view.selection, boxes, labels, rules.threshold, rules.iou)
        self.proposed: Traced | None = None
        if view.proposals is not None and view.proposal_selection is not None:
            column = torch.zeros_like(labels)
            self.proposed = trace(view.proposals, view.proposal_selection, boxes, column, 0, rules.iou)
        self.origins, self.regions = self._origins(boxes)
        self.wrong_score, self.wrong_row, self.wrong_class = self._wrong(boxes)
        self.nearby = box_iou(view.boxes, boxes) * (view.scores >= rules.threshold)[:, None]

    def _origins(self, boxes: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """[G] the best IoU of an anchor, or 1 if a point fits and else 0; and the best IoU of a region.

        None for what the detector does not have.
        """
        origins, kind = self.view.candidates.origins, self.view.model.origin
        if kind == "cell":
            return self.view.model.points_fit(self.view.candidates, boxes).float(), None
        best = _best_overlap(origins, boxes)
        if kind == "anchor":
            return best, None
        proposals = self.view.proposals
        return None if proposals is None else _best_overlap(proposals.origins, boxes), best

    def _wrong(self, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[G] the highest sufficient score of another class whose box fits, its row and its class; −1 for none."""
        candidates, labels = self.view.candidates, self.labels
        limit = max(self.rules.threshold, self.view.selection.min_score)
        rows, classes = (candidates.scores >= limit).nonzero(as_tuple=True)
        missing = torch.full_like(labels, -1)
        if not len(rows):
            return missing.float(), missing, missing
        fits = box_iou(candidates.boxes_of(rows, classes), boxes) >= self.rules.iou
        scores = candidates.scores[rows, classes][:, None].masked_fill(~fits | (classes[:, None] == labels), -1)
        score, best = scores.max(0)
        return score, rows[best], classes[best]

    def findings(self, objects: list[int]) -> list[Finding]:
        return [self._finding(i, number) for i, number in enumerate(objects)]

    def _finding(self, i: int, number: int) -> Finding:
        t, candidates = self.traced, self.view.candidates
        fits = bool(t.score[i] >= 0)
        cause, text, further = self._cause(i)
        figures = {"iou": float(t.overlap[i])} | ({"score": float(t.score[i])} if fits else {}) | further
        row, label = int(t.row[i] if fits else t.nearest[i]), int(self.labels[i])
        instead, instead_class, instead_score = self._detected(i)
        other = (-1, -1)
        if cause == "suppressed":
            other = int(t.by_row[i]), int(t.by_class[i])
        elif cause == "wrong class":
            other = int(self.wrong_row[i]), int(self.wrong_class[i])
        if other[0] >= 0:
            row, label = other
            instead, instead_class = candidates.boxes[row, label if candidates.boxes.shape[1] > 1 else 0], label
            instead_score = float(candidates.scores[row, label])
        if row < 0:
            return Finding(number, cause, text, figures, row, label)
        origin, level = candidates.origins[row], int(candidates.levels[row])
        return Finding(number, cause, text, figures, row, label, origin, level, instead, instead_class, instead_score)

    def _detected(self, i: int) -> tuple[Tensor | None, int, float | None]:
        """The box, class and score of the detection that overlaps an object most, if any does."""
        view = self.view
        overlap, best = self.nearby[:, i].max(0) if len(self.nearby) else (0.0, 0)
        if overlap < _OVERLAPS:
            return None, -1, None
        return view.boxes[best], int(view.classes[best]), float(view.scores[best])

    def _cause(self, i: int) -> tuple[str, str, dict[str, float]]:
        """Cause, sentence and additional figures of object i, in the order of `CAUSES`."""
        t, rules, name = self.traced, self.rules, self.names[int(self.labels[i])]
        score, overlap = float(t.score[i]), float(t.overlap[i])
        if t.end[i] != "unlikely":
            return self._removed(i, name, score)
        if self.origins is not None and not self._origin_fits(i):
            best = float(self.origins[i])
            if self.view.model.origin == "cell":
                return NO_ORIGIN, "no point of the model's maps fits it", {}
            text = f"no anchor overlaps it by {rules.origin_iou:.2f}; the best by {best:.2f}"
            return NO_ORIGIN, text, {"origin_iou": best}
        if self.wrong_score[i] >= 0:
            other, wrong = self.names[int(self.wrong_class[i])], float(self.wrong_score[i])
            text = f"it is taken for {other} ({wrong:.2f}); its score for {name} is {max(score, 0):.2f}"
            return "wrong class", text, {"wrong_score": wrong}
        if self.regions is not None and self.regions[i] < rules.iou:
            best = float(self.regions[i])
            text = f"no proposal overlaps it by {rules.iou:.2f}; the best by {best:.2f}"
            return "not proposed", text + self._why_not_proposed(i), {"proposal_iou": best}
        if score < 0:
            return "localization", f"the best box for {name} overlaps it by {overlap:.2f}, not {rules.iou:.2f}", {}
        text = f"a box fits, but its score for {name} is {score:.2f}, below {self._limit():.2f}"
        return "below threshold", text, {}

    def _limit(self) -> float:
        return max(self.rules.threshold, self.view.selection.min_score)

    def _origin_fits(self, i: int) -> bool:
        assert self.origins is not None
        needed = 0.5 if self.view.model.origin == "cell" else self.rules.origin_iou
        return bool(self.origins[i] >= needed)

    def _removed(self, i: int, name: str, score: float) -> tuple[str, str, dict[str, float]]:
        """The cause of an object with a box that fits and has a sufficient score."""
        t, s = self.traced, self.view.selection
        box = f"its box ({name} {score:.2f})"
        if t.end[i] == "candidates":
            return "top k", f"{box} is not among the {s.candidates} best candidates per {s.candidates_per}", {}
        if t.end[i] == "detections":
            return "top k", f"{box} is not among the {s.max_detections} best detections", {}
        if t.end[i] == "selected":
            return "taken", f"{box} was matched to another {name}", {}
        if t.by_row[i] < 0:
            return "suppressed", f"{box} was removed or lowered by {s.method}", {}
        by, by_class = int(t.by_row[i]), int(t.by_class[i])
        by_score, shared = float(self.view.candidates.scores[by, by_class]), float(t.by_overlap[i])
        text = f"{box} was suppressed by a box of {self.names[by_class]} ({by_score:.2f}): their IoU is {shared:.2f}"
        limit = "" if s.nms_iou is None else f", above {s.nms_iou:.2f}"
        return "suppressed", text + limit, {"by_score": by_score, "by_iou": shared}

    def _why_not_proposed(self, i: int) -> str:
        p, s = self.proposed, self.view.proposal_selection
        if p is None or s is None:
            return ""
        score = float(p.score[i])
        ends = {
            "unlikely": f" (no anchor's box overlaps it by more than {float(p.overlap[i]):.2f})"
            if score < 0
            else f" (the objectness {score:.2f} is too low)",
            "candidates": f" (the objectness {score:.2f} is not among the {s.candidates} best per {s.candidates_per})",
            "suppressed": f" (its proposal, of objectness {score:.2f}, was suppressed by another one)",
            "detections": f" (the objectness {score:.2f} is not among the {s.max_detections} best)",
            "selected": "",
        }
        return ends[p.end[i]]


def _best_overlap(origins: Tensor, boxes: Tensor) -> Tensor:
    """[G] the highest IoU of any origin [M, 4] with each box [G, 4]."""
    return box_iou(origins, boxes).amax(0) if len(origins) else boxes.new_zeros(len(boxes))

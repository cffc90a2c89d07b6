"""One detected box: its class score before suppression, and its box regression; and a proposal's objectness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.d_rise import DetectionSimilarity
from sightline.explain.target import Box, Target, as_box, prepared
from sightline.models.detection.candidates import Candidates, select
from sightline.models.detection.detector import Detector
from sightline.models.model import Model
from sightline.ops.boxes import box_iou
from sightline.structures import ImageBatch, Instances
from sightline.words import counted, did_you_mean, listed

SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class DetectedBox(Target):
    """The class score of one candidate of a detector, before the sigmoid or softmax and before suppression.

    A detector that scores regions scores the same region in every changed image, so that the score means the same.

    Attributes:
        row, class_id: the candidate and its class, see `Candidates`.
        region: the region that is scored, in pixels of the batch; None for a detector without regions.
        level: index of the feature map that the candidate was predicted from.
        box: the box in pixels of the original image.
        batch_box: the box in pixels of the batch.
        frame: as in `Target`.
        number: position among the detections; None if the candidate is none of them.
        likelihood: the score in the unchanged image, in [0, 1].
    """

    row: int
    class_id: int
    region: Box | None = None
    level: int = 0
    box: Box | None = None
    batch_box: Box | None = None
    frame: Box | None = None
    number: int | None = None
    likelihood: float | None = None
    quantity = "logit"

    def candidates(self, model: Detector, batch: ImageBatch) -> tuple[list[Candidates], int]:
        """The candidates of each image of a batch, and the row of this one."""
        if self.region is None:
            return model.candidates(batch), self.row
        region = torch.tensor([self.region], device=batch.tensor.device, dtype=torch.float32)
        return model.candidates(batch, [region] * len(batch)), 0

    def score(self, model: Detector, batch: ImageBatch) -> Tensor:
        found, row = self.candidates(model, batch)
        return torch.stack([own.logits[row, self.class_id] for own in found])

    def similarity(self, model: Detector, batch: ImageBatch) -> DetectionSimilarity:
        """The target of D-RISE: the similarity of the candidates of changed images to this one.

        Args:
            model: the detector.
            batch: the unchanged image.
        """
        with torch.no_grad():
            (own,), row = self.candidates(model, batch)
        return DetectionSimilarity.of(own, row, self.class_id)

    def describe(self, model: Model) -> str:
        name = model.classes[self.class_id]
        value = "" if self.likelihood is None else f" ({self.likelihood:.2f})"
        return f"candidate {self.row}: {name}{value}" if self.number is None else f"box {self.number}: {name}{value}"


@dataclass(frozen=True)
class BoxDeltas(Target):
    """How far the box regression moves the sides of a box from its anchor, cell or region, in pixels of the batch.

    Attributes:
        of: the box.
        side: "left", "top", "right" or "bottom"; None for the sum over all sides.
        signs: for each side, whether it was moved to the right or down (1) or to the left or up (−1).
    """

    of: DetectedBox
    side: str | None = None
    signs: tuple[float, float, float, float] = (1, 1, 1, 1)
    quantity = "pixels"

    @property
    def box(self) -> Box | None:  # type: ignore[override]
        return self.of.box

    @property
    def level(self) -> int:  # type: ignore[override]
        return self.of.level

    @property
    def frame(self) -> Box | None:  # type: ignore[override]
        return self.of.frame

    def score(self, model: Detector, batch: ImageBatch) -> Tensor:
        found, row = self.of.candidates(model, batch)
        at = [own.boxes[row, self.of.class_id if own.boxes.shape[1] > 1 else 0] - own.origins[row] for own in found]
        moved = torch.stack(at) * torch.tensor(self.signs, device=at[0].device, dtype=at[0].dtype)
        return moved.sum(1) if self.side is None else moved[:, SIDES.index(self.side)]

    def describe(self, model: Model) -> str:
        return f"{self.side or 'all'} side{'' if self.side else 's'} of {self.of.describe(model)}"


@dataclass(frozen=True)
class Objectness(Target):
    """The objectness of a region proposal before the sigmoid, and before suppression.

    Attributes:
        row: the anchor, see `Detector.proposal_candidates`.
        level: index of its feature map.
        box: the proposal in pixels of the original image.
        number: position among the proposals.
        likelihood: the objectness in the unchanged image, in [0, 1].
    """

    row: int
    level: int = 0
    box: Box | None = None
    number: int = 0
    likelihood: float | None = field(default=None, compare=False)
    quantity = "logit"

    def score(self, model: Detector, batch: ImageBatch) -> Tensor:
        return torch.stack([own.logits[self.row, 0] for own in model.proposal_candidates(batch)])

    def describe(self, model: Model) -> str:
        value = "" if self.likelihood is None else f" ({self.likelihood:.2f})"
        return f"objectness of proposal {self.number}{value}"


@torch.no_grad()
def detected_box(model: Model, image: Tensor, index: int) -> DetectedBox:
    """Find a detection again among the candidates.

    Args:
        model: a detector, in the mode in which it predicted.
        image: [C, H, W], uint8 or float in [0, 1].
        index: position among the detections of `model([image])`, best first.

    Raises:
        InputError: the model predicted fewer boxes.
    """
    detector = require_detector(model)
    batch = prepared(model, image)
    result = detector.batch_results(batch)[0]
    require_index(index, len(result), "object", "box")
    return box_of_result(detector, batch, result, index)


@torch.no_grad()
def candidate_box(model: Model, image: Tensor, class_id: int | None = None, row: int | None = None) -> DetectedBox:
    """A candidate as a target, whether it was detected or not.

    Args:
        model: a detector.
        image: [C, H, W], uint8 or float in [0, 1].
        class_id: the class; None for that of the highest score.
        row: the candidate; None for that of the highest score.
    """
    detector = require_detector(model)
    batch = prepared(model, image)
    (own,) = detector.candidates(batch)
    if not len(own):
        raise InputError(f"{model.title} has no candidate boxes in this image; explain another image")
    scores = own.scores if row is None else own.scores[row : row + 1]
    best = scores if class_id is None else scores[:, class_id : class_id + 1]
    place, column = divmod(int(best.argmax()), best.shape[1])
    return _target(detector, batch, own, row or place, column if class_id is None else class_id, None)


def box_of_result(model: Detector, batch: ImageBatch, result: Instances, index: int) -> DetectedBox:
    """Like `detected_box`, for the result of a batch of one image.

    The candidate has the class and the box of the detection, and among several such the nearest score. Where boxes are
    merged, it is the best candidate that overlaps the detection.
    """
    class_id, score = int(result.labels[index]), float(result.scores[index])
    (own,) = model.candidates(batch)
    boxes = own.boxes[:, class_id if own.boxes.shape[1] > 1 else 0].float()
    left, top, right, bottom = batch.frame(0)
    low = boxes.new_tensor([left, top, left, top])
    boxes = boxes.maximum(low).minimum(boxes.new_tensor([right, bottom, right, bottom]))
    box = batch.in_batch(result.boxes[index].float())
    scores = own.scores[:, class_id]
    if model.selection().method == "merging":
        overlap = box_iou(box[None], boxes)[0].nan_to_num()
        row = int((scores * (overlap >= overlap.max().clamp(max=0.5))).argmax())
    else:
        apart = (boxes - box).abs().amax(1)
        near = apart <= apart.min() + 1e-2
        row = int((scores - score).abs().masked_fill(~near, torch.inf).argmin())
    return _target(model, batch, own, row, class_id, index)


def _target(
    model: Detector, batch: ImageBatch, own: Candidates, row: int, class_id: int, number: int | None
) -> DetectedBox:
    box = own.boxes[row, class_id if own.boxes.shape[1] > 1 else 0].float()
    region = own.origins[row].float() if model.scores_regions else None
    frame = None if region is None else model.region_frame(region)
    return DetectedBox(
        row,
        class_id,
        None if region is None else as_box(region),
        int(own.levels[row]),
        as_box(in_image(box, batch)),
        as_box(box),
        None if frame is None else as_box(frame),
        number,
        float(own.scores[row, class_id]),
    )


@torch.no_grad()
def proposal(model: Model, image: Tensor, index: int = 0) -> Objectness:
    """The proposal at a position among those of a region proposal network, best first.

    Raises:
        InputError: the model has no such network, or proposed fewer regions.
    """
    detector = require_detector(model)
    batch = prepared(model, image)
    (own,) = detector.proposal_candidates(batch)
    rows, _ = select(own, detector.proposal_selection())
    require_index(index, len(rows), "region", "proposal")
    row = int(rows[index])
    box = as_box(in_image(own.boxes[row, 0].float(), batch))
    return Objectness(row, int(own.levels[row]), box, index, float(own.scores[row, 0]))


def deltas_of(box: DetectedBox, model: Detector, batch: ImageBatch, side: str | None = None) -> BoxDeltas:
    """The box regression of a box, with the direction in which each side was moved in the unchanged image.

    Args:
        box: the box.
        model: the detector.
        batch: the unchanged image.
        side: as in `BoxDeltas`.

    Raises:
        InputError: there is no such side.
    """
    if side is not None and side not in SIDES:
        hint = did_you_mean(side, SIDES, f"the sides are {', '.join(SIDES)}")
        raise InputError(f"a box has no side {side!r}; {hint}")
    with torch.no_grad():
        (own,), row = box.candidates(model, batch)
        moved = own.boxes[row, box.class_id if own.boxes.shape[1] > 1 else 0] - own.origins[row]
    left, top, right, bottom = torch.where(moved < 0, -1.0, 1.0).tolist()
    return BoxDeltas(box, side, (left, top, right, bottom))


def require_detector(model: Model) -> Detector:
    """The model as a detector.

    Raises:
        InputError: it is not a detector.
    """
    if isinstance(model, Detector):
        return model
    raise InputError(f"{model.title} is a model of task {model.task!r}, which predicts no boxes; explain a class of it")


def require_index(index: int, count: int, what: str, word: str) -> None:
    """Check a position among the predictions.

    Raises:
        InputError: it is not one of them.
    """
    if 0 <= index < count:
        return
    if not count:
        raise InputError(
            f"the model found no {what} in this image, so {word} {index} cannot be explained; lower its min_score, or "
            "name a class, whose best candidate is explained"
        )
    last = f"{word} 0" if count == 1 else f"0 to {count - 1}"
    raise InputError(
        f"the model found {counted(count, what)}, {last}; {word} {index} is not one of them; give one of these, or "
        "lower the model's min_score to find more"
    )


def in_image(box: Tensor, batch: ImageBatch) -> Tensor:
    """A box [4] in pixels of a batch of one image → pixels of the original image, clipped to it."""
    height, width = batch.original_sizes[0]
    return batch.in_image(box).clamp(min=0).minimum(box.new_tensor([width, height, width, height]))


def best_box(model: Model, image: Tensor, words: Sequence[str] = ()) -> DetectedBox:
    """The target of the words "class:NAME", or of none: the best detection (of this class), else the best candidate."""
    detector = require_detector(model)
    class_id = model.classes.id(":".join(words)) if words else None
    with torch.no_grad():
        batch = prepared(model, image)
        result = detector.batch_results(batch)[0]
        of_class = torch.ones_like(result.labels, dtype=torch.bool) if class_id is None else result.labels == class_id
        if of_class.any():
            return box_of_result(detector, batch, result, int(of_class.nonzero()[0]))
    return candidate_box(model, image, class_id)


def whole_number(text: str, word: str) -> int:
    """The position in "box:3".

    Raises:
        InputError: it is not a whole number from 0.
    """
    if not text.isascii() or not text.isdigit():
        raise InputError(f"{word}:{text} does not say which; give a number from 0, such as {word}:0 for the best")
    return int(text)


def box_target(model: Model, image: Tensor, words: Sequence[str]) -> Target:
    """The target of the words "box:0", "box:0:delta" (all sides) or "box:0:left"."""
    number, *rest = words
    box = detected_box(model, image, whole_number(number, "box"))
    if not rest:
        return box
    if len(rest) > 1 or rest[0] not in ("delta", *SIDES):
        known = ["delta", *SIDES]
        hint = did_you_mean(rest[0], known, f"give {listed(known)}")
        raise InputError(f"box:{number} has no {':'.join(rest)!r}; {hint}")
    side = None if rest[0] == "delta" else rest[0]
    return deltas_of(box, require_detector(model), prepared(model, image), side)


def proposal_target(model: Model, image: Tensor, words: Sequence[str]) -> Objectness:
    """The target of the words "proposal:0"."""
    return proposal(model, image, whole_number(":".join(words), "proposal"))


def best_proposal(model: Model, image: Tensor) -> Objectness:
    """The proposal with the highest objectness."""
    return proposal(model, image)

"""Why was it missed? Follows each labelled object that a detector does not find, and names what stopped it.

An object is found if a detection of its class with a sufficient score and IoU is matched to it, as in COCO's protocol.
For each other object the causes are tested in the order of `sightline.explain.missed_causes.CAUSES`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sightline.data.kinds import kind_of_target
from sightline.errors import InputError
from sightline.explain.features import batches, chosen_rows
from sightline.explain.missed_causes import (
    CAUSES,
    NEVER_PREDICTED,
    NO_ORIGIN,
    Finding,
    Rules,
    missed_in,
    tests_before,
    views,
)
from sightline.models.detection.detector import Detector
from sightline.models.model import Model
from sightline.runtime.values import require_number
from sightline.structures import Instances
from sightline.words import counted

_HARDLY_ANY = 0.8
"""Share of a class's missed objects without a fitting anchor or point, above which that remains their cause."""


@dataclass(frozen=True)
class Missed:
    """An object that a detector does not find.

    Attributes:
        image: index of the image in the data set.
        name: name of the image.
        object: index of the object among those of the image.
        class_name: class of the object.
        box: (x1, y1, x2, y2) of the object in pixels of the image.
        cause: a key of `CAUSES`.
        text: the cause with its figures, as a sentence.
        figures: the figures by name: "iou" of the best box, its "score", "origin_iou", …
        row, class_id: the candidate that says most about the cause: what was found instead, else the best box.
        origin: (x1, y1, x2, y2) of its anchor, cell or region in pixels of the batch; None without candidates.
        level: index of its feature map.
        instead: (x1, y1, x2, y2) of the box that was found instead, in pixels of the image; None if there is none.
        instead_class: class of this box; "" if there is none.
        instead_score: its score; None if there is none.
    """

    image: int
    name: str
    object: int
    class_name: str
    box: tuple[float, float, float, float]
    cause: str
    text: str
    figures: dict[str, float]
    row: int
    class_id: int
    origin: tuple[float, float, float, float] | None = None
    level: int = 0
    instead: tuple[float, float, float, float] | None = None
    instead_class: str = ""
    instead_score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class MissedObjects:
    """The objects of a data set that a detector does not find.

    Attributes:
        missed: one record per object, in the order of the images.
        objects: number of objects that count; crowds and difficult objects do not.
        images: number of images.
        threshold, iou: minimum score and IoU of a detection.
    """

    missed: list[Missed]
    objects: int
    images: int
    threshold: float
    iou: float

    @property
    def counts(self) -> dict[str, int]:
        """Number of objects per cause, in the order of `CAUSES`; causes without objects are left out."""
        found = Counter(record.cause for record in self.missed)
        return {cause: found[cause] for cause in CAUSES if found[cause]}

    def of_cause(self, cause: str) -> list[Missed]:
        """The records of a cause."""
        return [record for record in self.missed if record.cause == cause]

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON."""
        records = [record.to_dict() for record in self.missed]
        return {name: getattr(self, name) for name in ("objects", "images", "threshold", "iou", "counts")} | {
            "missed": records
        }

    def __str__(self) -> str:
        head = (
            f"{len(self.missed)} of {counted(self.objects, 'object')} in {counted(self.images)} are missed "
            f"(score ≥ {self.threshold:.3g}, IoU ≥ {self.iou:.2f})"
        )
        lines = [f"{count:6}  {cause}: {CAUSES[cause]}" for cause, count in self.counts.items()]
        return "\n".join([head, *lines])


def missed_objects(
    model: Model,
    data: Any,
    *,
    threshold: float = 0.5,
    iou: float = 0.5,
    origin_iou: float = 0.5,
    limit: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> MissedObjects:
    """Find the labelled objects that a detector misses, and the cause of each.

    Args:
        model: a detector.
        data: images with objects as labels. Classes are matched by name.
        threshold: minimum score of a detection.
        iou: minimum IoU of a detection and its object.
        origin_iou: minimum IoU of an anchor that fits an object. A detector without anchors has a point in each cell,
            which fits an object if it lies inside.
        limit: maximum number of images, chosen by `seed`; None for all.
        batch_size: images per batch.
        seed: seed of the choice of images.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.

    Raises:
        InputError: the model is not a detector or does not expose its candidates, or the labels are not objects.
        ClassMismatch: the data has classes that the model does not know.
    """
    if not isinstance(model, Detector):
        raise InputError(f"{model.title} is no detector, so it misses no objects; give a model of task detection")
    threshold = require_number("threshold", threshold, 0, 1, what="a score")
    iou = require_number("iou", iou, 0.01, 1, what="an IoU")
    origin_iou = require_number("origin_iou", origin_iou, 0, 1, what="an IoU")
    if any(name not in model.classes for name in data.classes):
        data.classes.require_same(model.classes, "the data", "the model")
    ids = torch.tensor([model.classes.id(name) for name in data.classes], dtype=torch.int64)
    rows = chosen_rows(data, limit, seed)
    rules = Rules(threshold, iou, origin_iou)
    records: list[Missed] = []
    highest = torch.full((len(model.classes),), -1.0)
    total = 0
    parts = batches(model, data, rows, "following objects", batch_size=batch_size, device=device, progress=progress)
    for chosen, batch in parts:
        for i, (row, view) in enumerate(zip(chosen, views(model, batch), strict=True)):
            target = _required(data.target(row))
            counts = ~(_flag(target, "crowd") | _flag(target, "difficult"))
            total += int(counts.sum())
            if len(view.candidates):
                highest = torch.maximum(highest, view.candidates.scores.amax(0).float().cpu())
            boxes = batch.in_batch(target.boxes.to(batch.tensor.device, torch.float32), i)
            labels = ids[target.labels.cpu()].to(boxes.device)
            for finding in missed_in(view, boxes, labels, counts, rules):
                instead = None if finding.instead is None else batch.in_image(finding.instead, i)
                records.append(_record(finding, instead, target, row, data.name(row), model))
    records.sort(key=lambda record: (record.image, record.object))
    lowest = max(threshold, model.selection().min_score) / 2
    unseen = {name: float(score) for name, score in zip(model.classes, highest, strict=True) if score < lowest}
    for name, score in unseen.items():
        records = _of_class(records, name, score)
    return MissedObjects(records, total, len(rows), threshold, iou)


def _record(
    finding: Finding, instead: Tensor | None, target: Instances, row: int, name: str, model: Detector
) -> Missed:
    return Missed(
        image=row,
        name=name,
        object=finding.object,
        class_name=target.names()[finding.object],
        box=_corners(target.boxes[finding.object]),
        cause=finding.cause,
        text=finding.text,
        figures=finding.figures,
        row=finding.row,
        class_id=finding.class_id,
        origin=None if finding.origin is None else _corners(finding.origin),
        level=finding.level,
        instead=None if instead is None else _corners(instead),
        instead_class="" if instead is None else model.classes[finding.instead_class],
        instead_score=finding.instead_score,
    )


def _corners(box: Tensor) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2, y2


def _of_class(records: list[Missed], name: str, highest: float) -> list[Missed]:
    """The records, with the cause of a whole class if no box of the class comes close to the threshold anywhere.

    If anchors or points fit hardly any of its objects, this is why the class is never predicted, and remains the cause.
    """
    own = [record for record in records if record.class_name == name and tests_before(NEVER_PREDICTED, record.cause)]
    without = sum(record.cause == NO_ORIGIN for record in own)
    kept = NO_ORIGIN if without > _HARDLY_ANY * len(own) else ""
    text = f"the highest score for {name} in all images is {max(highest, 0):.2f}, so none of its objects can be found"
    return [
        replace(
            record,
            cause=NEVER_PREDICTED,
            text=f"{text}; of this one: {record.text}",
            figures={**record.figures, "highest": max(highest, 0.0)},
        )
        if record.class_name == name and tests_before(NEVER_PREDICTED, record.cause) and record.cause != kept
        else record
        for record in records
    ]


def _required(target: Any) -> Any:
    kind = kind_of_target(target)
    if kind is None or not kind.has_objects:
        raise InputError(f"the labels are {type(target).__name__}, but only objects can be missed by a detector")
    return target


def _flag(target: Instances, name: str) -> Tensor:
    return target.fields[name].cpu() if name in target else torch.zeros(len(target), dtype=torch.bool)

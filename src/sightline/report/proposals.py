"""The report of proposals: recall by IoU threshold and by number, metrics of each class, gallery."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from sightline.evaluation.proposals import COUNTS
from sightline.ops.boxes import box_iou
from sightline.report import plots, sections
from sightline.report.base import Evaluation, GalleryImage, Part, TaskReport
from sightline.report.colours import class_colour, css
from sightline.report.drawing import draw
from sightline.report.page import bar, number, sentence, table
from sightline.runtime.entries import NUMBER
from sightline.structures import Instances
from sightline.words import counted

_OVERLAPS = ("0.50", "0.70", "0.90")
_FOUND = 0.5 - 1e-12
"""Minimum IoU for an object to count as found."""
_NO_RECALL = "There are no curves: they were not saved, or there are no objects in these labels."


class ProposalReport(TaskReport):
    """The report of proposals: boxes that may contain an object of any class."""

    meanings = {f"recall50@{n}": f"fraction of objects found at IoU 0.50 by the best {n} proposals" for n in COUNTS} | {
        f"AR@{n}": f"fraction found by the best {n} proposals, mean over IoU 0.50 to 0.95" for n in COUNTS
    }
    entries = {**dict.fromkeys(("objects?", "detections?"), int), "recall?": {str: {str: NUMBER}}}
    class_entries = {"objects": int}

    def parts(self) -> tuple[Part, ...]:
        return (
            self.metrics,
            Part("recall-overlap", "Recall by IoU threshold", by_overlap),
            Part("recall-number", "Recall by number of proposals", by_number),
            Part("classes", "Classes", classes),
        )

    def counts(self, result: Evaluation) -> Sequence[str]:
        if "objects" not in result:
            return ()
        return counted(result["objects"], "object"), counted(result["detections"], "proposal")

    def in_words(self, result: Evaluation) -> str:
        if not result.get("recall"):
            return ""
        count = "300" if "300" in result["recall"] else list(result["recall"])[-1]
        row = result["recall"][count]
        return f"With {count} proposals per image {100 * row['0.50']:.0f} % of the objects are found at IoU 0.50."

    def explain(self, result: Any) -> str:
        return (
            f"Beside the labels, each object has that one of the image's best {result.ranked_at} proposals with the "
            "largest IoU, which is shown. Missed objects are dashed: no proposal has an IoU of at least 0.50."
        )

    def best_first(self, result: Any, worst_first: Sequence[int]) -> Sequence[int]:
        """Images without objects are left out."""
        return [i for i in worst_first if not math.isnan(result.image_recall[i])][::-1]

    def show(self, result: Any, position: int, image: Any, size: int) -> GalleryImage:
        """Draw the labels, and the best proposal of each object."""
        target = result.targets[position].to("cpu")
        boxes = result.predictions[position].boxes.cpu()[: result.ranked_at]
        nearest = torch.zeros(len(target), dtype=torch.int64)
        overlap = torch.zeros(len(target))
        if len(target) and len(boxes):
            overlap, nearest = box_iou(target.boxes, boxes).max(1)
        crowd = target.crowd if "crowd" in target else torch.zeros(len(target), dtype=torch.bool)
        missed = (overlap < _FOUND) & ~crowd
        remarks = ["missed" if gone else "ignored" if many else None for gone, many in zip(missed, crowd, strict=True)]
        there = (overlap > 0) & ~crowd
        fields: dict[str, Any] = {"boxes": boxes[nearest[there]], "scores": overlap[there]}
        if "labels" in target:
            fields["labels"] = target.labels[there]
        shown = Instances.unchecked(target.image_size, classes=target.classes, **fields)
        dashed = ["below 0.50" if gone else None for gone in missed[there]]
        pictures = [
            ("labels", draw(image, target, size=size, scale=1.5, remarks=remarks)),
            ("best proposals", draw(image, shown, size=size, scale=1.5, remarks=dashed)),
        ]
        objects = int((~crowd).sum())
        if not objects:
            return GalleryImage(pictures, "· no object counts")
        words = f"· {objects - int(missed.sum())} of {counted(objects, 'object')} found · mean IoU "
        return GalleryImage(
            pictures, words + f"{float(overlap[~crowd].mean()):.2f} · {counted(len(boxes), 'proposal')}"
        )


def by_overlap(result: Evaluation | None) -> str:
    """Curves and a table for each number of proposals."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("recall"):
        return sentence(_NO_RECALL)
    rows = [
        [count, *(number(row.get(overlap)) for overlap in _OVERLAPS), number(sum(row.values()) / len(row))]
        for count, row in result["recall"].items()
    ]
    heads = ("proposals", *(f"IoU {overlap}" for overlap in _OVERLAPS), "average recall")
    return (
        '<p class="soft">The fraction of objects that a proposal overlaps with at least this IoU.</p>'
        + plots.inline_svg(plots.recall_by_overlap(result["recall"]), "Recall by overlap")
        + table(heads, rows)
    )


def by_number(result: Evaluation | None) -> str:
    """Curves for several IoU thresholds."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("recall"):
        return sentence(_NO_RECALL)
    drawn = [overlap for overlap in _OVERLAPS if all(overlap in row for row in result["recall"].values())]
    figure = plots.recall_by_number(result["recall"], drawn)
    return (
        '<p class="soft">The fraction of objects found by the best proposals of each image, by their number.</p>'
        + plots.inline_svg(figure, "Recall by number of proposals")
    )


def classes(result: Evaluation | None) -> str:
    """One row per class, by descending recall."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("per_class"):
        return sentence("There are no metrics of single classes.")
    reasons, ids = result.get("reasons", {}), sections.ids_of(result)
    columns = [name for name in next(iter(result["per_class"].values())) if name != "objects"]
    rows = [
        [
            sections.class_name(name, ids),
            bar(row[columns[0]], css(class_colour(ids.get(name, 0)))),
            *(number(row.get(column), reasons.get(f"{name}/{column}")) for column in columns),
            str(row["objects"]),
        ]
        for name, row in sections.ranked(result, columns[0])
    ]
    return sections.folded(("class", "", *columns, "objects"), rows)

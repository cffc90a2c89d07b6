"""The report of dense video captioning: metrics by temporal IoU, gallery with the bars of time of both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.evaluation.caption_scores import caption_score
from sightline.evaluation.events import EVENT_METRICS, OVERLAPS, RIGHT
from sightline.ops.intervals import interval_iou
from sightline.report import sections
from sightline.report.base import Evaluation, GalleryImage, Part, TaskReport
from sightline.report.drawing import draw
from sightline.report.page import number, sentence, table
from sightline.words import counted

_BY_OVERLAP = ("caption_score", "recall", "precision")


class EventReport(TaskReport):
    """The report of events in videos."""

    cards = (*_BY_OVERLAP, "caption_score_matched", "exact", "caption_score_blind")
    meanings = EVENT_METRICS
    entries = {"events?": int, "predictions?": int}
    explanation = (
        "Below a strip of frames is a bar of time for each event. Behind a predicted caption stand the temporal IoU "
        "with the nearest labelled event and the score of the caption by that event’s sentence."
    )

    def parts(self) -> tuple[Part, ...]:
        return self.metrics, Part("overlaps", "Temporal IoU", overlaps)

    def counts(self, result: Evaluation) -> Sequence[str]:
        if "events" not in result:
            return ()
        return counted(result["events"], "event"), counted(result["predictions"], "prediction")

    def show(self, result: Any, position: int, image: Any, size: int) -> GalleryImage:
        """Draw labels and predictions; each prediction with its IoU and its caption score."""
        target, prediction = result.targets[position], result.predictions[position]
        remarks = None
        if len(target):
            best, event = interval_iou(prediction.times.double(), target.times.double()).max(1)
            remarks = [
                f"IoU {iou:.2f}, caption {caption_score(words, [target.captions[own]]):.2f}" if iou > 0 else "IoU 0"
                for iou, own, words in zip(best.tolist(), event.tolist(), prediction.captions, strict=True)
            ]
        sides = [
            ("labels", draw(image, target, size=size)),
            ("prediction", draw(image, prediction, size=size, remarks=remarks)),
        ]
        place = result.captions[position].mean()
        score = f"· caption score {place:.2f}" if place == place else "· no events"
        return GalleryImage(sides, score)


def overlaps(result: Evaluation | None) -> str:
    """One row per temporal IoU."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    metrics = result["metrics"]
    rows = [
        [f"{overlap:g}", *(number(metrics.get(f"{name}@{overlap:g}")) for name in _BY_OVERLAP)] for overlap in OVERLAPS
    ]
    heads = ("temporal IoU", "caption score", "recall", "precision")
    threshold = result.get("threshold")
    below = f"F1 on these videos at IoU {RIGHT:g} is highest for events with a score of at least {threshold or 0:.3g}."
    return table(heads, rows) + (sentence(below) if threshold is not None else "")

"""The report of dense captioning: precision by thresholds of place and language, and regions with their captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sightline.evaluation.blind_captions import is_exact
from sightline.evaluation.caption_matching import LANGUAGE, OVERLAPS, match
from sightline.evaluation.dense_captions import MEANINGS, RIGHT
from sightline.evaluation.result import shown_threshold
from sightline.report import sections
from sightline.report.base import Evaluation, GalleryImage, Part, TaskReport
from sightline.report.drawing import draw
from sightline.report.page import number, sentence, table
from sightline.runtime.entries import NUMBER
from sightline.words import counted


class DenseCaptionReport(TaskReport):
    """The report of models that describe regions."""

    cards = ("mAP", "box_mAP", "caption_score", "caption_score_blind", "exact", "recall50")
    meanings = MEANINGS
    entries = {**dict.fromkeys(("objects?", "detections?"), int), "precision?": {str: {str: NUMBER}}}

    def parts(self) -> tuple[Part, ...]:
        return self.metrics, Part("thresholds", "Precision by thresholds", thresholds)

    def counts(self, result: Evaluation) -> Sequence[str]:
        if "objects" not in result:
            return ()
        return counted(result["objects"], "described region"), counted(result["detections"], "detection")

    def in_words(self, result: Evaluation) -> str:
        known = result["metrics"]
        found, score, blind, exact = map(known.get, ("recall50", "caption_score", "caption_score_blind", "exact"))
        if found is None or score is None:
            return ""
        beside = "" if blind is None else f", where the best single sentence for all regions would score {blind:.2f}"
        right = "" if exact is None else f"; {100 * exact:.0f} % of them are exactly right"
        return (
            f"{100 * found:.0f} % of the regions are found at IoU 0.50; their captions score {score:.2f} on average"
            f"{beside}{right}."
        )

    def explain(self, result: Any) -> str:
        return (
            "Regions that were not found, and wrong detections, are dashed. A detection is right with an IoU of at "
            f"least {RIGHT[0]:.2f} and a caption score above {RIGHT[1]:.2f}. Only detections with a score of at least "
            f"{shown_threshold(result):.3g} are shown."
        )

    def best_first(self, result: Any, worst_first: Sequence[int]) -> Sequence[int]:
        """Images without regions and detections are left out."""
        return [i for i in worst_first if not math.isnan(result.image_f1[i])][::-1]

    def show(self, result: Any, position: int, image: Any, size: int) -> GalleryImage:
        """Draw the labels and the detections with their captions; missed regions and wrong detections are dashed."""
        target, prediction = result.targets[position], result.predictions[position]
        shown = prediction[prediction.scores >= shown_threshold(result)]
        own = match(target, shown)
        remarks: list[str | None] = ["ignored"] * len(shown)
        found: set[int] = set()
        for row, place in enumerate(own.places.tolist()):
            remarks[place] = _remark(own.overlaps[row], own.language[row], bool(own.first[row]))
            if remarks[place] is None:
                found |= {*own.groups[int(own.nearest[row])]}
        counting = {place for group in own.groups for place in group}
        missed = [None if i in found else "missed" if i in counting else "ignored" for i in range(len(target))]
        wrong = sum(remark not in (None, "ignored") for remark in remarks)
        right = remarks.count(None)
        exact = sum(
            remarks[place] is None and is_exact(shown.captions[place], [target.captions[i] for i in own.groups[group]])
            for place, group in zip(own.places.tolist(), own.nearest.tolist(), strict=True)
        )
        words = f"· F1 {result.image_f1[position]:.2f} · {right} right ({exact} word for word) · {wrong} wrong"
        lost = sum(not found & {*group} for group in own.groups)
        pictures = [
            ("labels", draw(image, target, size=size, scale=1.5, remarks=missed)),
            ("prediction", draw(image, shown, size=size, scale=1.5, remarks=remarks)),
        ]
        return GalleryImage(pictures, words + (f" · {lost} missed" if lost else ""))


def _remark(overlap: float, language: float, first: bool) -> str | None:
    """What is wrong with a detection, or None."""
    if overlap < RIGHT[0]:
        return "wrong place"
    if not first:
        return "duplicate"
    return None if language > RIGHT[1] else "wrong words"


def thresholds(result: Evaluation | None) -> str:
    """A table of the average precision by minimum IoU and minimum caption score."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("precision"):
        return sentence("There is no table: it was not saved, or no region of these labels is described.")
    heads = ("IoU", "any caption", *(f"score > {score:g}" for score in LANGUAGE))
    names = ("any", *(f"{score:g}" for score in LANGUAGE))
    rows = [
        [f"{overlap:g}", *(number(row.get(name)) for name in names)]
        for overlap in OVERLAPS
        for row in [result["precision"].get(f"{overlap:g}", {})]
    ]
    return (
        '<p class="soft">The average precision of the detections with at least this IoU and a caption whose score '
        "exceeds this. The mAP is the mean of all but the first column of figures. Scores are those of "
        "sightline.evaluation.caption_scores, which are not those of the Java program METEOR.</p>" + table(heads, rows)
    )

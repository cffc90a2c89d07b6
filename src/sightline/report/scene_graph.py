"""The report of scene graphs: recall in the three protocols, recall of each predicate, images with their graphs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sightline.evaluation.result import shown_threshold
from sightline.evaluation.scene_graphs import COUNTS, MEANINGS, PROTOCOLS
from sightline.report import sections
from sightline.report.base import Evaluation, GalleryImage, Part, TaskReport
from sightline.report.drawing import draw
from sightline.report.page import bar, esc, number, sentence, table
from sightline.runtime.entries import OPTIONAL_NUMBER
from sightline.words import counted

_KINDS = (
    ("R", "recall, one predicate per pair"),
    ("mR", "mean recall of predicates, one per pair"),
    ("zR", "recall of combinations not seen in training, one predicate per pair"),
    ("ngR", "recall, without graph constraint"),
    ("ngmR", "mean recall of predicates, without graph constraint"),
    ("ngzR", "recall of combinations not seen in training, without graph constraint"),
)


class SceneGraphReport(TaskReport):
    """The report of scene graphs."""

    cards = ("PredCls/ngR@50", "SGCls/ngR@50", "SGDet/ngR@50", "PredCls/R@50", "SGDet/R@50", "AP50")
    meanings = MEANINGS
    entries = {"relations?": int}
    class_entries = {"relations": int, **{f"{protocol}/ngR@50": OPTIONAL_NUMBER for protocol in PROTOCOLS}}
    explanation = (
        "Beside each image is the graph of its objects; arrows go from the subject to the object. Of the predicted "
        "relations, those whose predicate has a probability of at least one half are drawn, between the objects above "
        "the threshold."
    )

    def parts(self) -> tuple[Part, ...]:
        return (
            self.metrics,
            Part("protocols", "Protocols", protocols),
            Part("predicates", "Predicates", predicates),
        )

    def counts(self, result: Evaluation) -> Sequence[str]:
        return (counted(result["relations"], "relation"),) if "relations" in result else ()

    def in_words(self, result: Evaluation) -> str:
        value = result["metrics"].get("SGDet/ngR@50")
        if value is None:
            return ""
        return (
            f"With 50 relations per image {100 * value:.0f} % of the labelled relations are found from the image alone."
        )

    def best_first(self, result: Any, worst_first: Sequence[int]) -> Sequence[int]:
        """Images without relations are left out."""
        return [i for i in worst_first if not math.isnan(result.image_recall[i])][::-1]

    def show(self, result: Any, position: int, image: Any, size: int) -> GalleryImage:
        """Draw labels and prediction, each beside its graph."""
        target, prediction = result.targets[position], result.predictions[position]
        prediction = prediction[prediction.scores >= shown_threshold(result)]
        sides = (("labels", target), ("prediction", prediction))
        pictures = [(what, draw(image, own, size=size, scale=1.2)) for what, own in sides]
        recall = result.image_recall[position]
        return GalleryImage(pictures, "" if math.isnan(recall) else f"· SGDet/ngR@50 {recall:.2f}")


def protocols(result: Evaluation | None) -> str:
    """Recall in each protocol, by the number of relations."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    metrics, reasons = result["metrics"], result.get("reasons", {})
    heads = ("", *(f"{protocol} @{k}" for protocol in PROTOCOLS for k in COUNTS))
    rows = []
    for kind, words in _KINDS:
        names = [f"{protocol}/{kind}@{k}" for protocol in PROTOCOLS for k in COUNTS]
        title = f'<b>{kind}</b><br><span class="text soft">{esc(words)}</span>'
        rows.append([title, *(number(metrics.get(name), reasons.get(name)) for name in names)])
    return (
        '<p class="soft">PredCls: boxes and classes of the objects are given; SGCls: boxes; SGDet: only the image. A '
        "relation is found if one of the best predicted ones has its predicate, and the same class and a box of IoU at "
        "least 0.50 for both objects.</p>" + table(heads, rows)
    )


def predicates(result: Evaluation | None) -> str:
    """One row per predicate, the most frequent first."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("per_class"):
        return sentence("There are no relations in these labels.")
    reasons = result.get("reasons", {})
    columns = [f"{protocol}/ngR@50" for protocol in PROTOCOLS]
    rows = [
        [
            esc(name),
            bar(row[columns[0]], "var(--accent)"),
            *(number(row[column], reasons.get(f"{name}/{column}")) for column in columns),
            str(row["relations"]),
        ]
        for name, row in result["per_class"].items()
    ]
    return sections.folded(("predicate", "", *(name.replace("/", " ") for name in columns), "relations"), rows)

"""The report of cuboids: metrics, recall by IoU, classes, and a gallery in perspective and from above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sightline.evaluation.cuboids import MEANINGS, SINGLE, in_words
from sightline.report import sections
from sightline.report.base import Evaluation, GalleryImage, Part, TaskReport
from sightline.report.colours import class_colour, css
from sightline.report.drawing import draw
from sightline.report.files import REPAIR
from sightline.report.page import bar, number, sentence, table
from sightline.runtime.entries import OPTIONAL_NUMBER, require_entries
from sightline.words import counted


class CuboidReport(TaskReport):
    """The report of cuboids."""

    meanings = MEANINGS
    entries = {
        **dict.fromkeys(("objects?", "detections?"), int),
        "operating_point?": (dict, type(None)),
        "recalls?": {str: OPTIONAL_NUMBER},
    }
    class_entries = {"AP3D": OPTIONAL_NUMBER, "objects": int, "detections": int}

    def parts(self) -> tuple[Part, ...]:
        return (
            self.metrics,
            Part("classes", "Classes", classes),
            Part("recall-overlap", "Recall by 3-D IoU", recalls),
        )

    def require(self, values: Evaluation, where: str) -> None:
        if values.get("operating_point"):
            require_entries(values["operating_point"], {str: OPTIONAL_NUMBER}, where, REPAIR, "operating_point")

    def counts(self, result: Evaluation) -> Sequence[str]:
        if "objects" not in result:
            return ()
        return counted(result["objects"], "object"), counted(result["detections"], "detection")

    def in_words(self, result: Evaluation) -> str:
        return in_words(result.get("operating_point") or {}, saved=sections.has_saved_threshold(result))

    def explain(self, result: Any) -> str:
        return (
            "Each drawing has the edges of the cuboids in the image and, to the right, their outlines from above: the "
            "camera is at the bottom and looks up, and the lines of the grid are labelled with the distance. Objects "
            "that were not found at a 3-D IoU of 0.25, and wrong cuboids, are dashed. Only cuboids with a score of at "
            f"least {result.operating_point.score:.3g} are shown."
        )

    def show(self, result: Any, position: int, image: Any, size: int) -> GalleryImage:
        """Draw missed objects and wrong cuboids dashed; those below the operating point are left out."""
        rows = result.rows
        shown, matched, taker = result.outcome
        own = np.flatnonzero(rows.objects.image == position)
        found = np.flatnonzero(rows.detections.image == position)
        missed = [None if taker[i] >= 0 else "missed" if rows.counted[i] else "ignored" for i in own.tolist()]
        kept = [k for k, row in enumerate(found.tolist()) if shown[row]]
        states = [int(matched[found[k]]) for k in kept]
        wrong = [None if state >= 0 else "wrong" if state == -1 else "ignored" for state in states]
        target, prediction = result.targets[position], result.predictions[position]
        pictures = [
            ("labels", draw(image, target, size=size, scale=1.5, remarks=missed)),
            ("prediction", draw(image, prediction[kept], size=size, scale=1.5, remarks=wrong)),
        ]
        words = [f"F1 {result.image_f1[position]:.2f}", f"{sum(state >= 0 for state in states)} correct"]
        words += [f"{missed.count('missed')} missed"] if "missed" in missed else []
        words += [f"{wrong.count('wrong')} wrong"] if "wrong" in wrong else []
        return GalleryImage(pictures, "· " + " · ".join(words))


def classes(result: Evaluation | None) -> str:
    """One row per class, the best first."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("per_class"):
        return sentence("There are no metrics of single classes.")
    reasons, ids = result.get("reasons", {}), sections.ids_of(result)
    ranked = sections.ranked(result, "AP3D")
    kitti = list(dict.fromkeys(name for _, row in ranked for name in row if name.startswith("KITTI_")))
    columns = ("AP3D", *SINGLE, *kitti)
    rows = [
        [
            sections.class_name(name, ids),
            bar(row["AP3D"], css(class_colour(ids.get(name, 0)))),
            *(number(row.get(column), reasons.get(f"{name}/{column}")) for column in columns),
            str(row["objects"]),
            str(row["detections"]),
        ]
        for name, row in ranked
    ]
    heads = ("class", "", *(column.replace("_", " ") for column in columns), "objects", "detections")
    return sections.folded(heads, rows)


def recalls(result: Evaluation | None) -> str:
    """The fraction of objects found at each threshold."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("recalls"):
        return sentence("There is no recall: the evaluation was saved without its details.")
    rows = [[at, bar(value, "var(--accent)"), number(value)] for at, value in result["recalls"].items()]
    return (
        '<p class="soft">The fraction of objects that a cuboid of their class overlaps with at least this 3-D IoU, '
        "over all scores.</p>" + table(("3-D IoU", "", "recall"), rows)
    )

"""The report of an image classifier: metrics with intervals, classes, confusion, calibration, gallery."""

from __future__ import annotations

from typing import Any

from sightline.errors import InputError
from sightline.evaluation.classification import CLASSIFICATION_METRICS
from sightline.report import plots, sections
from sightline.report.base import Evaluation, GalleryImage, Part, TaskReport
from sightline.report.colours import class_colour, css
from sightline.report.drawing import draw
from sightline.report.files import REPAIR, require_matrix
from sightline.report.page import bar, esc, number, sentence
from sightline.runtime.entries import NUMBER, OPTIONAL_NUMBER
from sightline.structures import ClassScores


class ClassificationReport(TaskReport):
    """The report of image classification."""

    cards = ("top1", "top5", "balanced_accuracy", "macro_F1", "ECE")
    meanings = CLASSIFICATION_METRICS
    entries = {
        "confusion?": (list, type(None)),
        "other?": [int],
        "confusions?": [[(str, int)]],
        "calibration?": [
            {"from": NUMBER, "to": NUMBER, "images": int, "confidence": OPTIONAL_NUMBER, "accuracy": OPTIONAL_NUMBER}
        ],
    }
    class_entries = {**dict.fromkeys(("precision", "recall", "F1"), OPTIONAL_NUMBER), "support": int, "predicted": int}
    explanation = (
        "Wrong predictions come first, by descending confidence. The five best classes are below the image; a tick "
        "marks the labelled one."
    )

    def parts(self) -> tuple[Part, ...]:
        return (
            self.metrics,
            Part("classes", "Classes", classes),
            Part("confusion", "Confusion matrix", confusion),
            Part("calibration", "Calibration", calibration),
        )

    def require(self, values: Evaluation, where: str) -> None:
        require_matrix(values, "confusion", "classes", where)
        if values.get("confusion") and len(values.get("other", values["confusion"])) != len(values["confusion"]):
            raise InputError(f"the entry 'other' of {where} must have one number per class; {REPAIR}")

    def in_words(self, result: Evaluation) -> str:
        share, interval = result["metrics"].get("top1"), (result.get("intervals") or {}).get("top1")
        if share is None:
            return ""
        between = f" (95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f} %)" if interval else ""
        return f"{100 * share:.1f} %{between} of the images are classified correctly."

    def show(self, result: Any, position: int, image: Any, size: int) -> GalleryImage:
        """Draw the image with the scores of its best classes; the labelled class is marked."""
        prediction, label = result.predictions[position], result.classes[int(result.label[position])]
        known = prediction.classes or result.classes
        own = known.index(label) if label in known else None
        both = ClassScores(prediction.image_size, own, prediction.scores, known)
        name, confidence = result.predicted_names[position], float(result.confidence[position])
        right = "correct: " if name == label else f"labelled {label}, predicted "
        drawn = draw(image, both, size=size, scale=1.5)
        return GalleryImage([("prediction", drawn)], f"· {right}{name} {confidence:.2f}")


def classes(result: Evaluation | None) -> str:
    """One row per class, the best first."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("per_class"):
        return sentence("There are no metrics of single classes.")
    reasons, ids = result.get("reasons", {}), sections.ids_of(result)
    columns = ("F1", "precision", "recall")
    rows = [
        [
            sections.class_name(name, ids),
            bar(row["F1"], css(class_colour(ids.get(name, 0)))),
            *(number(row.get(column), reasons.get(f"{name}/{column}")) for column in columns),
            str(row["support"]),
            str(row["predicted"]),
        ]
        for name, row in sections.ranked(result, "F1")
    ]
    return sections.folded(("class", "", *columns, "labelled", "predicted"), rows)


def confusion(result: Evaluation | None) -> str:
    """The confusion matrix and the most frequent confusions."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    counts, names = result.get("confusion"), result.get("classes", [])
    if not counts and not result.get("confusions"):
        return sentence("There is no confusion matrix: the evaluation was saved without its details.")
    out = ""
    if counts:
        others = result.get("other") or [0] * len(names)  # images predicted as classes that the labels do not have
        totals = [max(sum(row) + other, 1) for row, other in zip(counts, others, strict=True)]
        out = '<p class="soft">Rows are the labels, columns the predictions, entries numbers of images.</p>'
        if len(names) <= sections.MATRIX:
            out += sections.matrix(counts, names, totals=totals)
        else:
            out += plots.inline_svg(plots.confusion_picture(counts, names, totals), "Confusion matrix")
    most = [(a, b, str(count)) for a, b, count in (result.get("confusions") or ())[:10]]
    none = "No image was predicted as another class."
    return out + sections.mistakes(most, ("label", "prediction", "images"), none)


def calibration(result: Evaluation | None) -> str:
    """The reliability diagram: whether the confidence equals the fraction of correct predictions."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    bins = result.get("calibration")
    if not bins:
        why = result.get("reasons", {}).get("ECE") or "the evaluation was saved without its details"
        return sentence(f"There is no reliability diagram: {why}.")
    error = result["metrics"].get("ECE")
    gap = "" if error is None else f" The mean difference is {100 * error:.1f} percentage points (ECE)."
    figures = {
        "Reliability diagram": plots.reliability_diagram(bins),
        "Images by confidence": plots.confidence_histogram(bins),
    }
    drawn = "".join(f"<div><h3>{esc(title)}</h3>{plots.inline_svg(f, title)}</div>" for title, f in figures.items())
    words = "Of predictions with a confidence of 0.8, 80 % should be correct: the bars then end on the dashed line."
    return f'<p class="soft">{esc(words + gap)}</p><div class="grid">{drawn}</div>'

"""The report of an object detector: metrics, curves, confusion, error types, gallery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.evaluation.detection import MEANINGS
from sightline.evaluation.errors import DETECTION_ERRORS, ERROR_MEANINGS, in_words
from sightline.report import plots, sections
from sightline.report.base import Evaluation, GalleryImage, Part, TaskReport
from sightline.report.colours import class_colour, css
from sightline.report.drawing import draw
from sightline.report.files import REPAIR, require_matrix
from sightline.report.page import bar, esc, number, sentence, table
from sightline.runtime.entries import NUMBER, OPTIONAL_NUMBER, require_entries
from sightline.words import counted

_ERRORS = {
    "score": NUMBER,
    "iou": NUMBER,
    "counts": dict.fromkeys((*DETECTION_ERRORS, "missed", "correct"), int),
    "AP50_gains?": {str: NUMBER},
    "confusion?": (list, type(None)),
    "confusion_labels?": (list, type(None)),
    "confusions?": [list],
}
_SHAPES = ("mask/AP", "mask/AP50", "keypoint/AP", "keypoint/AP50")
_VOC = ("VOC2007_AP50", "VOC2010_AP50")


class DetectionReport(TaskReport):
    """The report of object detection: boxes, and masks and keypoints if they were evaluated."""

    cards = ("AP", "AP50", "AP75", *_SHAPES, *_VOC)
    meanings = MEANINGS
    entries = {
        **dict.fromkeys(("objects?", "detections?"), int),
        "operating_point?": (dict, type(None)),
        "curves?": {str: {"recall": [NUMBER], "precision": [NUMBER]}},
    }
    class_entries = {"AP": OPTIONAL_NUMBER, "objects": int, "detections": int}

    def parts(self) -> tuple[Part, ...]:
        return (
            self.metrics,
            Part("classes", "Classes", classes),
            Part("precision-recall", "Precision and recall", precision_recall),
            Part("confusion", "Confusion matrix", confusion),
            Part("errors", "Error types", error_kinds),
        )

    def require(self, values: Evaluation, where: str) -> None:
        errors = values.get("errors")
        if errors is not None:
            _rename_old_types(errors)
            require_entries(errors, _ERRORS, where, REPAIR, "errors")
            require_matrix(errors, "confusion", "confusion_labels", where, "errors.")
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
            "Objects that were not found, and wrong detections, are dashed; wrong detections are marked with their "
            f"error type. Only detections with a score of at least {result.errors().score:.3g} are shown."
        )

    def show(self, result: Any, position: int, image: Any, size: int) -> GalleryImage:
        """Draw missed objects and wrong detections dashed; detections below the operating point are left out."""
        target, prediction, errors = result.targets[position], result.predictions[position], result.errors()
        found, kinds = errors.found(position), errors.kinds(position)
        missed = ["missed" if state is False else "ignored" if state is None else None for state in found]
        shown = [i for i, kind in enumerate(kinds) if kind]
        remarks = [None if kinds[i] == "correct" else kinds[i] for i in shown]
        parts = [f"F1 {errors.image_f1[position]:.2f}", f"{errors.correct[position]} correct"]
        if errors.missed[position]:
            parts.append(f"{errors.missed[position]} missed")
        if errors.false_positives[position]:
            wrong = [kind for kind in remarks if kind and kind != "ignored"]
            counts = ", ".join(f"{wrong.count(kind)} {kind}" for kind in dict.fromkeys(wrong))
            parts.append(f"{errors.false_positives[position]} wrong ({counts})")
        pictures = [
            ("labels", draw(image, target, size=size, scale=1.5, remarks=missed)),
            ("prediction", draw(image, prediction[shown], size=size, scale=1.5, remarks=remarks)),
        ]
        return GalleryImage(pictures, "· " + " · ".join(parts))


def _rename_old_types(errors: Any) -> None:
    """Rename the error type "place" in files of earlier versions to "localization"."""
    for name in ("counts", "AP50_gains"):
        entry = errors.get(name) if isinstance(errors, dict) else None
        if isinstance(entry, dict) and "place" in entry:
            entry["localization"] = entry.pop("place")


def classes(result: Evaluation | None) -> str:
    """One row per class, the best first."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("per_class"):
        return sentence("There are no metrics of single classes.")
    reasons, ids = result.get("reasons", {}), sections.ids_of(result)
    ranked = sections.ranked(result, "AP")
    shapes = [name for name in _SHAPES if name in ranked[0][1]]
    columns = ("AP", "AP50", "AP75", "AR100", *shapes, *_VOC)
    rows = [
        [
            sections.class_name(name, ids),
            bar(row["AP"], css(class_colour(ids.get(name, 0)))),
            *(number(row.get(column), reasons.get(f"{name}/{column}")) for column in columns),
            str(row["objects"]),
            str(row["detections"]),
        ]
        for name, row in ranked
    ]
    shape_heads = [name.replace("/", " ") for name in shapes]
    heads = ("class", "", "AP", "AP50", "AP75", "AR100", *shape_heads, "VOC 2007", "VOC 2010", "objects", "detections")
    return sections.folded(heads, rows)


def precision_recall(result: Evaluation | None) -> str:
    """One curve per class at IoU 0.50."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    if not result.get("curves"):
        return sentence("There are no curves: they were not saved, or no class has objects in these labels.")
    figure = plots.precision_recall_curves(result["curves"], sections.ids_of(result))
    return '<p class="soft">The precision of the detections at each recall (IoU 0.50, COCO).</p>' + plots.inline_svg(
        figure, "Precision and recall"
    )


def confusion(result: Evaluation | None) -> str:
    """The confusion matrix and the most frequent confusions."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    errors = result.get("errors")
    if not errors:
        return sentence("There is no confusion matrix: the evaluation was saved without its details.")
    out = (
        f'<p class="soft">Rows are the labels, columns the predictions with a score of at least {errors["score"]:.3g}, '
        f"at IoU {errors['iou']:.2f}. The last column counts objects that were not found, the last row detections "
        "without an object (or of an object already found).</p>"
    )
    counts, labels = errors.get("confusion"), errors.get("confusion_labels")
    if counts is not None and len(labels) - 1 <= sections.MATRIX:
        out += sections.matrix(counts, labels)
    elif counts is not None:
        out += plots.inline_svg(plots.confusion_picture(counts, labels), "Confusion matrix")
    most = [(a, b, str(count)) for a, b, count in (errors.get("confusions") or ())[:10]]
    none = "No object was predicted as another class."
    return out + sections.mistakes(most, ("label", "prediction", "count"), none)


def error_kinds(result: Evaluation | None) -> str:
    """The number of errors of each type, and their effect on AP50."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    errors = result.get("errors")
    if not errors:
        return sentence("There is no error analysis: the evaluation was saved without its details.")
    counts, gains = errors["counts"], errors.get("AP50_gains", {})
    most = max([counts[name] for name in (*DETECTION_ERRORS, "missed")] + [1])
    rows = [
        (
            f'<b>{esc(name)}</b><br><span class="text soft">{esc(ERROR_MEANINGS[name])}</span>',
            bar(counts[name] / most, "var(--bad)"),
            str(counts[name]),
            f"+{gains[name]:.3f}" if name in gains else "",
        )
        for name in (*DETECTION_ERRORS, "missed")
    ]
    return (
        f'<p class="soft">{counts["correct"]} detections with a score of at least {errors["score"]:.3g} are correct. '
        "The table lists the errors by type; the last column is the gain in AP50 (over all scores) if all errors of "
        "the type were corrected.</p>"
        + table(("type", "", f"count (score ≥ {errors['score']:.3g})", "AP50 gain (all scores)"), rows, left=2)
    )

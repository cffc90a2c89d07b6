"""The report of semantic segmentation: IoU by class, confusion, gallery with wrong pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from sightline.evaluation.boundaries import band_radius, boundary_pixels, dilate
from sightline.evaluation.segmentation import SEGMENTATION_METRICS
from sightline.report import plots, sections
from sightline.report.base import Evaluation, GalleryImage, Part, TaskReport
from sightline.report.colours import class_colour, css
from sightline.report.files import require_matrix
from sightline.report.page import bar, number, sentence
from sightline.report.pictures import PictureLike, as_picture, scaled_to
from sightline.runtime.entries import OPTIONAL_NUMBER
from sightline.structures import IGNORE, ClassMap

AWAY, AT_EDGES = (220, 50, 40), (250, 190, 40)
"""Colours of wrong pixels: away from boundaries, and near them."""


class SegmentationReport(TaskReport):
    """The report of class maps."""

    cards = tuple(SEGMENTATION_METRICS)
    meanings = SEGMENTATION_METRICS
    entries = {"pixels?": int, "confusions?": [[(str, int)]]}
    class_entries = {"IoU": OPTIONAL_NUMBER, "pixels": int, "predicted": int}
    explanation = (
        "Wrong pixels are yellow near a boundary of the labels, within 0.75 % of the diagonal, and red elsewhere; "
        "ignored pixels are dark."
    )

    def parts(self) -> tuple[Part, ...]:
        return (
            self.metrics,
            Part("classes", "Classes", classes),
            Part("confusion", "Confusion matrix", confusion),
        )

    def require(self, values: Evaluation, where: str) -> None:
        require_matrix(values, "confusion", "classes", where)

    def counts(self, result: Evaluation) -> Sequence[str]:
        return [f"{result['pixels']} labelled pixels"] if "pixels" in result else []

    def best_first(self, result: Any, worst_first: Sequence[int]) -> Sequence[int]:
        """Images whose pixels are all ignored are left out."""
        return [i for i in worst_first if not math.isnan(result.image_iou[i])][::-1]

    def show(self, result: Any, position: int, image: Any, size: int) -> GalleryImage:
        """Draw the two maps, and where they differ."""
        shown = super().show(result, position, image, size)
        wrong = mistakes(image, result.targets[position], result.predictions[position], size)
        return GalleryImage([*shown.pictures, ("mistakes", wrong)], caption(result, position))


def classes(result: Evaluation | None) -> str:
    """One row per class, the best first."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    reasons, ids = result.get("reasons", {}), sections.ids_of(result)
    columns = ("IoU", "Dice", "accuracy", "precision", "boundary_F")
    total = max(result.get("pixels", 0), 1)
    rows = [
        [
            sections.class_name(name, ids),
            bar(row["IoU"], css(class_colour(ids.get(name, 0)))),
            *(number(row.get(column), reasons.get(f"{name}/{column}")) for column in columns),
            *(f"{100 * row[key] / total:.1f} %" for key in ("pixels", "predicted")),
        ]
        for name, row in sections.ranked(result, "IoU")
    ]
    heads = ("class", "", *(column.replace("_", " ") for column in columns), "labelled", "predicted")
    return sections.folded(heads, rows)


def confusion(result: Evaluation | None) -> str:
    """The confusion matrix in percent of each class's pixels."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    matrix, names = result.get("confusion"), result["classes"]
    if not matrix:
        return sentence("There is no confusion matrix: the evaluation was saved without its details.")
    others = result.get("other") or [0] * len(names)  # pixels predicted as classes that the labels do not have
    totals = [max(sum(row) + other, 1) for row, other in zip(matrix, others, strict=True)]
    out = '<p class="soft">Rows are the labels, columns the predictions, entries percent of a label’s pixels.</p>'
    if len(names) <= sections.MATRIX:
        out += sections.matrix(matrix, names, percent=True, totals=totals)
    else:
        out += plots.inline_svg(plots.confusion_picture(matrix, names, totals), "Confusion matrix")
    of = dict(zip(names, totals, strict=True))
    most = [(a, b, f"{100 * count / of[a]:.1f} %") for a, b, count in (result.get("confusions") or ())[:10]]
    none = "No pixel was predicted as another class."
    return out + sections.mistakes(most, ("label", "prediction", "of the label’s pixels"), none)


def mistakes(image: PictureLike, target: ClassMap, prediction: ClassMap, size: int | None = None) -> Image.Image:
    """The image in grey with wrong pixels in colour: near a boundary of the labels `AT_EDGES`, elsewhere `AWAY`.

    Args:
        image: of the size of the maps.
        target, prediction: the maps; ignored pixels are darkened.
        size: longer side of the returned image, in pixels.
    """
    wrong, edge, counted = _wrong(target, prediction)
    picture = np.asarray(as_picture(image).convert("L").convert("RGB")).astype(np.float32) * 0.6 + 90
    picture[~counted] *= 0.4
    picture[wrong & ~edge] = AWAY
    picture[wrong & edge] = AT_EDGES
    return scaled_to(Image.fromarray(picture.clip(0, 255).astype(np.uint8)), size)


def caption(result: Any, position: int) -> str:
    """The caption of an image: its IoU, the fraction of wrong pixels, and how many of these are near boundaries."""
    wrong, edge, counted = _wrong(result.targets[position], result.predictions[position])
    if not counted.any():
        return "· all pixels are ignored"
    words = f"· mean IoU {result.image_iou[position]:.2f} · {100 * wrong.sum() / counted.sum():.1f} % wrong"
    return words + (f", {100 * (wrong & edge).sum() / wrong.sum():.0f} % of it near boundaries" if wrong.any() else "")


def _wrong(target: ClassMap, prediction: ClassMap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, found = target.labels.cpu().numpy(), prediction.labels.cpu().numpy()
    counted = labels != IGNORE
    return counted & (labels != found), dilate(boundary_pixels(labels), band_radius(labels.shape)), counted

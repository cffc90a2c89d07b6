"""What a report shows of class maps: IoU by class, pixels taken for others, and where an image is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from sightline.evaluation.segmentation import BAND, edges_of, near
from sightline.report import plots, sections
from sightline.report.colours import class_colour, css
from sightline.report.drawing import PictureLike, as_picture, scaled_to
from sightline.report.page import bar, esc, more, number, sentence, table
from sightline.structures import IGNORE, ClassMap

AWAY, AT_EDGES = (220, 50, 40), (250, 190, 40)
"""Colours of wrong pixels: away from boundaries, and near them."""


def classes(result: Mapping[str, Any] | None) -> str:
    """A row for each class, the best first."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    reasons = result.get("reasons", {})
    ids = {name: position for position, name in enumerate(result["classes"])}
    ranked = sorted(result["per_class"].items(), key=lambda row: (row[1]["IoU"] is None, -(row[1]["IoU"] or 0)))
    columns = ("IoU", "Dice", "accuracy", "precision", "boundary_F")
    total = max(result.get("pixels", 0), 1)
    rows = []
    for name, row in ranked:
        colour = css(class_colour(ids.get(name, 0)))
        shares = [f"{100 * row[key] / total:.1f} %" for key in ("pixels", "predicted")]
        cells = [number(row.get(column), reasons.get(f"{name}/{column}")) for column in columns]
        dot = f'<i class="dot" style="background:{colour}"></i>{esc(name)}'
        rows.append([dot, bar(row["IoU"], colour), *cells, *shares])
    heads = ("class", "", *(column.replace("_", " ") for column in columns), "labelled", "predicted")
    shown = table(heads, rows[: sections.ROWS], left=2)
    if len(rows) > sections.ROWS:
        shown += more(f"{len(rows) - sections.ROWS} more classes", table(heads, rows[sections.ROWS :], left=2))
    return shown


def confusion(result: Mapping[str, Any] | None) -> str:
    """Which classes are taken for which, in shares of each class's pixels."""
    if result is None:
        return sentence(sections.NOT_EVALUATED)
    matrix, names = result.get("confusion"), result["classes"]
    if not matrix:
        return sentence("There is no confusion matrix: the evaluation was stored without its details.")
    others = result.get("other") or [0] * len(names)  # pixels taken for classes that the labels do not have
    totals = [max(sum(row) + other, 1) for row, other in zip(matrix, others, strict=True)]
    out = '<p class="soft">Rows are the labels, columns the predictions, numbers the percent of a label’s pixels.</p>'
    if len(names) <= sections.MATRIX:
        out += sections.matrix(matrix, names, percent=True, totals=totals)
    else:
        out += plots.inline_svg(plots.confusion_picture(matrix, names, totals), "Confusion matrix")
    if result.get("confusions"):
        of = dict(zip(names, totals, strict=True))
        rows = [(esc(a), esc(b), f"{100 * count / of[a]:.1f} %") for a, b, count in result["confusions"][:10]]
        most = table(("label", "taken for", "of the label’s pixels"), rows, left=2)
        return f'{out}<h3>Most frequent mistakes</h3><div class="narrow">{most}</div>'
    return out + sentence("No pixel was taken for one of another class.")


def mistakes(image: PictureLike, target: ClassMap, prediction: ClassMap, size: int | None = None) -> Image.Image:
    """The image in grey with its wrong pixels in colour: those near a label's boundary in `AT_EDGES`, others in `AWAY`.

    Args:
        image: of the size of the maps.
        target, prediction: the maps; pixels that do not count are darkened.
        size: longer side of the picture, in pixels.
    """
    wrong, edge, counted = _wrong(target, prediction)
    picture = np.asarray(as_picture(image).convert("L").convert("RGB")).astype(np.float32) * 0.6 + 90
    picture[~counted] *= 0.4
    picture[wrong & ~edge] = AWAY
    picture[wrong & edge] = AT_EDGES
    return scaled_to(Image.fromarray(picture.clip(0, 255).astype(np.uint8)), size)


def caption(result: Any, position: int) -> str:
    """What is to be said of an image: its IoU, how much is wrong, and how much of that lies near boundaries."""
    wrong, edge, counted = _wrong(result.targets[position], result.predictions[position])
    if not counted.any():
        return "· no pixel counts"
    words = f"· mean IoU {result.image_iou[position]:.2f} · {100 * wrong.sum() / counted.sum():.1f} % wrong"
    return words + (f", {100 * (wrong & edge).sum() / wrong.sum():.0f} % of it near boundaries" if wrong.any() else "")


def _wrong(target: ClassMap, prediction: ClassMap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, found = target.labels.cpu().numpy(), prediction.labels.cpu().numpy()
    counted = labels != IGNORE
    reach = max(1, int(np.ceil(BAND * np.hypot(*labels.shape))))
    return counted & (labels != found), near(edges_of(labels), reach), counted

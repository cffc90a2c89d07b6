"""A wall of predictions beside labels, the worst first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sightline.errors import InputError
from sightline.report import maps
from sightline.report.drawing import draw
from sightline.report.page import esc, picture, sentence
from sightline.structures import ClassMap, Target


def wall(result: Any, data: Any, worst: int = 12, best: int = 4, size: int = 400) -> str:
    """HTML of the worst and the best images of an evaluation.

    Objects not found and wrong detections are dashed, with what is wrong with them; predictions below the operating
    point's score are left out.

    Args:
        result: an evaluation that kept its targets and predictions, with `worst_first()`.
        data: the dataset evaluated on, for the images.
        worst, best: how many of either.
        size: longer side of each picture, in pixels.
    """
    if result is None or getattr(result, "predictions", None) is None or getattr(result, "targets", None) is None:
        return sentence(
            "The predictions were not kept: write the report anew with the images (`sightline report RUN --data DATA`)."
        )
    if data is None:
        return sentence(
            "The images are not at hand: write the report anew with them (`sightline report RUN --data DATA`)."
        )
    if len(data) != len(result.targets):
        return sentence(
            f"The dataset holds {len(data)} images, but {len(result.targets)} were evaluated: give the same dataset."
        )
    if not hasattr(result, "worst_first"):
        return sentence("This kind of evaluation does not rank its images.")
    order = result.worst_first().tolist()
    first = order[:worst]
    if result.task == "segmentation":  # where no pixel counts nothing is good
        order = [i for i in order if not math.isnan(result.image_iou[i])]
    last = [i for i in order[::-1][:best] if i not in first]
    parts = []
    if result.task == "detection":
        parts.append(
            '<p class="soft">Dashed are objects that were not found, and wrong detections with what is wrong; '
            f"shown are detections with a score of at least {result.errors().score:.2f}.</p>"
        )
    if result.task == "segmentation":
        parts.append(
            '<p class="soft">Mistakes are yellow near a boundary of the labels, within 0.75 % of the diagonal, '
            "and red elsewhere; what does not count is dark.</p>"
        )
    for title, chosen in (("Worst first", first), ("And the best", last)):
        if chosen:
            entries = "".join(_entry(result, data, position, size) for position in chosen)
            parts.append(f'<h3>{title}</h3><div class="wall">{entries}</div>')
    return "".join(parts)


def _entry(result: Any, data: Any, position: int, size: int) -> str:
    name = result.names[position] if result.names else str(position)
    try:
        image = data.image(position)
        target, prediction, caption, remarks = _describe(result, position)
        sides = [
            picture(draw(image, side, size=size, scale=1.5, remarks=words), f"{name}: {what}")
            for side, words, what in zip((target, prediction), remarks, ("labels", "prediction"), strict=True)
        ]
        names = ["labels", "prediction"]
        if isinstance(target, ClassMap) and isinstance(prediction, ClassMap):
            names.append("mistakes")
            sides.append(picture(maps.mistakes(image, target, prediction, size), f"{name}: mistakes"))
    except InputError as error:
        return f"<figure>{sentence(str(error))}<figcaption><b>{esc(name)}</b></figcaption></figure>"
    shown = "".join(f"<div><small>{what}</small>{side}</div>" for what, side in zip(names, sides, strict=True))
    style = ' style="grid-template-columns:repeat(3,1fr)"' if len(names) == 3 else ""
    below = f"<figcaption><b>{esc(name)}</b> {esc(caption)}</figcaption>"
    return f'<figure><div class="pair"{style}>{shown}</div>{below}</figure>'


Remarks = Sequence[str | None] | None


def _describe(result: Any, position: int) -> tuple[Target, Target, str, tuple[Remarks, Remarks]]:
    """Target and prediction as they are to be drawn, a caption, and the remarks on either."""
    target, prediction = result.targets[position], result.predictions[position]
    if result.task == "segmentation":
        return target, prediction, maps.caption(result, position), (None, None)
    if result.task != "detection":
        return target, prediction, "", (None, None)
    errors = result.errors()
    found, kinds = errors.found(position), errors.kinds(position)
    target_remarks = ["missed" if state is False else "not counted" if state is None else None for state in found]
    shown = [i for i, kind in enumerate(kinds) if kind]
    prediction = prediction[shown]
    prediction_remarks = [None if kinds[i] == "correct" else kinds[i] for i in shown]
    parts = [f"F1 {errors.image_f1[position]:.2f}", f"{errors.correct[position]} right"]
    if errors.missed[position]:
        parts.append(f"{errors.missed[position]} missed")
    if errors.false_positives[position]:
        wrong = [kind for kind in prediction_remarks if kind and kind != "ignored"]
        counts = ", ".join(f"{wrong.count(kind)} {kind}" for kind in dict.fromkeys(wrong))
        parts.append(f"{errors.false_positives[position]} wrong ({counts})")
    return target, prediction, "· " + " · ".join(parts), (target_remarks, prediction_remarks)

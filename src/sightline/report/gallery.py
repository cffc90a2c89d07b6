"""The gallery of a report: predictions beside labels, the worst first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from sightline.errors import InputError
from sightline.report.base import TaskReport
from sightline.report.page import esc, picture, sentence

Why = Callable[[Any, int], Image.Image | None]
"""(image, longer side in pixels) → a picture of what the prediction for the image depends on; None without one."""


def gallery(
    result: Any,
    data: Any,
    report: TaskReport,
    worst: int = 12,
    best: int = 4,
    size: int = 400,
    why: Why | None = None,
) -> str:
    """HTML of the worst and the best images of an evaluation.

    Args:
        result: an evaluation that kept its targets and predictions, with `worst_first()`.
        data: the dataset that was evaluated, for the images.
        report: draws the task's labels and predictions.
        worst, best: number of images of each kind.
        size: longer side of each drawing, in pixels.
        why: draws the explanation beside each of the worst predictions; None for no explanations.
    """
    if result is None or getattr(result, "predictions", None) is None or getattr(result, "targets", None) is None:
        return sentence(
            "The predictions were not kept: write the report again with the images "
            "(`sightline report RUN --data DATA`)."
        )
    if data is None:
        return sentence(
            "The images are not available: write the report again with them (`sightline report RUN --data DATA`)."
        )
    if len(data) != len(result.targets):
        return sentence(
            f"The dataset holds {len(data)} images, but {len(result.targets)} were evaluated: give the same dataset."
        )
    if not hasattr(result, "worst_first"):
        return sentence("This kind of evaluation does not rank its images.")
    order = [int(position) for position in result.worst_first()]
    first = order[:worst]
    last = [i for i in report.best_first(result, order)[:best] if i not in first]
    explanation = report.explain(result)
    parts = [f'<p class="soft">{esc(explanation)}</p>'] if explanation else []
    for title, chosen, explain in (("Worst", first, why), ("Best", last, None)):
        if chosen:
            entries = "".join(_entry(result, data, report, position, size, explain) for position in chosen)
            parts.append(f'<h3>{title}</h3><div class="gallery">{entries}</div>')
    return "".join(parts)


def _entry(result: Any, data: Any, report: TaskReport, position: int, size: int, why: Why | None) -> str:
    name = result.names[position] if result.names else str(position)
    try:
        image = data.image(position)
        shown = report.show(result, position, image, size)
        seen = None if why is None else why(image, size)
        pairs = [*shown.pictures, *([] if seen is None else [("what it depends on", seen)])]
        sides = [(what, picture(drawn, f"{name}: {what}")) for what, drawn in pairs]
    except InputError as error:
        return f"<figure>{sentence(str(error))}<figcaption><b>{esc(name)}</b></figcaption></figure>"
    pictures = "".join(f"<div><small>{esc(what)}</small>{side}</div>" for what, side in sides)
    style = "" if len(sides) == 2 else f' style="grid-template-columns:repeat({len(sides)},1fr)"'
    below = f"<figcaption><b>{esc(name)}</b> {esc(shown.caption)}</figcaption>"
    return f'<figure><div class="pair"{style}>{pictures}</div>{shown.more}{below}</figure>'

"""The report's sections, each from plain values; what a section lacks it says in a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.evaluation.detection import MEANINGS
from sightline.evaluation.errors import DETECTION_ERRORS, ERROR_MEANINGS, in_words
from sightline.evaluation.segmentation import SEGMENTATION_METRICS
from sightline.report import plots
from sightline.report.colours import class_colour, css
from sightline.report.page import bar, esc, more, number, sentence, table
from sightline.words import counted

NOT_EVALUATED = "This run has not been evaluated: there is no evaluation.json in the folder."
ROWS = 30
"""Rows of a long table that are shown before the rest is folded away."""
MATRIX = 16
"""Most classes for which the confusion matrix is a table with numbers; of more it is a picture."""


def training(rows: Sequence[Mapping[str, Any]] | None) -> str:
    """Curves of the epochs, and which was the best."""
    if not rows:
        return sentence("No epochs are recorded: there is no metrics.jsonl in the folder, or it is empty.")
    figures = plots.training_curves(rows)
    drawn = "".join(
        f"<div><h3>{esc(title)}</h3>{plots.inline_svg(figure, title)}</div>" for title, figure in figures.items()
    )
    facts = [counted(len(rows), "epoch")]
    seconds = sum(row["seconds"] for row in rows if isinstance(row.get("seconds"), int | float))
    if seconds:
        facts.append(f"{seconds / 60:.1f} minutes" if seconds >= 90 else counted(round(seconds), "second"))
    for name, better in (("val/AP", max), ("val/mIoU", max), ("val/loss", min), ("train/loss", min)):
        scored = [row for row in rows if isinstance(row.get(name), int | float)]
        if scored:
            best = better(scored, key=lambda row: row[name])
            facts.append(f"best {name} {best[name]:.3f} in epoch {best.get('epoch', rows.index(best) + 1)}")
            break
    closed = plots.closed_from(rows)
    marked = (
        ""
        if closed is None
        else (
            f'<p class="soft">From epoch {closed} on (the dashed line) the augmentation no longer combines images, so '
            "the training loss is that of other images: a jump there is no fault.</p>"
        )
    )
    return f'<p class="soft">{esc(" · ".join(facts))}</p><div class="grid">{drawn}</div>{marked}'


def numbers(result: Mapping[str, Any] | None) -> str:
    """Headline cards, one sentence in words, and all numbers with protocol and reason."""
    if result is None:
        return sentence(NOT_EVALUATED)
    metrics, reasons, protocols = result["metrics"], result.get("reasons", {}), result.get("protocols", {})
    shapes = ("mask/AP", "mask/AP50", "keypoint/AP", "keypoint/AP50")
    headline = [name for name in ("AP", "AP50", "AP75", *shapes, "VOC2007_AP50", "VOC2010_AP50") if name in metrics]
    cards = "".join(
        f'<div class="card"><span>{esc(re.sub("[_/]", " ", name))}</span>'
        f"<b>{number(metrics[name], reasons.get(name))}</b>"
        f"<small>{esc(protocols.get(name, result.get('protocol', '')))}</small></div>"
        for name in headline or list(metrics)[:6]
    )
    words = in_words(result.get("operating_point") or {})
    facts = counted(result["images"]) if isinstance(result.get("images"), int) else "? images"
    if "objects" in result:
        facts += f", {counted(result['objects'], 'object')}, {counted(result['detections'], 'detection')}"
    if isinstance(result.get("measured"), Mapping):
        split, place = result["measured"].get("split"), result["measured"].get("data")
        facts = (f"split {split} of {place}: " if place else f"split {split}: ") + facts
    if "pixels" in result:
        facts += f", {result['pixels']} pixels that count"
    notes = "".join(f"<p>{esc(note[:1].upper() + note[1:])}.</p>" for note in result.get("notes", []))
    meant = MEANINGS | SEGMENTATION_METRICS
    meanings = {name: esc(reasons.get(name) or meant.get(name, "")) for name in metrics}
    rows = [
        (
            esc(name),
            esc(protocols.get(name, result.get("protocol", ""))),
            number(value),
            f'<span class="text">{meanings[name]}</span>',
        )
        for name, value in metrics.items()
    ]
    everything = more("All numbers", table(("metric", "protocol", "value", "meaning"), rows, left=2))
    return f'<div class="cards">{cards}</div><p>{esc(words)}</p><p class="soft">{esc(facts)}</p>{notes}{everything}'


def classes(result: Mapping[str, Any] | None) -> str:
    """A row for each class, the best first."""
    if result is None:
        return sentence(NOT_EVALUATED)
    if not result.get("per_class"):
        return sentence("There are no numbers of single classes.")
    reasons = result.get("reasons", {})
    ids = {name: position for position, name in enumerate(result["classes"])}
    ranked = sorted(result["per_class"].items(), key=lambda row: (row[1]["AP"] is None, -(row[1]["AP"] or 0)))
    shapes = [name for name in ("mask/AP", "mask/AP50", "keypoint/AP", "keypoint/AP50") if name in ranked[0][1]]
    columns = ("AP", "AP50", "AP75", "AR100", *shapes, "VOC2007_AP50", "VOC2010_AP50")
    rows = []
    for name, row in ranked:
        colour = css(class_colour(ids.get(name, 0)))
        cells = [number(row.get(column), reasons.get(f"{name}/{column}")) for column in columns]
        rows.append(
            [
                f'<i class="dot" style="background:{colour}"></i>{esc(name)}',
                bar(row["AP"], colour),
                *cells,
                str(row["objects"]),
                str(row["detections"]),
            ]
        )
    more_heads = [name.replace("/", " ") for name in shapes]
    heads = ("class", "", "AP", "AP50", "AP75", "AR100", *more_heads, "VOC 2007", "VOC 2010", "objects", "detections")
    shown = table(heads, rows[:ROWS], left=2)
    if len(rows) > ROWS:
        shown += more(f"{len(rows) - ROWS} more classes", table(heads, rows[ROWS:], left=2))
    return shown


def precision_recall(result: Mapping[str, Any] | None) -> str:
    """A curve for each class at IoU 0.50."""
    if result is None:
        return sentence(NOT_EVALUATED)
    if not result.get("curves"):
        return sentence("There are no curves: they were not stored, or no class has objects in these labels.")
    ids = {name: position for position, name in enumerate(result["classes"])}
    figure = plots.precision_recall_curves(result["curves"], ids)
    return (
        '<p class="soft">How precise the detections are when so many of the objects are found (IoU 0.50, COCO).</p>'
        + plots.inline_svg(figure, "Precision and recall")
    )


def confusion(result: Mapping[str, Any] | None) -> str:
    """Which classes are taken for which."""
    if result is None:
        return sentence(NOT_EVALUATED)
    errors = result.get("errors")
    if not errors:
        return sentence("There is no confusion matrix: the evaluation was stored without its details.")
    out = (
        f'<p class="soft">Rows are the labels, columns the predictions with a score of at least {errors["score"]:.2f}, '
        f"at IoU {errors['iou']:.2f}. The last column counts objects that were not found, the last row detections of "
        "nothing (or of what was found already).</p>"
    )
    counts, labels = errors.get("confusion"), errors.get("confusion_labels")
    if counts is not None and len(labels) - 1 <= MATRIX:
        out += matrix(counts, labels)
    elif counts is not None:
        out += plots.inline_svg(plots.confusion_picture(counts, labels), "Confusion matrix")
    if errors.get("confusions"):
        rows = [(esc(a), esc(b), str(count)) for a, b, count in errors["confusions"][:10]]
        most = table(("label", "taken for", "times"), rows, left=2)
        out += f'<h3>Most frequent mistakes</h3><div class="narrow">{most}</div>'
    else:
        out += sentence("No object was taken for one of another class.")
    return out


def matrix(
    counts: Sequence[Sequence[int]], labels: Sequence[str], percent: bool = False, totals: Sequence[int] | None = None
) -> str:
    """A confusion matrix as a table with numbers, or with each row's shares in percent of its sum, or of `totals`."""

    def cell(count: int, total: int) -> str:
        if not count:
            return '<td class="zero">0</td>'
        share = count / max(total, 1)
        text, title = (f"{100 * share:.1f}", f"{count}") if percent else (f"{count}", f"{share:.0%}")
        return f'<td style="background:rgba(var(--cell),{0.08 + 0.6 * share:.2f})" title="{title}">{text}</td>'

    heads = "<th></th>" + "".join(f"<th>{esc(label)}</th>" for label in labels)
    rows = "".join(
        f'<tr><th class="side">{esc(label)}</th>{"".join(cell(count, total) for count in row)}</tr>'
        for label, row, total in zip(labels, counts, totals or [sum(row) for row in counts], strict=True)
    )
    return f'<div class="wide"><table class="matrix"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def error_kinds(result: Mapping[str, Any] | None) -> str:
    """How often each kind of error occurs and what it costs."""
    if result is None:
        return sentence(NOT_EVALUATED)
    errors = result.get("errors")
    if not errors:
        return sentence("There is no diagnosis of errors: the evaluation was stored without its details.")
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
        f'<p class="soft">{counts["correct"]} detections with a score of at least {errors["score"]:.2f} are right. The '
        "wrong ones, by kind; the last column says how much AP50 would rise (over all scores) if all of the kind were "
        "put right.</p>"
        + table(("kind", "", f"count (score ≥ {errors['score']:.2f})", "AP50 gain (all scores)"), rows, left=2)
    )

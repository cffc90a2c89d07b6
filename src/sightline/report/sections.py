"""Sections of every task's report, made from plain values; a section without content says so in a sentence."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sightline.errors import InputError
from sightline.report import plots
from sightline.report.colours import class_colour, css
from sightline.report.page import esc, more, number, sentence, table
from sightline.training.metrics_log import EPOCH, choose_metric, score
from sightline.words import counted

NOTHING: Mapping[str, str] = {}
NOT_EVALUATED = "This run has not been evaluated: there is no evaluation.json in the folder."
ROWS = 30
"""Number of rows of a long table that are shown; the others are collapsed."""
MATRIX = 16
"""Maximum number of classes for which the confusion matrix is a table; for more it is a plot."""


def training(
    rows: Sequence[Mapping[str, Any]] | None, lower_is_better: Collection[str] = (), keep: str = "auto"
) -> str:
    """Plots of the epochs, and which one is the best.

    Args:
        rows: one per epoch, as in metrics.jsonl.
        lower_is_better: names of validation metrics for which lower is better.
        keep: the recipe's setting by which the best epoch was chosen.
    """
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
    there = {name: value for row in rows for name, value in row.items() if isinstance(value, int | float)}
    columns = {column: there.get(column) for row in rows for column in row}
    try:
        name = choose_metric(columns, keep)
    except InputError:  # no epoch has this metric
        name = choose_metric(columns, "auto")
    scored = [row for row in rows if isinstance(row.get(name), int | float)]
    if scored:
        best = max(reversed(scored), key=lambda row: score(row, name, lower_is_better) or 0.0)
        number = best.get("epoch", rows.index(best) + 1)
        facts.append(
            f"the last epoch is kept, epoch {number}"
            if name == EPOCH
            else f"best {name} {best[name]:.3f} in epoch {number}"
        )
    closed = plots.closed_from(rows)
    marked = (
        ""
        if closed is None
        else (
            f'<p class="soft">From epoch {closed} on (dashed line) augmentation no longer combines images. The '
            "training loss may jump there, because it is that of other images.</p>"
        )
    )
    return f'<p class="soft">{esc(" · ".join(facts))}</p><div class="grid">{drawn}</div>{marked}'


def metrics(
    result: Mapping[str, Any] | None,
    cards: Sequence[str] = (),
    meanings: Mapping[str, str] = NOTHING,
    counts: Sequence[str] = (),
    words: str = "",
) -> str:
    """Cards of the headline metrics, one sentence, and all metrics with protocol and reason.

    Args:
        result: the dictionary of an evaluation.
        cards: metrics shown in large type; by default the first six.
        meanings: the meaning of each metric.
        counts: what was compared besides the images, such as "25 objects".
        words: the most important metrics as a sentence.
    """
    if result is None:
        return sentence(NOT_EVALUATED)
    values, reasons, protocols = result["metrics"], result.get("reasons", {}), result.get("protocols", {})
    intervals = result.get("intervals") or {}
    shown = ""
    for name in cards or list(values)[:6]:
        protocol = protocols.get(name, result.get("protocol", ""))
        below = f"95 % interval {_between(intervals[name])}" if name in intervals else protocol
        value = number(values[name], reasons.get(name))
        title = esc(re.sub("[_/]", " ", name))
        shown += f'<div class="card"><span>{title}</span><b>{value}</b><small>{esc(below)}</small></div>'
    facts = ", ".join((counted(result["images"]) if isinstance(result.get("images"), int) else "? images", *counts))
    if isinstance(result.get("measured"), Mapping):
        split, place = result["measured"].get("split"), result["measured"].get("data")
        facts = (f"split {split} of {place}: " if place else f"split {split}: ") + facts
    notes = "".join(f"<p>{esc(note[:1].upper() + note[1:])}.</p>" for note in result.get("notes", []))
    heads = ("metric", "protocol", "value", *(["95 % interval"] if intervals else []), "meaning")
    rows = [
        (
            esc(name),
            esc(protocols.get(name, result.get("protocol", ""))),
            number(value),
            *([esc(_between(intervals.get(name)))] if intervals else []),
            f'<span class="text">{esc(reasons.get(name) or meanings.get(name, ""))}</span>',
        )
        for name, value in values.items()
    ]
    everything = more("All metrics", table(heads, rows, left=2, ends_in_text=True))
    return f'<div class="cards">{shown}</div><p>{esc(words)}</p><p class="soft">{esc(facts)}</p>{notes}{everything}'


def has_saved_threshold(result: Mapping[str, Any]) -> bool:
    """Whether the operating point of an evaluation is at the score threshold that is saved with the model."""
    measured = result.get("measured")
    return isinstance(measured, Mapping) and measured.get("threshold") is not None


def _between(interval: Sequence[float] | None) -> str:
    """A confidence interval as text; empty for None."""
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def classes(result: Mapping[str, Any] | None) -> str:
    """All metrics of single classes, in the order of the classes."""
    if result is None:
        return sentence(NOT_EVALUATED)
    if not result.get("per_class"):
        return sentence("There are no metrics of single classes.")
    reasons, ids = result.get("reasons", {}), ids_of(result)
    columns = list(dict.fromkeys(name for row in result["per_class"].values() for name in row))
    rows = [
        [class_name(name, ids), *(_value(row.get(column), reasons.get(f"{name}/{column}")) for column in columns)]
        for name, row in result["per_class"].items()
    ]
    return folded(("class", *(esc(column.replace("_", " ")) for column in columns)), rows, left=1)


def _value(value: Any, why: str | None) -> str:
    return number(value, why) if value is None or isinstance(value, float) else esc(value)


def ranked(result: Mapping[str, Any], metric: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The classes with their metrics, by descending `metric`; those without it last."""
    return sorted(result["per_class"].items(), key=lambda row: (row[1][metric] is None, -(row[1][metric] or 0)))


def ids_of(result: Mapping[str, Any]) -> dict[str, int]:
    """The class ids of an evaluation by name, for their colours."""
    return {name: position for position, name in enumerate(result.get("classes", ()))}


def class_name(name: str, ids: Mapping[str, int]) -> str:
    """A class name after a dot of its colour, as HTML."""
    return f'<i class="dot" style="background:{css(class_colour(ids.get(name, 0)))}"></i>{esc(name)}'


def folded(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> str:
    """A table of classes; rows beyond `ROWS` are collapsed."""
    shown = table(heads, rows[:ROWS], left=left)
    if len(rows) > ROWS:
        shown += more(f"{len(rows) - ROWS} more classes", table(heads, rows[ROWS:], left=left))
    return shown


def mistakes(rows: Sequence[tuple[str, str, str]], heads: Sequence[str], none: str) -> str:
    """The most frequent confusions as a table: (label, prediction, count); the sentence `none` if there are none."""
    if not rows:
        return sentence(none)
    most = table(heads, [tuple(map(esc, row)) for row in rows], left=2)
    return f'<h3>Most frequent confusions</h3><div class="narrow">{most}</div>'


def matrix(
    counts: Sequence[Sequence[int]], labels: Sequence[str], percent: bool = False, totals: Sequence[int] | None = None
) -> str:
    """A confusion matrix as a table of counts, or with each row in percent of its sum or of `totals`."""

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

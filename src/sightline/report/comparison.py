"""The table, the plot and the page of compared models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sightline.evaluation.comparison import LEVEL, ComparedModel
from sightline.report.page import Section, esc, number, page, pairs, table
from sightline.report.plots import inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRONT, _PLAIN, _INK, _FAINT = "#2f6fde", "#8a94a6", "#1a2b3c", "#c4b5a6"
"""Colours of models on the front and of others; the last two are replaced by the page's colours."""
READING = (
    "Differences are from the best model, on the same images; their intervals come from a paired bootstrap over the "
    f"images and hold together at {LEVEL:.0%} (Bonferroni). “worse” means that the interval lies on one side of zero. "
    "Each model was trained once: the intervals cover the choice of the images, not the chance in training. "
    "Milliseconds are medians of one image at a time on the processor, the models taking turns. A model is on the "
    "front if no other is both better and faster."
)
_LAST_HEADS = ("difference", "its interval", "verdict", "parameters", "GFLOP", "ms", "front", "epochs", "minutes")


def heads_of(metric: str) -> list[str]:
    """The column headers of the table."""
    return ["model", metric, f"{LEVEL:.0%} interval", *_LAST_HEADS]


def cells_of(row: ComparedModel) -> list[str]:
    """The cells of a model's row, as text, in the order of `heads_of`."""
    cost = row.cost
    return [
        row.name,
        number(row.value),
        _interval(row.interval, ""),
        "" if row.difference is None else f"{row.difference:+.3f}",
        _interval(row.difference_interval, "+"),
        row.verdict,
        f"{cost.parameters / 1e6:.2f} M",
        f"{cost.flops / 1e9:.2f}",
        f"{cost.milliseconds:.1f}",
        "yes" if row.on_front else "",
        str(cost.epochs),
        f"{cost.minutes:.1f}",
    ]


def markdown(rows: Sequence[ComparedModel], title: str, metric: str, lines: Sequence[str]) -> str:
    """The table as a Markdown document, with `lines` of facts above it."""
    heads = heads_of(metric)
    body = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    body += ["| " + " | ".join(cells_of(row)) + " |" for row in rows]
    return "\n".join([f"# {title}", "", *(f"- {line}" for line in lines), "", *body, "", READING, ""])


def text_table(rows: Sequence[ComparedModel], metric: str) -> str:
    """The table for a terminal."""
    shown = [heads_of(metric), *map(cells_of, rows)]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    texts = (0, 5)
    lines = [
        [c.ljust(w) if i in texts else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        for row in shown
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def front_figure(rows: Sequence[ComparedModel], metric: str) -> Figure:
    """Plot the metric of each model over the time of one image; the front is joined by a line.

    Args:
        rows: the models; those without a value are left out.
        metric: name of the metric.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(7.6, 4.2), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    shown = sorted((row for row in rows if row.value is not None), key=lambda row: row.cost.milliseconds)
    front = [row for row in shown if row.on_front]
    axes.plot([r.cost.milliseconds for r in front], [r.value or 0.0 for r in front], color=_FRONT, linewidth=1.2)
    for row in shown:
        low, high = row.interval or (row.value or 0.0,) * 2
        colour = _FRONT if row.on_front else _PLAIN
        axes.plot([row.cost.milliseconds] * 2, [low, high], color=colour, linewidth=2, alpha=0.5)
        axes.plot(row.cost.milliseconds, row.value or 0.0, "o", color=colour, markersize=6)
        axes.annotate(
            row.name.replace("$", r"\$"),
            (row.cost.milliseconds, row.value or 0.0),
            (7, -11),  # below: the front rises to the right
            textcoords="offset points",
            color=_INK,
            fontsize=8.5,
        )
    if shown:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # 100, not a power of ten
        axes.xaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
        slowest = shown[-1].cost.milliseconds
        axes.set_xlim(0.8 * shown[0].cost.milliseconds, 2.2 * slowest)  # the last name needs room
    axes.tick_params(colors=_INK, which="both", labelsize=9, length=0)
    axes.grid(True, color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("milliseconds for one image", color=_INK)
    axes.set_ylabel(metric, color=_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_INK)
    return figure


def comparison_page(
    rows: Sequence[ComparedModel],
    title: str,
    metric: str,
    lines: Sequence[str],
    class_metric: str,
    per_class: Mapping[str, Mapping[str, float | None]],
    settings: Mapping[str, Mapping[str, Any]],
) -> str:
    """The HTML page: the table, the plot of accuracy over time, the metrics, each class, and the settings.

    Args:
        rows: the models.
        title: title of the page.
        metric: name of the metric.
        lines: facts, one sentence each.
        class_metric: name of the metric of the classes.
        per_class: that metric: class → model → value; empty for tasks without classes.
        settings: settings of each model's training.
    """
    names = [row.name for row in rows]
    plot = inline_svg(front_figure(rows, metric), "Accuracy and time")
    compared = [[f"<b>{esc(c)}</b>" if row.verdict == "best" else esc(c) for c in cells_of(row)] for row in rows]
    keys = list(dict.fromkeys(key for row in rows for key in row.metrics))
    metrics = [[esc(row.name), *(number(row.metrics.get(key)) for key in keys)] for row in rows]
    sections = [
        Section("table", metric, f"{table(heads_of(metric), compared)}<p>{esc(READING)}</p>"),
        Section("front", "Accuracy and time", plot),
        Section("metrics", "All metrics", table(["model", *map(esc, keys)], metrics)),
    ]
    if per_class:
        body = [[esc(name), *(number(values.get(model)) for model in names)] for name, values in per_class.items()]
        sections.append(Section("classes", f"{class_metric} of each class", table(["class", *map(esc, names)], body)))
    sections += [Section(f"settings-{i}", f"Settings of {n}", pairs(settings[n])) for i, n in enumerate(names)]
    return page(title, f'<p class="soft">{esc(" · ".join(lines))}</p>', sections)


def _interval(interval: tuple[float, float] | None, sign: str) -> str:
    return "" if interval is None else f"[{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]"

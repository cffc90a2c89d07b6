"""The table, the plot and the page of an ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sightline.evaluation.ablation import LEVEL, Compared
from sightline.report.page import Section, esc, page, pairs, sentence, table
from sightline.report.plots import inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REAL, _PLAIN, _INK, _FAINT = "#2f6fde", "#8a94a6", "#1a2b3c", "#c4b5a6"
"""Colours of significant differences and of others; the last two are replaced by the page's colours."""
READING = (
    f"Differences are paired by seed. Intervals are {LEVEL:.0%} t intervals of the mean difference over the seeds. "
    f"“better” and “worse” are p < {1 - LEVEL:.2f} after Holm's correction for the number of variants; everything else "
    "is not distinguishable from the noise of the seeds. The intervals do not cover the choice of the images."
)
HEADS = ("variant", "runs", "mean", "sd", "difference", "95 % interval", "p (Holm)", "beyond the sum", "verdict")


def cells_of(row: Compared) -> list[str]:
    """The cells of a variant's row, as text, in the order of `HEADS`."""
    return [
        row.name,
        str(len(row.scores)),
        _number(row.mean),
        _number(row.spread),
        _number(row.difference, "+"),
        _interval(row.interval),
        "" if row.p is None else f"{row.p:.3f}" if row.p >= 0.001 else "< 0.001",
        "" if row.interaction is None else f"{_number(row.interaction, '+')} {_interval(row.interaction_interval)}",
        row.verdict if row.differences or not row.scores else "",
    ]


def markdown(rows: Sequence[Compared], title: str, metric: str, lines: Sequence[str]) -> str:
    """The table as a Markdown document, with `lines` of facts above it."""
    head = [f"# {title}", "", *(f"- {line}" for line in lines), "", f"Metric: {metric}.", ""]
    body = ["| " + " | ".join(HEADS) + " |", "|---|" + "---:|" * (len(HEADS) - 2) + "---|"]
    body += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells_of(row)) + " |" for row in rows]
    return "\n".join([*head, *body, "", READING, ""])


def text_table(rows: Sequence[Compared]) -> str:
    """The table for a terminal, without the columns of p-values and sums."""
    shown = [[cell for i, cell in enumerate(cells) if i not in (6, 7)] for cells in [list(HEADS), *map(cells_of, rows)]]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    texts = (0, len(widths) - 1)
    lines = [
        [c.ljust(w) if i in texts else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        for row in shown
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def difference_figure(rows: Sequence[Compared], metric: str) -> Figure:
    """Plot the difference of each variant from the base: a dot per seed, the mean, and its interval.

    Significant differences are coloured. The range follows the differences, not the intervals of two seeds, which are
    wide; an arrow marks an interval that extends beyond the plot.

    Args:
        rows: the variants; those without a difference, such as the base, are left out.
        metric: name of the metric.
    """
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.difference is not None][::-1]
    figure = Figure(figsize=(7.6, 1.1 + 0.34 * max(1, len(shown))), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    reach = 1.6 * max((abs(value) for row in shown for value in row.differences.values()), default=0.0) or 1e-3
    for place, row in enumerate(shown):
        colour = _REAL if row.real else _PLAIN
        low, high = row.interval or (row.difference or 0.0,) * 2
        axes.plot([max(low, -reach), min(high, reach)], [place, place], color=colour, linewidth=2.4, alpha=0.7)
        for end, outside, mark in ((-reach, low < -reach, "<"), (reach, high > reach, ">")):
            if outside:
                axes.plot(end, place, marker=mark, color=colour, markersize=7, clip_on=False)
        values = list(row.differences.values())
        axes.plot(values, [place] * len(values), "o", color=colour, markersize=4, alpha=0.6, linestyle="none")
        axes.plot(row.difference or 0.0, place, "D", color=colour, markersize=7)
    axes.axvline(0, color=_INK, linewidth=1)
    axes.set_xlim(-1.03 * reach, 1.03 * reach)
    axes.set_ylim(-0.6, max(len(shown), 1) - 0.4)
    axes.set_yticks(range(len(shown)), [row.name.replace("$", r"\$") for row in shown])
    axes.tick_params(colors=_INK, labelsize=9, length=0)
    axes.grid(True, axis="x", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"difference of {metric} from the base", color=_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_INK)
    return figure


def ablation_page(
    rows: Sequence[Compared], title: str, metric: str, lines: Sequence[str], base: Mapping[str, Any]
) -> str:
    """The HTML page: the plot, the table, the metric of each run, and the settings of the base.

    Args:
        rows: the variants.
        title: title of the page.
        metric: name of the metric, with what it was measured on.
        lines: facts, one sentence each.
        base: settings of the base.
    """
    there = [row for row in rows if row.difference is not None]
    plot = inline_svg(difference_figure(rows, metric), "Differences") if there else sentence("No variant has run yet.")
    seeds = sorted({seed for row in rows for seed in row.scores})
    runs = [[esc(row.name), *(_number(row.scores.get(seed)) for seed in seeds)] for row in rows]
    compared = [[f"<b>{esc(cell)}</b>" if row.real else esc(cell) for cell in cells_of(row)] for row in rows]
    lead = f'<p class="soft">{esc(" · ".join(lines))}</p>'
    legend = "Diamond: mean; dots: seeds; line: interval of the mean; blue: real."
    sections = [
        Section("differences", "Which differences are real", f"{plot}<p>{esc(legend)}</p><p>{esc(READING)}</p>"),
        Section("table", metric, table(HEADS, compared, ends_in_text=True)),
        Section("runs", "Runs", table(["variant", *(f"seed {seed}" for seed in seeds)], runs)),
        Section("base", "Base", pairs(base)),
    ]
    return page(title, lead, sections)


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:+.4f}, {interval[1]:+.4f}]"

"""Plots of a run and of an evaluation, as matplotlib figures and as SVG that uses the page's colours.

Figures are created with matplotlib's object interface, so that the plots of a user's program are not affected.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.report.colours import css, line_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT = "#1a2b3c", "#c4b5a6"
"""Placeholders that `inline_svg` replaces by the page's colours; in a saved figure they are dark and light."""
_LINES = 12
"""Number of classes whose curves are coloured; of more classes, the best and the worst are."""


def training_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Plot the rows of a run: losses, validation metrics, learning rate; returns figures by title.

    Args:
        rows: one per epoch, as in metrics.jsonl: "epoch", "lr", "train/…", "val/…"; None if not available. The first
            eight validation metrics are plotted.
    """
    from matplotlib.ticker import MaxNLocator

    columns = list(dict.fromkeys(name for row in rows for name in row))
    terms = [name for name in columns if name.startswith("train/") and name != "train/loss"]
    terms = [name for name in terms if len(terms) > 1 or "train/loss" not in columns]
    losses = [name for name in ("train/loss", "val/loss") if name in columns] + terms
    metrics = [
        name for name in columns if name.startswith("val/") and "loss" not in name.lower() and _values(rows, name)[1]
    ]
    wanted = {
        "Loss": losses,
        "Validation": metrics[:8],
        "Learning rate": [name for name in columns if name == "lr" or name.startswith("lr/")],
    }
    figures = {}
    for title, names in wanted.items():
        if not any(_values(rows, name)[1] for name in names):
            continue
        figure, axes = _figure(7.0, 3.1)
        for position, name in enumerate(names):
            x, y = _values(rows, name)
            if not y:
                continue
            term = name in terms
            axes.plot(
                x,
                y,
                label=name,
                color=_INK if name == "train/loss" else css(line_colour(position)),
                linewidth=1.2 if term else 2,
                linestyle="--" if name == "val/loss" else "-",
                marker="o" if len(y) < 3 else None,
                markersize=4,
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        epochs = [float(row.get("epoch", position + 1)) for position, row in enumerate(rows)]
        if min(epochs) == max(epochs):  # a single epoch: one tick, without fractions
            axes.set_xlim(epochs[0] - 0.9, epochs[0] + 0.9)
        if title == "Validation" and all(value <= 1 for name in names for value in _values(rows, name)[1]):
            axes.set_ylim(0, 1.02)
        else:
            axes.set_ylim(bottom=0)
        closed = closed_from(rows)
        if title == "Loss" and closed is not None:
            axes.axvline(closed - 0.5, color=_INK, linewidth=1, linestyle="--")
        if len(names) > 1:
            _legend(axes)
        figures[title] = figure
    return figures


def closed_from(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """The first epoch whose augmentation no longer combined images, if that of earlier epochs did."""
    marks = [(row.get("epoch"), row.get("closed")) for row in rows]
    first = next((epoch for epoch, mark in marks if mark == 1), None)
    return first if isinstance(first, int) and any(mark == 0 for _, mark in marks) else None


def precision_recall_curves(
    curves: Mapping[str, Mapping[str, Sequence[float]]], class_ids: Mapping[str, int]
) -> Figure:
    """Plot precision against recall of each class at IoU 0.50; of many classes the best, the worst, and the mean.

    Args:
        curves: by class name: "recall" and "precision", of equal length.
        class_ids: class ids by name, for the colours.
    """
    figure, axes = _figure(6.4, 4.2)
    area = {name: float(np.mean(curve["precision"])) for name, curve in curves.items()}
    ranked = sorted(curves, key=lambda name: -area[name])
    chosen = ranked if len(ranked) <= _LINES else ranked[: _LINES // 2] + ranked[-_LINES // 2 :]
    for name in ranked:
        if name not in chosen:
            axes.plot(curves[name]["recall"], curves[name]["precision"], color=_FAINT, linewidth=0.7)
    for name in chosen:
        curve = curves[name]
        colour = css(line_colour(class_ids.get(name, 0)))
        axes.plot(
            curve["recall"], curve["precision"], color=colour, linewidth=1.6, label=f"{area[name]:.2f}  {_plain(name)}"
        )
    if len(ranked) > 1:
        mean = np.mean([curves[name]["precision"] for name in ranked], axis=0)
        label = f"{np.mean(list(area.values())):.2f}  mean"
        axes.plot(curves[ranked[0]]["recall"], mean, color=_INK, linewidth=2.4, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    _legend(axes, title="AP50")
    return figure


def recall_by_overlap(recall: Mapping[str, Mapping[str, float]]) -> Figure:
    """Plot recall of proposals against the IoU threshold, one line per number of proposals.

    Args:
        recall: the fraction of objects found, by number of proposals and by IoU ("0.50", …).
    """
    figure, axes = _figure(6.4, 3.6)
    for position, (count, row) in enumerate(recall.items()):
        x, y = [float(overlap) for overlap in row], list(row.values())
        colour = css(line_colour(position))
        axes.plot(x, y, color=colour, linewidth=1.8, label=f"{float(np.mean(y)):.2f}  {count} proposals")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("IoU")
    axes.set_ylabel("recall")
    _legend(axes, title="average recall")
    return figure


def recall_by_number(recall: Mapping[str, Mapping[str, float]], overlaps: Sequence[str]) -> Figure:
    """Plot recall of proposals against their number, one line per IoU threshold, and the mean.

    Args:
        recall: as for `recall_by_overlap`.
        overlaps: the IoU thresholds to plot.
    """
    figure, axes = _figure(6.4, 3.6)
    counts = [int(count) for count in recall]
    for position, overlap in enumerate(overlaps):
        y = [row[overlap] for row in recall.values()]
        axes.plot(counts, y, color=css(line_colour(position)), linewidth=1.8, marker="o", label=f"IoU {overlap}")
    mean = [float(np.mean(list(row.values()))) for row in recall.values()]
    axes.plot(counts, mean, color=_INK, linewidth=2.4, marker="o", label="average recall")
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("proposals per image")
    axes.set_ylabel("recall")
    _legend(axes)
    return figure


def reliability_diagram(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot accuracy against confidence; for a calibrated model the bars end on the diagonal.

    Args:
        bins: bins of confidence: "from", "to", and the mean "confidence" and "accuracy" of the images in it, or None.
    """
    figure, axes = _figure(5.2, 4.2)
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle="--", label="perfect")
    filled = [row for row in bins if row["accuracy"] is not None]
    _bars(axes, filled, [row["accuracy"] for row in filled], "accuracy")
    x, y = [row["confidence"] for row in filled], [row["accuracy"] for row in filled]
    axes.vlines(x, np.minimum(x, y), np.maximum(x, y), color=css(line_colour(1)), linewidth=2, label="gap")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    _legend(axes)
    return figure


def confidence_histogram(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot the number of images by confidence.

    Args:
        bins: as for `reliability_diagram`, with "images".
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(5.2, 4.2)
    _bars(axes, bins, [row["images"] for row in bins])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("confidence")
    axes.set_ylabel("images")
    return figure


def _bars(axes: Axes, bins: Sequence[Mapping[str, Any]], heights: Sequence[float], label: str | None = None) -> None:
    widths = [0.92 * (row["to"] - row["from"]) for row in bins]
    middles = [(row["to"] + row["from"]) / 2 for row in bins]
    axes.bar(middles, heights, widths, color=css(line_colour(0)), alpha=0.75, label=label)


def confusion_picture(
    matrix: Sequence[Sequence[int]] | np.ndarray, labels: Sequence[str], totals: Sequence[int] | None = None
) -> Figure:
    """Plot a confusion matrix as a heat map; each row is divided by its total (colours by square root).

    Args:
        matrix: [K + 1, K + 1] counts, rows the labels' class, columns the predicted one, background last.
        labels: names of the rows and columns.
        totals: the divisor of each row; by default its sum.
    """
    counts = np.asarray(matrix, dtype=float)
    whole = counts.sum(1) if totals is None else np.asarray(totals, dtype=float)
    shares = counts / np.maximum(whole, 1)[:, None]
    figure, axes = _figure(7.2, 6.6)
    axes.grid(False)
    # The square root makes rare confusions visible next to the diagonal.
    axes.imshow(np.ma.masked_equal(np.sqrt(shares), 0), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    size = 8 if len(labels) <= 30 else 6.5
    step = -(-len(labels) // 45)
    ticks = range(0, len(labels), step)
    names = [_plain(labels[i]) for i in ticks]
    axes.set_xticks(ticks, names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    return figure


def inline_svg(figure: Figure, title: str) -> str:
    """Convert a figure to an SVG for an HTML page: no links, text in the page's font and colours.

    In narrow windows it is scrolled, so that its text stays legible.

    Args:
        figure: created by a function of this module.
        title: a short title for screen readers; it also makes the ids in the SVG unique.
    """
    import html
    import warnings

    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    FigureCanvasSVG(figure)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}), warnings.catch_warnings():
        # The browser draws the text, so missing glyphs of matplotlib's font do not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r' id="(?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick|legend|Line|Poly)[^"]*"', "", svg)
    prefix = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--line)")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\"", r"\1", svg, count=1)
    svg = re.sub(r"(<svg[^>]*?) height=\"[^\"]*\"", r"\1", svg, count=1)
    name = html.escape(title)
    svg = svg.replace("<svg", f'<svg class="plot" role="img" aria-label="{name}"', 1).strip()
    return f'<div class="wide">{svg}</div>'


def _plain(name: str) -> str:
    return name.replace("$", r"\$")  # two dollar signs would start a formula


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of a column, where it has a number."""
    pairs = [
        (float(row.get("epoch", position + 1)), float(row[name]))
        for position, row in enumerate(rows)
        if isinstance(row.get(name), int | float) and not isinstance(row.get(name), bool)
    ]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.grid(True, color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=9, length=0)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_INK)
        spine.set_linewidth(0.8)
    return figure, axes


def _legend(axes: Axes, title: str | None = None) -> None:
    """Add a legend beside the curves, never over them."""
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    legend = axes.legend(frameon=False, fontsize=8.5, labelcolor=_INK, title=title, title_fontsize=8.5, **place)
    legend.get_title().set_color(_INK)

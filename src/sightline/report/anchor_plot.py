"""Plot the box sizes of a dataset with their anchors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.data.anchors import AnchorReport
from sightline.report.colours import css, line_colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = 20_000


def anchor_figure(report: AnchorReport) -> Figure:
    """Left: width against height of the boxes, coloured by anchor, with the anchors. Right: mean IoU for each k."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    step = -(-len(report.boxes) // _POINTS)
    boxes, assigned = report.boxes[::step] * report.image_size, report.assigned[::step]
    for position, (width, height) in enumerate(report.pixels):
        colour = css(line_colour(position))
        own = boxes[assigned == position]
        left.scatter(own[:, 0], own[:, 1], s=5, color=colour, alpha=0.35, linewidths=0)
        left.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor=colour, linewidth=1))
        left.plot(width, height, "o", color=colour, markeredgecolor="black", markersize=8)
    left.set(xlabel="width, pixels of the input", ylabel="height", xlim=(0, None), ylim=(0, None))
    left.set_title(f"{len(report.boxes)} boxes, {len(report.pixels)} anchors")
    counts = range(1, len(report.by_k) + 1)
    right.plot(counts, report.by_k, "o-", color=css(line_colour(0)))
    right.set(xlabel="anchors", ylabel="mean IoU", ylim=(0, 1))
    right.set_xticks(list(counts)[:: -(-len(report.by_k) // 10)])
    return figure

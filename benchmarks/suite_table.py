"""The tables of the development suite, as Markdown: benchmarks/results/suite.md.

One section per measured images, protocol and minutes, with a table of systems × sets for each metric. A cell is the
mean over seeds with, for several seeds, their range. The mean over sets is given for systems that were measured on all
sets of the table.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]

HEADLINES: dict[str, tuple[str, ...]] = {
    "detection": ("AP", "AP50"),
    "segmentation": ("mIoU", "boundary_F"),
    "classification": ("top1", "macro_F1"),
}
"""The metrics with a table of their own, by task."""
SIZES, SHAPES = ("APs", "APm", "APl"), ("up to 1.5", "1.5 to 3", "above 3")
ERRORS = ("class", "localization", "both", "duplicate", "background", "missed")
_HEAD = """# The development suite

Made by `python benchmarks/suite.py`. Each system is trained on the same images for the same time: a few minutes of two
cores, its validation and the choice of its best epoch included, and then measured once. Of each set the training images
are those of its split train (bccd: and val, because it ships a test split); systems split their own validation images
from them. `balloon`, `nuclei` and `scenes` are labelled with masks and taken as boxes for detection, as class maps for
segmentation; `coco_mini` has 80 training images of 80 classes; `scenes` are 160 rendered images. Measured on "test" are
images that no choice was made by; on "held out" a quarter of the training images, which the systems then do not see.
Everything is evaluated by Sightline's evaluation. Peers train in float32 with the settings in benchmarks/peers. Means
over seeds, in brackets the lowest and highest.

Protocol "wall": minutes of wall time with all cores, each run in a process of its own; the load tells what else the
machine did. Protocol "cpu": the same minutes counted in CPU time of one thread, at the stated rate of seconds per CPU
second, which does not depend on what else the machine does.
"""


def table(results: dict[str, Any]) -> str:
    """All tables of the stored runs."""
    rows = [row for row in results["runs"] if not row["failed"]]
    lines = [_HEAD]
    for where, protocol, minutes in sorted(
        {(r["measured_on"], r["protocol"], r["minutes"]) for r in rows}, key=lambda k: (k[0] != "test", k[1:])
    ):
        part = [r for r in rows if (r["measured_on"], r["protocol"], r["minutes"]) == (where, protocol, minutes)]
        lines += [f"## {minutes:g} minutes, measured on {where}, protocol {protocol}", ""]
        for task, metrics in HEADLINES.items():
            own = [r for r in part if r["task"] == task]
            if own:
                lines += section(own, task, metrics)
    failed = [row for row in results["runs"] if row["failed"]]
    if failed:
        lines += ["## Runs that failed", ""]
        lines += [
            f"- {r['name']}, {r['set']}, {r['minutes']:g} minutes, seed {r['seed']}: {r['failed']}" for r in failed
        ]
        lines += [""]
    return "\n".join([*lines, *conditions(rows)])


def section(rows: Sequence[Row], task: str, metrics: Iterable[str]) -> list[str]:
    """The tables of one task: systems × sets for each metric and, for detection, where the points are lost."""
    lines: list[str] = []
    for metric in metrics:
        lines += [f"### {task.capitalize()}: {metric}", "", *grid(rows, entry("metrics", metric)), ""]
    if task == "segmentation":
        lines += ["IoU of each class:", "", *by_class(rows, "IoU"), ""]
    if task == "detection":
        lines += ["AP of each class:", "", *by_class(rows, "AP"), ""]
        lines += ["Means over sets: AP by size (COCO's, in pixels) and by aspect ratio of the objects, and by how much"]
        lines += ["AP50 would rise without the errors of one kind.", ""]
        columns: dict[str, Callable[[Row], float | None]] = {
            **{name: entry("metrics", name) for name in SIZES},
            **{f"ratio {name}": entry("by_shape", name, "AP") for name in SHAPES},
            **{name: entry("errors", "AP50_gains", name) for name in ERRORS},
        }
        lines += [head(["system", "sets", *columns])]
        for name, own in by(rows, "name").items():
            cells = [shown_mean([value(r) for r in own]) for value in columns.values()]
            lines += [f"| {name} | {len(by(own, 'set'))} | {' | '.join(cells)} |"]
        lines += [""]
    return lines


def entry(*names: str) -> Callable[[Row], float | None]:
    """A function that returns an entry of nested dictionaries; None if it is missing."""

    def value(row: Row) -> float | None:
        found: Any = row
        for name in names:
            found = found.get(name, {})
        return found if isinstance(found, float | int) else None

    return value


def grid(rows: Sequence[Row], value: Callable[[Row], float | None]) -> list[str]:
    """Systems × sets of one metric, with the mean over sets; the best system first."""
    sets = list(by(rows, "set"))
    lines = []
    for name, own in by(rows, "name").items():
        cells = {s: [v for r in runs if (v := value(r)) is not None] for s, runs in by(own, "set").items()}
        complete = all(cells.get(s) for s in sets)
        mean = statistics.mean(statistics.mean(cells[s]) for s in sets) if complete else None
        seeds = "/".join(sorted({str(len(values)) for values in cells.values()}))
        shown = " | ".join(spread(cells.get(s, [])) for s in sets)
        lines.append((-1.0 if mean is None else mean, f"| {name} | {seeds} | {shown} | {number(mean)} |"))
    return [head(["system", "seeds", *sets, "mean"]), *(line for _, line in sorted(lines, key=lambda x: -x[0]))]


def by_class(rows: Sequence[Row], metric: str, most: int = 10) -> list[str]:
    """One line per set and system, for sets with few classes."""
    lines = []
    for where, own in by(rows, "set").items():
        for name, runs in by(own, "name").items():
            classes = list(runs[0]["per_class"])
            if 1 < len(classes) <= most:
                means = (f"{c} {shown_mean([r['per_class'].get(c, {}).get(metric) for r in runs])}" for c in classes)
                lines.append(f"- {where}, {name}: {', '.join(means)}")
    return lines


def conditions(rows: Sequence[Row]) -> list[str]:
    """Machine, versions, cost and options of each system."""
    lines = ["## Conditions", ""]
    for name, own in by(rows, "name").items():
        options = " ".join(own[0]["options"])
        machines = "; ".join(sorted({r.get("machine", "") for r in own}))
        versions = "; ".join(sorted({", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in own}))
        loads = [value for r in own for value in r["load"]]
        rate = "; ".join(sorted({f", {r['rate']:g} s per CPU second" for r in own if "rate" in r}))
        what = f"`{options}`" if options else "no options"
        cost = f"{len(own)} runs, load {min(loads)} to {max(loads)}{rate}"
        lines.append(f"- {name}: {what}; {machines}; {versions}; {cost}")
    return [*lines, ""]


def by(rows: Iterable[Row], name: str) -> dict[str, list[Row]]:
    """Rows grouped by the value of an entry, in the order of their first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    return groups


def head(columns: Sequence[str]) -> str:
    """The first two lines of a table, the first column to the left."""
    return f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}"


def spread(values: Sequence[float]) -> str:
    """The mean and, of several, the range."""
    if not values:
        return ""
    mean = number(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ({min(values):.3f} … {max(values):.3f})"


def shown_mean(values: Sequence[float | None]) -> str:
    """The mean of the known values; empty if none is known."""
    known = [v for v in values if v is not None]
    return number(statistics.mean(known) if known else None)


def number(value: float | None) -> str:
    """Three decimals; empty for None."""
    return "" if value is None else f"{value:.3f}"

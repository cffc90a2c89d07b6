"""Evaluations as plain text for a terminal or a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.words import counted

_REASONS = 6
"""Maximum number of reasons for missing metrics that a table lists."""


def number(value: float | None) -> str:
    """Three decimals, or n/a."""
    return "n/a" if value is None else f"{value:.3f}"


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Align the cells of rows in columns; `right` says which columns are right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(right))]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _notes(notes: Sequence[str]) -> list[str]:
    """A paragraph of notes, one per line."""
    return ["", *(f"Note: {note}." for note in notes)] if notes else []


def short(result: Any) -> str:
    """A result in one line, for a Python shell: its first headline metrics."""
    shown = ", ".join(f"{name} {number(result.metrics[name])}" for name in result.headline[:3])
    return f"{type(result).__name__}({counted(result.images)}: {shown}, …; print it to see all)"


def detection_table(result: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    """A `DetectionResult` dictionary as text: metrics with their protocols, classes by descending AP, notes."""
    metrics, protocols, reasons = result["metrics"], result["protocols"], result["reasons"]
    lines = [
        f"{counted(result['images'], 'image')}, {counted(result['objects'], 'object')}, "
        f"{counted(result['detections'], 'detection')}, {counted(len(result['classes']), 'class')}",
    ]
    cells = [
        ["  " + name, number(value), reasons.get(name) or meanings.get(name, "")] for name, value in metrics.items()
    ]
    protocol = ""
    for name, line in zip(metrics, aligned(cells, [False, True, False]), strict=True):
        if protocols[name] != protocol:
            protocol = protocols[name]
            lines += ["", protocol]
        lines.append(line)
    columns: tuple[str, ...] = ("AP", "AP50", "AP75", "VOC2007_AP50", "VOC2010_AP50")
    heads = ["class", "objects", "detections", "AP", "AP50", "AP75", "VOC 2007", "VOC 2010"]
    by_ap = sorted(
        result["per_class"].items(), key=lambda item: -1.0 if item[1]["AP"] is None else item[1]["AP"], reverse=True
    )
    for prefix in ("mask/AP", "keypoint/AP"):
        if prefix in metrics:
            columns += (prefix, f"{prefix}50")
            heads += [prefix.replace("/", " "), f"{prefix}50".replace("/", " ")]
    rows = [
        [name, str(row["objects"]), str(row["detections"]), *(number(row[column]) for column in columns)]
        for name, row in by_ap
    ]
    lines += ["", *aligned([heads, *rows], [False] + [True] * (len(heads) - 1))]
    if any(row["AP"] is None for row in result["per_class"].values()):
        lines.append("n/a: no object of the class counts in these labels")
    lines += _notes(result["notes"])
    return "\n".join(lines)


def segmentation_table(result: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    """A `SegmentationResult` dictionary as text: metrics, classes by descending IoU, notes."""
    metrics, reasons = result["metrics"], result["reasons"]
    classes = counted(len(result["classes"]), "class")
    lines = [f"{counted(result['images'], 'image')}, {result['pixels']} pixels that count, {classes}", ""]
    cells = [
        ["  " + name, number(value), reasons.get(name) or meanings.get(name, "")] for name, value in metrics.items()
    ]
    lines += aligned(cells, [False, True, False])
    columns = ("IoU", "Dice", "accuracy", "precision", "boundary_F")
    heads = ["class", "share", *(column.replace("_", " ") for column in columns)]
    by_iou = sorted(
        result["per_class"].items(), key=lambda item: -1.0 if item[1]["IoU"] is None else item[1]["IoU"], reverse=True
    )
    total = max(result["pixels"], 1)
    rows = [
        [name, f"{100 * row['pixels'] / total:.1f} %", *(number(row[column]) for column in columns)]
        for name, row in by_iou
    ]
    lines += ["", *aligned([heads, *rows], [False] + [True] * (len(heads) - 1))]
    missing = [f"{name}/{column}" for name, row in by_iou for column in columns if row[column] is None]
    whys = list(dict.fromkeys(reasons.get(key, "") for key in missing if reasons.get(key)))
    lines += [f"n/a: {why}" for why in whys[:_REASONS]]
    if len(whys) > _REASONS:
        lines.append(f"n/a: … {len(whys) - _REASONS} more reasons; to_dict() has all")
    lines += _notes(result["notes"])
    return "\n".join(lines)


def classification_table(result: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    """A `ClassificationResult` dictionary as text: metrics with 95 % intervals, classes by descending F1, notes."""
    metrics, reasons, intervals = result["metrics"], result["reasons"], result["intervals"]
    lines = [f"{counted(result['images'])}, {counted(len(result['classes']), 'class')}", ""]
    cells = [["  metric", "value", "95 % interval", ""]]
    for name, value in metrics.items():
        low, high = intervals.get(name, (None, None))
        between = "" if low is None else f"{number(low)} to {number(high)}"
        cells.append(["  " + name, number(value), between, reasons.get(name) or meanings.get(name, "")])
    lines += aligned(cells, [False, True, False, False])
    columns = ("precision", "recall", "F1")
    heads = ["class", "images", "predicted", *columns]
    by_f1 = sorted(
        result["per_class"].items(), key=lambda item: -1.0 if item[1]["F1"] is None else item[1]["F1"], reverse=True
    )
    rows = [
        [name, str(row["support"]), str(row["predicted"]), *(number(row[column]) for column in columns)]
        for name, row in by_f1
    ]
    lines += ["", *aligned([heads, *rows], [False] + [True] * (len(heads) - 1))]
    lines += _notes(result["notes"])
    return "\n".join(lines)

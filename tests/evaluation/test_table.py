"""Evaluations as text, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.evaluation._table import aligned, detection_table, number, segmentation_table


def test_cells_in_columns() -> None:
    assert aligned([["a", "bb"], ["ccc", "d"]], [False, True]) == ["a    bb", "ccc   d"]
    assert aligned([["a", "bb"], ["ccc", "d"]], [True, False]) == ["  a  bb", "ccc  d"]
    assert [number(value) for value in (0.12345, 1.0, None)] == ["0.123", "1.000", "n/a"]


def segmentation(missing: int) -> dict[str, Any]:
    names = [f"c{k}" for k in range(missing)]
    columns = ("IoU", "Dice", "accuracy", "precision", "boundary_F")
    row = dict.fromkeys(columns, 0.25)
    return {
        "images": 3,
        "pixels": 200,
        "classes": ["low", "high", *names],
        "metrics": {"mIoU": 0.5, "Dice": None},
        "reasons": {"Dice": "why not"} | {f"{name}/IoU": f"reason {name}" for name in names},
        "per_class": {"low": row | {"pixels": 50}, "high": row | {"IoU": 0.75, "pixels": 150}}
        | {name: row | {"IoU": None, "pixels": 0} for name in names},
        "notes": ["a note"],
    }


@pytest.mark.parametrize(("missing", "listed", "more"), [(0, 0, 0), (6, 6, 0), (7, 6, 1), (9, 6, 3)])
def test_segmentation(missing: int, listed: int, more: int) -> None:
    lines = segmentation_table(segmentation(missing), {"mIoU": "the mean"}).splitlines()
    assert lines[0] == f"3 images, 200 pixels that count, {2 + missing} classes"
    assert lines[2:4] == ["  mIoU  0.500  the mean", "  Dice    n/a  why not"]
    assert lines[5].split() == ["class", "share", "IoU", "Dice", "accuracy", "precision", "boundary", "F"]
    assert [line.split()[:4] for line in lines[6:8]] == [["high", "75.0", "%", "0.750"], ["low", "25.0", "%", "0.250"]]
    reasons = [line for line in lines if line.startswith("n/a: ")]
    assert reasons[:listed] == [f"n/a: reason c{k}" for k in range(listed)]
    assert reasons[listed:] == ([f"n/a: … {more} more reasons; to_dict() has all"] if more else [])
    assert lines[-1] == "Note: a note."


@pytest.mark.parametrize("prefix", ["", "mask/AP", "keypoint/AP"])
def test_detection(prefix: str) -> None:
    columns = ["AP", "AP50", "AP75", "VOC2007_AP50", "VOC2010_AP50", *([prefix, f"{prefix}50"] if prefix else [])]
    row = {name: 0.1 * k for k, name in enumerate(columns)} | {"objects": 2, "detections": 5}
    metrics: dict[str, Any] = {"AP": 0.5, "AP50": None} | ({prefix: 0.25} if prefix else {})
    result = {
        "images": 1,
        "objects": 4,
        "detections": 9,
        "classes": ["low", "high", "none"],
        "metrics": metrics,
        "protocols": {"AP": "one", "AP50": "one", prefix: "two"},
        "reasons": {"AP50": "why"},
        "per_class": {"low": row | {"AP": 0.1}, "high": row | {"AP": 0.9}, "none": row | {"AP": None}},
        "notes": [],
    }
    lines = detection_table(result, {"AP": "average"}).splitlines()
    assert lines[0] == "1 image, 4 objects, 9 detections, 3 classes"
    assert lines[2:5] == ["one", *(line.rstrip() for line in lines[3:5])]
    assert lines[3].split() == ["AP", "0.500", "average"]
    assert lines[4].split() == ["AP50", "n/a", "why"]
    assert ("two" in lines) == bool(prefix)
    classes = [line.split() for line in lines if line.split()[:1] in (["low"], ["high"], ["none"])]
    assert [words[0] for words in classes] == ["high", "low", "none"]
    assert classes[0] == ["high", "2", "5", "0.900", *(number(0.1 * k) for k in range(1, len(columns)))]
    assert lines[-1] == "n/a: no object of the class counts in these labels"

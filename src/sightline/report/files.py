"""The files of a run's folder that a report is made of, with all their entries as the report needs them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.evaluation.errors import DETECTION_ERRORS
from sightline.runtime import reading
from sightline.runtime.entries import NUMBER, OPTIONAL_NUMBER, require_entries

_REPAIR = "evaluate the run again (sightline evaluate), or remove the file"
_EVALUATION = {
    "task?": str,
    "protocol?": str,
    **dict.fromkeys(("images?", "objects?", "detections?", "pixels?"), int),
    "classes?": [str],
    "metrics": {str: OPTIONAL_NUMBER},
    "protocols?": {str: str},
    "reasons?": {str: str},
    "notes?": [str],
    "per_class?": {str: dict},
    "operating_point?": (dict, type(None)),
    "curves?": {str: {"recall": [NUMBER], "precision": [NUMBER]}},
    "confusions?": [[(str, int)]],
}
_ERRORS = {
    "score": NUMBER,
    "iou": NUMBER,
    "counts": dict.fromkeys((*DETECTION_ERRORS, "missed", "correct"), int),
    "AP50_gains?": {str: NUMBER},
    "confusion?": (list, type(None)),
    "confusion_labels?": (list, type(None)),
    "confusions?": [list],
}
_CLASS_ROWS = {
    "detection": {"AP": OPTIONAL_NUMBER, "objects": int, "detections": int},
    "segmentation": {"IoU": OPTIONAL_NUMBER, "pixels": int, "predicted": int},
}


def read_evaluation(path: Path) -> dict[str, Any]:
    """The numbers of an evaluation.json.

    Raises:
        InputError: it cannot be read, or an entry is missing, of another type, or does not fit the others.
    """
    values: dict[str, Any] = reading.read_json(path, dict)
    where = str(path)
    require_entries(values, _EVALUATION, where, _REPAIR)
    if values.get("errors") is not None:
        require_entries(values["errors"], _ERRORS, where, _REPAIR, "errors")
        _require_matrix(values["errors"], "confusion", "confusion_labels", where, "errors.")
    task = values.get("task", "detection")
    if values.get("per_class"):
        require_entries(values, {"classes": [str]}, where, _REPAIR)
        for name, row in values["per_class"].items():
            require_entries(row, _CLASS_ROWS.get(task, {}), where, _REPAIR, f"per_class.{name}")
            require_entries(row, {str: object}, where, _REPAIR, f"per_class.{name}")
    if task == "segmentation":
        _require_matrix(values, "confusion", "classes", where)
    if values.get("operating_point"):
        require_entries(values["operating_point"], {str: OPTIONAL_NUMBER}, where, _REPAIR, "operating_point")
    return values


def _require_matrix(values: Mapping[str, Any], name: str, labels: str, where: str, at: str = "") -> None:
    matrix, names = values.get(name), values.get(labels)
    if not matrix:
        return
    require_entries(matrix, [[int]], where, _REPAIR, f"{at}{name}")
    require_entries(names, [str], where, _REPAIR, f"{at}{labels}")
    if len(matrix) != len(names or ()) or any(len(row) != len(matrix) for row in matrix):
        raise InputError(
            f"the entry '{at}{name}' of {where} must have as many rows and columns as {at}{labels} has names "
            f"({len(names or ())}); {_REPAIR}"
        )


def read_rows(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a metrics.jsonl, one an epoch; None without the file.

    Raises:
        InputError: a line is no JSON object of plain values.
    """
    if not path.exists():
        return None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(reading.read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = reading.parse_json(line, where, dict)
        require_entries(row, {str: (int, float, str, bool, type(None))}, where, "correct or remove the line")
        require_entries(row, {"epoch?": NUMBER, "seconds?": OPTIONAL_NUMBER}, where, "correct or remove the line")
        rows.append(row)
    return rows

"""Read the files of a run's folder that a report is made from, and check their entries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.report.base import TaskReport
from sightline.runtime import reading
from sightline.runtime.entries import NUMBER, OPTIONAL_NUMBER, require_entries

PLAIN = TaskReport()
EVALUATION_FILE = "evaluation.json"
REPAIR = "evaluate the run again (sightline evaluate), or remove the file"
_EVALUATION = {
    "task?": str,
    "protocol?": str,
    "images?": int,
    "classes?": [str],
    "metrics": {str: OPTIONAL_NUMBER},
    "protocols?": {str: str},
    "reasons?": {str: str},
    "notes?": [str],
    "per_class?": {str: dict},
    "intervals?": {str: [NUMBER]},
}


def read_evaluation(path: Path, report: TaskReport = PLAIN) -> dict[str, Any]:
    """Read the contents of an evaluation.json.

    Args:
        path: the file.
        report: the report of the task, which says what it needs; by default what all tasks need.

    Raises:
        InputError: the file cannot be read, or an entry is missing, has another type, or does not fit the others.
    """
    values: dict[str, Any] = reading.read_json(path, dict)
    where = str(path)
    require_entries(values, {**_EVALUATION, **report.entries}, where, REPAIR)
    if values.get("per_class"):
        require_entries(values, {"classes": [str]}, where, REPAIR)
        for name, row in values["per_class"].items():
            require_entries(row, report.class_entries, where, REPAIR, f"per_class.{name}")
            require_entries(row, {str: object}, where, REPAIR, f"per_class.{name}")
    for name, interval in values.get("intervals", {}).items():
        if len(interval) != 2:
            raise InputError(
                f"the entry 'intervals.{name}' of {where} must hold a lower and an upper bound, not {len(interval)} "
                f"numbers; {REPAIR}"
            )
    report.require(values, where)
    return values


def stored_task(folder: Path) -> str | None:
    """The name of the task in a folder's evaluation.json; None if there is no such entry or file.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / EVALUATION_FILE
    task = reading.read_json(path, dict).get("task") if path.exists() else None
    return task if isinstance(task, str) else None


def require_matrix(values: Mapping[str, Any], name: str, labels: str, where: str, at: str = "") -> None:
    """Check that a confusion matrix has as many rows and columns as there are names for them.

    Args:
        values: a mapping that has both entries, or no matrix.
        name, labels: the names of the two entries.
        where: the file, for the message.
        at: prefix of the entries' names, for the message.
    """
    matrix, names = values.get(name), values.get(labels)
    if not matrix:
        return
    require_entries(matrix, [[int]], where, REPAIR, f"{at}{name}")
    require_entries(names, [str], where, REPAIR, f"{at}{labels}")
    if len(matrix) != len(names or ()) or any(len(row) != len(matrix) for row in matrix):
        raise InputError(
            f"the entry '{at}{name}' of {where} must have as many rows and columns as {at}{labels} has names "
            f"({len(names or ())}); {REPAIR}"
        )


def read_rows(path: Path) -> list[dict[str, Any]] | None:
    """Read the rows of a metrics.jsonl, one per epoch; None if there is no such file.

    Raises:
        InputError: a line is not a JSON object of plain values.
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

"""The files of a run's folder that a report is made of, with all their entries as the report needs them."""

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
    """The numbers of an evaluation.json.

    Args:
        path: the file.
        report: what the task's sections need of it; by default what every task's do.

    Raises:
        InputError: it cannot be read, or an entry is missing, of another type, or does not fit the others.
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
    """The name of the task that a folder's evaluation.json is of; None where it does not say, or there is none.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / EVALUATION_FILE
    task = reading.read_json(path, dict).get("task") if path.exists() else None
    return task if isinstance(task, str) else None


def require_matrix(values: Mapping[str, Any], name: str, labels: str, where: str, at: str = "") -> None:
    """Refuse a confusion matrix that has not as many rows and columns as there are labels for them.

    Args:
        values: holds both, or not the matrix.
        name, labels: the entries' names.
        where: the file, for the message.
        at: what precedes the entries' names, for the message.
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

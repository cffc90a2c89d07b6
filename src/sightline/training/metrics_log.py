"""The metrics of a run, one row per epoch, as JSON lines and CSV; and the choice of the best row."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.runtime.files import named_in_errors
from sightline.words import did_you_mean

Row = dict[str, Any]


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file atomically: yields the path to write to. Readers see the old file or the new one, never a part.

    The new file is flushed to disk before it replaces the old one, so this also holds after a power failure. The
    temporary file has the same suffix and folder; it replaces `path` only if the block raises no exception. Errors name
    `path`, not the temporary file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with named_in_errors(path, temporary):
            yield temporary
            _to_disk(temporary)
            os.replace(temporary, path)
        with contextlib.suppress(OSError):  # not every system can open folders
            _to_disk(path.parent)
    except InputError as error:
        raise InputError(str(error).replace(str(temporary), str(path))) from error
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class MetricsLog:
    """`metrics.jsonl` and `metrics.csv` of a run. Both files always hold exactly the rows added so far.

    The CSV is rewritten with each row, so that it stays valid when a later epoch adds columns (a run validated every
    few epochs). A missing value is null in JSON and empty in CSV.

    Args:
        folder: the run's folder.
        rows: rows of earlier epochs (of a resumed run). Files of an interrupted epoch after them are overwritten.
    """

    def __init__(self, folder: Path, rows: Sequence[Row] = ()):
        self.folder = folder
        self.rows: list[Row] = [plain_row(row) for row in rows]
        with atomic_write(folder / "metrics.jsonl") as path:  # on a full disk, the rows of a resumed run stay
            path.write_text("".join(map(_line, self.rows)), encoding="utf-8")
        if self.rows:
            self._write_table()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self.rows.append(plain_row(row))
        with named_in_errors(self.folder), (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(_line(self.rows[-1]))
        self._write_table()

    def _write_table(self) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with atomic_write(self.folder / "metrics.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def plain_row(row: Mapping[str, Any]) -> Row:
    """The row as plain Python values; numbers that are not finite become None, because JSON has none."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


LAST, EPOCH = "last", "epoch"
"""The value of `keep` for the last epoch, and the column whose highest value is that of the last epoch."""


def choose_metric(row: Mapping[str, Any], keep: str) -> str:
    """Return the column by which the best epoch of a run is chosen.

    Args:
        row: the row of the first validated epoch.
        keep: "auto" (the first available validation metric, else the validation loss, else the training loss), "last"
            (the number of the epoch), or a column; "AP50" means "val/AP50".

    Raises:
        InputError: there is no such column; the message lists the available ones.
    """
    if keep == "auto":
        metrics = [name for name in row if name.startswith("val/") and "loss" not in name]
        ranked = (*metrics, "val/loss", "train/loss")
        return next((name for name in ranked if row.get(name) is not None), "train/loss")
    if keep == LAST:
        return EPOCH
    for name in (keep, f"val/{keep}"):
        if name in row:
            return name
    raise _unknown_metric(keep, [name for name in row if "/" in name])


def require_metric(keep: str, columns: Sequence[str]) -> None:
    """Before a training run, check that its epochs will have the metric: a loss, or one of the validation metrics.

    Args:
        keep: as for `choose_metric`.
        columns: names of the possible validation metrics, such as "AP50".

    Raises:
        InputError: there is no such metric.
    """
    if keep not in ("auto", LAST) and "loss" not in keep and keep.removeprefix("val/") not in columns:
        raise _unknown_metric(keep, [f"val/{name}" for name in columns] + ["val/loss", "train/loss"])


def _unknown_metric(keep: str, columns: Sequence[str]) -> InputError:
    names = [*columns, *(name.split("/")[1] for name in columns)]
    hint = did_you_mean(keep, names, f"available are {', '.join(columns)}")
    return InputError(f"keep is {keep!r}, but no metric of this run has that name; {hint}")


def score(row: Mapping[str, Any], metric: str, lower_is_better: Collection[str] = ()) -> float | None:
    """Return the value of `metric`, negated where lower is better; None if the row has no value.

    Args:
        row: the row of an epoch.
        metric: a column.
        lower_is_better: names of validation metrics for which lower is better; losses always count as such.
    """
    value = row.get(metric)
    if value is None:
        return None
    less = "loss" in metric.split("/")[-1] or metric.removeprefix("val/") in lower_is_better
    return -float(value) if less else float(value)

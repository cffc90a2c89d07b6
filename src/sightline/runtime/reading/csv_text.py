"""Read CSV with limits on the number of rows and the length of fields."""

from __future__ import annotations

import csv
import io

from sightline.errors import InputError
from sightline.runtime.limits import VARIABLE, limits, require_within
from sightline.runtime.reading.files import PathLike
from sightline.runtime.reading.text import read_text
from sightline.words import shown


def read_csv(path: PathLike, delimiter: str = ",") -> list[list[str]]:
    """Read the rows of a CSV file without blank ones; errors as for `read_bytes` and `parse_csv`."""
    return parse_csv(read_text(path), path, delimiter)


def parse_csv(text: str, where: PathLike, delimiter: str = ",") -> list[list[str]]:
    """Parse the rows of a CSV text without blank ones.

    Raises:
        InputError: it is not valid CSV, a field is too long, or there are too many rows.
    """
    now = limits()
    usual = csv.field_size_limit(min(now.field, 2**31 - 1))
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) > now.rows:
                require_within(f"{shown(where)}: the number of rows", len(rows), "rows")
    except csv.Error as error:
        reason = str(error)
        if "field limit" in reason:
            reason = f"a field is longer than {now.field} characters, the limit ({VARIABLE}=10 raises it)"
        raise InputError(f"{shown(where)}, line {reader.line_num}: not valid CSV ({reason}); correct it") from None
    finally:
        csv.field_size_limit(usual)
    return rows

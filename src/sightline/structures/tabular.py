"""Results and labels as tables: columns of plain values, pandas data frames, and HTML in notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from sightline.runtime.optional import require


class Tabular:
    """Base class of results and labels that can be shown as a table."""

    def to_columns(self) -> dict[str, list[Any]]:
        """The table: column name → plain Python values, all of one length; the first column is "image"."""
        raise NotImplementedError(f"{type(self).__name__} does not define its table; implement to_columns")

    def to_pandas(self) -> Any:
        """The table as a pandas `DataFrame`; `sightline.interop.to_pandas` joins those of several results.

        Raises:
            InputError: pandas is not installed.
        """
        return frame_of([self.to_columns()])

    def _repr_html_(self) -> str:
        """The table as HTML for notebooks, with the result drawn on its image if `source` is an image file."""
        return html_of(self)


def frame_of(tables: Sequence[Mapping[str, Sequence[Any]]]) -> Any:
    """A pandas `DataFrame` of all rows of some tables; a column that a table lacks is missing in its rows.

    Raises:
        InputError: pandas is not installed.
    """
    require("pandas", "pandas", "pandas", "a table as a data frame")
    import pandas as pd

    names = list(dict.fromkeys(name for table in tables for name in table))
    lengths = [len(next(iter(table.values()), ())) for table in tables]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for table, length in zip(tables, lengths, strict=True):
        for name in names:
            columns[name] += table.get(name, [None] * length)
    return pd.DataFrame(columns)


def html_of(shown: Any) -> str:
    """HTML of a result or a dataset for notebooks.

    Drawing needs the packages for reports, which build on this one; they are imported by name, and only when a notebook
    asks for HTML.
    """
    html: str = import_module("sightline.report.notebook").html_of(shown)
    return html

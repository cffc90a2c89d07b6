"""Results as pandas data frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sightline.errors import InputError
from sightline.structures.tabular import Tabular, frame_of


def to_pandas(results: Tabular | Iterable[Tabular]) -> Any:
    """One data frame of a result, or of several, with the image of each row in the column "image".

    Objects have one row each, image classes one per class, class maps one per class with its number of pixels, events
    one each; see `to_columns` of each type. Images without a name are called "image 0", "image 1", … by their position.

    Raises:
        InputError: pandas is not installed, or a value is no result.
    """
    if isinstance(results, Tabular):
        return results.to_pandas()
    if not isinstance(results, Iterable):
        raise InputError(f"a {type(results).__name__} is no result of a model, and no list of results")
    tables = []
    for position, result in enumerate(results):
        if not isinstance(result, Tabular):
            raise InputError(f"item {position} is a {type(result).__name__}, which is no result of a model")
        columns = result.to_columns()
        columns["image"] = [f"image {position}" if name is None else name for name in columns["image"]]
        tables.append(columns)
    return frame_of(tables)

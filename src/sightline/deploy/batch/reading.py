"""Read a dataset of predictions: `read_predictions`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from sightline.deploy.batch.files import Folder, is_uri, require_pyarrow, short
from sightline.deploy.batch.tables import results_of
from sightline.deploy.predict import Predictions
from sightline.errors import InputError


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Read the results that `predict_to_parquet` has written.

    Args:
        path: path or URI of the folder.

    Returns:
        One result per image, as `sightline.predict` returns it; their `.source` is the path or URI of the image.
        `.errors` has the reason for each image that could not be predicted. Probability maps of class maps are not
        stored.

    Raises:
        InputError: the folder has no predictions, or they cannot be read.
    """
    found = Predictions()
    for result in iterate_predictions(path, found.errors):
        found.append(result)
    return found


def iterate_predictions(path: str | os.PathLike[str], errors: dict[str, str] | None = None) -> Iterator[Any]:
    """Yield the results one by one, for more of them than fit into memory.

    Args:
        path: path or URI of the folder.
        errors: a dict that gets the reason for each image that could not be predicted.

    Raises:
        InputError: as for `read_predictions`.
    """
    require_pyarrow()
    import pyarrow as arrow
    from pyarrow import parquet

    place = os.fspath(path)
    folder = Folder(place if is_uri(place) else os.path.abspath(place))
    parts = [file for file in folder.files("images") if file.endswith(".parquet")]
    if not parts:
        raise InputError(f"{place} has no predictions; give the folder DIR of sightline predict --out DIR.parquet")

    def read(name: str) -> Any:
        try:
            with folder.system.open_input_file(f"{folder.path}/{name}") as file:
                return parquet.read_table(file)
        except (OSError, arrow.ArrowException) as error:
            raise InputError(f"{place}/{name} cannot be read ({short(error)}); predict its images again") from None

    objects, failed = set(folder.files("objects")), set(folder.files("errors"))
    for part in parts:
        if errors is not None and part in failed:
            table = read(f"errors/{part}").to_pydict()
            errors.update(zip(table["source"], table["error"], strict=True))
        yield from results_of(read(f"images/{part}"), read(f"objects/{part}") if part in objects else None)

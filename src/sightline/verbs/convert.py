"""The verbs that write data: `convert` and `scenes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.verbs.opening import ClassesGiven, opened

if TYPE_CHECKING:
    from sightline.data.dataset import Dataset
    from sightline.data.formats import Conversion


@checked_keywords
def convert(
    data: Dataset | str | Path,
    out: str | Path,
    to: str,
    *,
    symlink: bool = False,
    shares: tuple[float, float, float] | None = None,
    seed: int = 0,
    classes: ClassesGiven | None = None,
    opening: Mapping[str, Any] | None = None,
) -> Path:
    """Write a dataset in another format; see `sightline.data.formats.convert`.

    Args:
        data: a dataset, or the path of one.
        out, to, symlink: as there.
        shares: divide data without splits into images to train, validate and test on, such as (0.8, 0.1, 0.1).
        seed: of the division.
        classes, opening: as for `sightline.evaluate`.

    Raises:
        InputError: data that is to be divided has splits already, or as there.
    """
    written(data, out, to, symlink=symlink, shares=shares, seed=seed, classes=classes, opening=opening)
    return Path(out)


def written(
    data: Dataset | str | Path,
    out: str | Path,
    to: str,
    *,
    symlink: bool,
    shares: tuple[float, float, float] | None,
    seed: int,
    classes: ClassesGiven | None,
    opening: Mapping[str, Any] | None,
) -> Conversion:
    """As `convert`, and says what was written."""
    from sightline.data.formats import convert as run

    dataset: Dataset = opened(data, classes=classes, opening=opening)
    if shares is not None:
        if len(dataset.splits) > 1:
            found = ", ".join(dataset.splits)
            raise InputError(f"the data is divided already ({found}), and --split would mix these; leave --split out")
        dataset = dataset.split(*shares, seed=seed)
    return run(dataset, Path(out), to, symlink=symlink)


@checked_keywords
def scenes(
    n: int,
    size: int | tuple[int, int] = 160,
    seed: int = 0,
    *,
    fields: Sequence[str] = (),
    kind: Literal["instances", "class_map", "class_scores"] = "instances",
    objects: tuple[int, int] = (2, 7),
    progress: bool = False,
) -> Dataset:
    """A dataset of n rendered scenes with exact labels; see `sightline.data.scenes.scenes`."""
    from sightline.data.scenes import scenes as run

    return run(n, size, seed, fields=fields, kind=kind, objects=objects, progress=progress)

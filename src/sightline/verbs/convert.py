"""Write data: `convert` and `scenes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.verbs.opening import ClassesGiven, open_data

if TYPE_CHECKING:
    from sightline.data.dataset import Dataset
    from sightline.data.formats import Conversion
    from sightline.data.scenes.dataset import Kind


@checked_keywords
def convert(
    data: Any,
    out: str | Path,
    to: str,
    *,
    symlink: bool = False,
    shares: tuple[float, float, float] | None = None,
    seed: int = 0,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
) -> Path:
    """Write a dataset in another format; see `sightline.data.formats.convert`.

    Args:
        data: a dataset, its path, or a PyTorch dataset.
        out: the folder to write, which must not exist or must be empty.
        to: the format to write, such as "coco" or "yolo".
        symlink: link to the images instead of copying them.
        shares: divide data without splits into training, validation and test images, such as (0.8, 0.1, 0.1).
        seed: seed of the division.
        classes, open_args: as for `sightline.evaluate`.

    Returns:
        The path of the folder.

    Raises:
        InputError: the data to be divided already has splits, or an error of `sightline.data.formats.convert`.
    """
    convert_dataset(data, out, to, symlink=symlink, shares=shares, seed=seed, classes=classes, open_args=open_args)
    return Path(out)


def convert_dataset(
    data: Any,
    out: str | Path,
    to: str,
    *,
    symlink: bool,
    shares: tuple[float, float, float] | None,
    seed: int,
    classes: ClassesGiven | None,
    open_args: Mapping[str, Any] | None,
) -> Conversion:
    """Convert like `convert`, but return a summary of what was written."""
    from sightline.data.formats import convert as run

    dataset: Dataset = open_data(data, classes=classes, open_args=open_args, complete=True)
    if shares is not None:
        if len(dataset.splits) > 1:
            found = ", ".join(dataset.splits)
            raise InputError(
                f"the data already has splits ({found}), and --split would mix their images; leave --split out"
            )
        dataset = dataset.split(*shares, seed=seed)
    return run(dataset, Path(out), to, symlink=symlink)


@checked_keywords
def scenes(
    n: int,
    size: int | tuple[int, int] = 160,
    seed: int = 0,
    *,
    fields: Sequence[str] = (),
    kind: Kind = "instances",
    objects: tuple[int, int] = (2, 7),
    progress: bool = False,
) -> Dataset:
    """Render a dataset of n scenes with exact labels; see `sightline.data.scenes.scenes`."""
    from sightline.data.scenes import scenes as run

    return run(n, size, seed, fields=fields, kind=kind, objects=objects, progress=progress)

"""Draw data: `contact_sheet`, `look` and `anchors`."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.runtime.files import require_new_file
from sightline.structures.fields import FIELDS
from sightline.tasks import task_for
from sightline.verbs.opening import ClassesGiven, open_data

if TYPE_CHECKING:
    from PIL import Image

    from sightline.data.anchors import AnchorReport
    from sightline.data.dataset import Dataset


@checked_keywords
def contact_sheet(
    data: Dataset | str | Path,
    transform: Callable[..., Any] | str | None = None,
    *,
    n: int = 16,
    columns: int = 4,
    seed: int = 0,
    size: int = 260,
) -> Image.Image:
    """Draw images with their labels, as training sees them; see `sightline.report.drawing.contact_sheet`.

    Args:
        data: a dataset, or its path.
        transform: an augmentation, or the name of an augmentation recipe ("default", "strong", "mosaic", …); policies
            such as "randaugment+cutmix" are added to the usual recipe for these labels.
        n: number of images.
        columns: number of columns.
        seed: seed of the choice of images and of the augmentation.
        size: longer side of each image, in pixels.

    Returns:
        A Pillow image.
    """
    from sightline.data.kinds import kind_of
    from sightline.data.transforms import as_transform, recipes
    from sightline.report.drawing import contact_sheet as run

    data = open_data(data)
    if isinstance(transform, str):
        transform = recipes.named(recipes.completed(transform, kind_of(data).augmentation))
    bound = None if transform is None else as_transform(transform).bind(data, None)
    return run(data, bound, n=n, columns=columns, seed=seed, size=size)


@dataclass(frozen=True)
class DrawnImages:
    """What `look` has drawn.

    Attributes:
        drawn: number of images drawn.
        images: number of images they were chosen from.
        split: the split of these images; None for all images.
    """

    drawn: int
    images: int
    split: str | None


def look(
    data: Dataset | str | Path,
    out: str | Path,
    transform: str = "none",
    *,
    n: int = 16,
    split: str | None = None,
    seed: int = 0,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
) -> DrawnImages:
    """Write a contact sheet of a dataset to a new file.

    Args:
        data: a dataset, or its path.
        out: the image file to write; its suffix decides the format.
        transform: name of an augmentation recipe.
        n: number of images.
        split: the split to choose images from; by default "train" if an augmentation is drawn, else all images.
        seed: seed of the choice of images and of the augmentation.
        classes, open_args: as for `sightline.evaluate`.

    Raises:
        InputError: the file exists or cannot be written, the data cannot be opened, or an argument is invalid.
    """
    from PIL import Image

    from sightline.data.transforms import recipes
    from sightline.training.metrics_log import atomic_write

    out = Path(out)
    require_new_file(out)
    recipes.named(transform)  # an unknown name is refused before the data is read
    try:
        Image.new("RGB", (1, 1)).save(io.BytesIO(), format=Image.registered_extensions()[out.suffix.lower()])
    except (KeyError, ValueError, OSError) as error:  # unknown, read-only, or without colours
        if getattr(error, "errno", None) is None:
            raise InputError(
                f"{out}: an image cannot be written as {out.suffix or 'a file without suffix'}; use .png"
            ) from None
    dataset = open_data(data, classes=classes, open_args=open_args, complete=True)
    for field in FIELDS.values():
        # what is in metres needs the camera, which is not kept where images are combined
        if field.drawn and field.geometry != "scene" and field.name not in dataset.fields and not dataset.about:
            with suppress(InputError):  # not every dataset has this field
                dataset = dataset.with_fields(field.name)
    if dataset.about:
        with suppress(InputError):  # no task of the catalog learns this
            dataset = task_for(dataset.kind, dataset.about).labels.prepare(dataset)
    if split is None and transform != "none" and "train" in dataset.splits:
        split = "train"  # the split that is augmented in training
    part = dataset[split] if split else dataset
    sheet = contact_sheet(part, transform, n=n, seed=seed)
    with atomic_write(out) as partial:
        sheet.save(partial)
    return DrawnImages(min(n, len(part)), len(part), split)


def anchors(
    data: Dataset | str | Path,
    k: int = 5,
    image_size: int = 416,
    out: str | Path = "anchors.png",
    *,
    split: str | None = None,
    seed: int = 0,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
) -> AnchorReport:
    """Cluster the box sizes of a dataset into anchors, and plot them; see `sightline.data.anchors.anchors`.

    Args:
        data: a dataset, or its path.
        k, image_size, seed: as for `sightline.data.anchors.anchors`.
        out: the plot to write, a new file: .png, .pdf or .svg.
        split: the split to use; by default "train", else all images.
        classes, open_args: as for `sightline.evaluate`.

    Raises:
        InputError: the file exists or has another suffix, or an error of `sightline.data.anchors.anchors`.
    """
    from sightline.data.anchors import anchors as run
    from sightline.report.anchor_plot import anchor_figure

    out = Path(out)
    require_new_file(out)
    if out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"{out}: a plot cannot be written as {out.suffix or 'a file without suffix'}; use .png")
    dataset = open_data(data, classes=classes, open_args=open_args, complete=True)
    split = split or ("train" if "train" in dataset.splits else None)
    found = run(dataset[split] if split else dataset, k, image_size, seed)
    anchor_figure(found).savefig(out, dpi=120)
    return found

"""The verbs that draw data: `contact_sheet`, `look` and `anchors`."""

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
from sightline.verbs.opening import ClassesGiven, opened

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
    """A picture of images with their labels, as training sees them; see `sightline.report.drawing.contact_sheet`.

    Args:
        data: a dataset, or the path of one.
        transform: an augmentation, or the name of an augmentation recipe ("default", "strong", "mosaic", …).
        n: how many images.
        columns: how many in a row.
        seed: of the choice of images and of the augmentation.
        size: longer side of each, in pixels.
    """
    from sightline.data.transforms import as_transform, recipes
    from sightline.report.drawing import contact_sheet as run

    data = opened(data)
    picked = recipes.named(transform) if isinstance(transform, str) else transform
    bound = None if picked is None else as_transform(picked).bind(data, None)
    return run(data, bound, n=n, columns=columns, seed=seed, size=size)


@dataclass(frozen=True)
class Looked:
    """What `look` has drawn.

    Attributes:
        drawn: how many images.
        images: how many there are to choose from.
        split: their split; None for all images.
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
    opening: Mapping[str, Any] | None = None,
) -> Looked:
    """Write a contact sheet of a dataset to a new file.

    Args:
        data: a dataset, or the path of one.
        out: the picture; its ending says the format.
        transform: name of an augmentation recipe.
        n: how many images.
        split: of these; by default "train" where they are augmented, else all images.
        seed: of the choice of images and of the augmentation.
        classes, opening: as for `sightline.evaluate`.

    Raises:
        InputError: the file exists or cannot be written, the data cannot be opened, or a name or number is wrong.
    """
    from PIL import Image

    out = Path(out)
    require_new_file(out)
    try:
        Image.new("RGB", (1, 1)).save(io.BytesIO(), format=Image.registered_extensions()[out.suffix.lower()])
    except (KeyError, ValueError, OSError) as error:  # unknown, read only, or without colours
        if getattr(error, "errno", None) is None:
            raise InputError(
                f"{out}: a picture cannot be written as {out.suffix or 'a file without ending'}; give .png"
            ) from None
    dataset = opened(data, classes=classes, opening=opening)
    for field in FIELDS.values():
        if field.drawn and field.name not in dataset.fields:
            with suppress(InputError):  # not every dataset has it
                dataset = dataset.with_fields(field.name)
    if split is None and transform != "none" and "train" in dataset.splits:
        split = "train"  # what is augmented
    part = dataset[split] if split else dataset
    contact_sheet(part, transform, n=n, seed=seed).save(out)
    return Looked(min(n, len(part)), len(part), split)


def anchors(
    data: Dataset | str | Path,
    k: int = 5,
    image_size: int = 416,
    out: str | Path = "anchors.png",
    *,
    split: str | None = None,
    seed: int = 0,
    classes: ClassesGiven | None = None,
    opening: Mapping[str, Any] | None = None,
) -> AnchorReport:
    """Cluster the sizes of a dataset's boxes into anchors, and draw them; see `sightline.data.anchors.anchors`.

    Args:
        data: a dataset, or the path of one.
        k, image_size, seed: as there.
        out: the picture to write, a new file: .png, .pdf or .svg.
        split: use only this split; by default "train", else all images.
        classes, opening: as for `sightline.evaluate`.

    Raises:
        InputError: the file exists or has another ending, or as there.
    """
    from sightline.data.anchors import anchors as run
    from sightline.report.anchor_plot import anchor_figure

    out = Path(out)
    require_new_file(out)
    if out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"{out}: a plot cannot be written as {out.suffix or 'a file without ending'}; give .png")
    dataset = opened(data, classes=classes, opening=opening)
    split = split or ("train" if "train" in dataset.splits else None)
    found = run(dataset[split] if split else dataset, k, image_size, seed)
    anchor_figure(found).savefig(out, dpi=120)
    return found

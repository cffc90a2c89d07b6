"""`fix`: writes a repaired copy of a dataset in the same format; the original is not changed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from sightline.data.check.exif import Drawn, drawn_on, is_stored_size, rotate_upright
from sightline.data.check.images import ImageInspection, inspect_images
from sightline.data.check.problems import RULES
from sightline.data.check.repairs import repair_boxes, repair_keypoints, repair_outlines
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import WRITTEN, convert, supported_kinds
from sightline.data.tables import rows_lost
from sightline.errors import InputError
from sightline.words import counted

_ACTIONS = {
    "image-missing": "left out (the image does not exist)",
    "image-truncated": "left out (the image is truncated)",
    "image-unreadable": "left out (the image cannot be read)",
    "size-differs": "given the size of the image",
    "exif-size": "given the upright size (the labels were drawn on the upright image)",
    "exif-turned": "rotated with the image (the labels were drawn before EXIF rotation)",
    "exif-undecided": "left unchanged: the labels do not show whether they were drawn before or after EXIF rotation; "
    "look at the image, then set turned (--turned upright or stored)",
    "label-malformed": "removed (cannot be read)",
    "unknown-class": "removed (unknown class)",
    "box-not-finite": "removed (box not finite)",
    "box-zero-area": "removed (box without area)",
    "box-inverted": "removed (box inverted)",
    "box-outside": "removed (box outside the image)",
    "box-reordered": "repaired (box corners swapped)",
    "box-clipped": "repaired (box clipped to the image)",
    "box-duplicate": "removed (duplicate)",
    "outline-malformed": "left without an outline (it could not be read)",
    "outline-broken": "left without an outline (it was unusable)",
    "outline-part": "left without the unusable polygons of the outline",
    "keypoint-not-finite": "left without a keypoint (its position was not finite)",
    "keypoint-outside": "left without a keypoint (it was outside the image)",
    "keypoint-visibility": "given visibility 2 for keypoints above 0, else 0",
    "mask-size-differs": "left without an outline (the size of its mask differed from the image)",
}
_OF_IMAGES = (
    "image-missing",
    "image-truncated",
    "image-unreadable",
    "size-differs",
    "exif-size",
    "exif-turned",
    "exif-undecided",
)


@dataclass(frozen=True)
class FixSummary:
    """What `fix` changed.

    Attributes:
        counts: number of objects or images per action ("box-clipped", "image-missing", …).
        images: number of images in the copy.
        objects: number of objects in the copy; None if the labels are not objects.
        out: folder of the copy.
        files: images that were left out.
        rows: number of rows removed from each table because an object they refer to was removed.
        item: what has a label: "image", or "video".
    """

    counts: dict[str, int]
    images: int
    objects: int | None
    out: Path
    files: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    item: str = "image"

    def __str__(self) -> str:
        objects = "" if self.objects is None else f" with {counted(self.objects, 'object')}"
        lines = [f"Wrote {counted(self.images, self.item)}{objects} to {self.out}."]
        for name, count in self.counts.items():
            lines.append(f"  · {counted(count, self.item if name in _OF_IMAGES else 'object')} {_ACTIONS[name]}")
        for name, count in self.rows.items():
            lines.append(f"  · {count} of the {name} removed (an object they refer to was removed)")
        if not self.counts:
            lines.append("  · nothing had to be changed")
        lines += [f"    without {file}" for file in self.files[:5]]
        if len(self.files) > 5:
            lines.append(f"    … and {len(self.files) - 5} more")
        return "\n".join(lines)


def require_fixable(dataset: Dataset, name: str = "this dataset") -> None:
    """Raise an error if `fix` cannot write a copy of this dataset.

    Args:
        dataset: the dataset to repair.
        name: name of the dataset in the error message.

    Raises:
        InputError: the labels are not objects, and their format can be read but not written.
    """
    kind = dataset.label_kind
    if not kind.has_objects and (dataset.format not in WRITTEN or kind not in supported_kinds(dataset.format)):
        raise InputError(
            f"{name} has {kind.noun} in the format {dataset.format}, which cannot be written, so there is no repaired "
            "copy; correct its files by hand"
        )


def fix(
    dataset: Dataset,
    out: str | os.PathLike[str],
    how: Literal["clip", "drop"] = "clip",
    progress: bool = True,
    turned: Drawn | None = None,
) -> FixSummary:
    """Write a repaired copy of a dataset in its original format, without errors and broken boxes.

    Missing, truncated and unreadable images are left out; that is all for labels that are not objects, such as one
    class per image. Boxes that are not finite, have no area, are duplicates or
    have an unknown class are removed. Unusable polygons and masks are removed too, while the box and the other polygons
    of the outline are kept. With "clip", boxes and polygons that extend beyond the image are clipped and inverted boxes
    are reordered; with "drop", these objects are removed.

    Args:
        dataset: a dataset with all its splits.
        out: a folder that does not exist or is empty.
        how: "clip" or "drop".
        progress: show a progress bar on stderr.
        turned: how labels were drawn whose stated size is the image size before EXIF rotation: on the "upright" or on
            the "stored" image. Used only if the labels themselves do not decide it (see
            `sightline.data.check.exif`); None leaves these images unchanged.

    Returns:
        A summary of the changes.

    Raises:
        InputError: the folder is not empty or lies inside the dataset, the format cannot be written, or no image is
            left.
    """
    out = Path(out).expanduser()
    if turned not in (None, "upright", "stored"):
        raise InputError(f"turned is {turned!r}, but must be 'upright' or 'stored': the image the labels fit")
    if how not in ("clip", "drop"):
        raise InputError(f"how is {how!r}, but must be 'clip' or 'drop'")
    require_fixable(dataset)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not an empty folder; choose a new one, nothing is overwritten")
    dataset = dataset.with_fields(*dataset.source.later)  # columns that are loaded lazily must match the rows, too
    looks = inspect_images(dataset, pixels=True, progress=progress)
    counts: Counter[str] = Counter(bad.rule for bad in dataset.malformed)
    if dataset.label_kind.has_objects:
        keep, columns = _repair_images(dataset, looks, counts, turned)
    else:
        counts.update(look.rule for look in looks if look.rule is not None)
        keep, columns = np.array([look.rule is None for look in looks]), dataset.columns
    if not keep.any():
        raise InputError(f"none of {len(dataset)} images can be read, so there is nothing to write; correct the paths")
    files = tuple(dataset.name(i) for i in np.flatnonzero(~keep).tolist())
    repaired = dataset.with_columns(columns)[np.flatnonzero(keep)]
    if not dataset.label_kind.has_objects:
        convert(repaired, out, dataset.format)
        return FixSummary(_in_order(counts), len(repaired), None, out, files, item=dataset.label_kind.item)
    whole = repair_keypoints(repair_outlines(repaired.columns, counts), counts)
    fixed = repair_boxes(whole, len(dataset.classes), how, counts)
    convert(repaired.with_columns(fixed), out, dataset.format if dataset.format in WRITTEN else "coco")
    lost = rows_lost(repaired.columns.tables, fixed.tables)
    return FixSummary(_in_order(counts), fixed.images, fixed.objects, out, files, lost)


def _in_order(counts: Counter[str]) -> dict[str, int]:
    """The counts in the order of `_ACTIONS`."""
    return {name: counts[name] for name in _ACTIONS if counts[name]}


def _repair_images(
    dataset: Dataset, looks: list[ImageInspection], counts: Counter[str], turned: Drawn | None
) -> tuple[np.ndarray, Columns]:
    """Which images are kept (bool [N]), and the columns with the actual image sizes."""
    columns = dataset.columns
    keep = np.ones(len(dataset), dtype=bool)
    for i, one in enumerate(looks):
        stated = (int(columns.heights[i]), int(columns.widths[i]))
        if one.rule is None and one.size is not None and is_stored_size(stated, one.size, one.orientation):
            drawn = drawn_on(columns, i, one.size) or turned
            counts[{"upright": "exif-size", "stored": "exif-turned", None: "exif-undecided"}[drawn]] += 1
            if drawn == "stored":
                columns = rotate_upright(columns, i, one.orientation, stated, dataset.keypoint_swap)
    heights, widths = columns.heights.copy(), columns.widths.copy()
    for i, one in enumerate(looks):
        stated = (int(heights[i]), int(widths[i]))
        rule = one.rule
        if rule is None and one.size is not None and one.size != stated:
            if not is_stored_size(stated, one.size, one.orientation):
                counts["size-differs"] += all(stated)
                heights[i], widths[i] = one.size
            elif (drawn_on(columns, i, one.size) or turned) == "upright":
                heights[i], widths[i] = one.size
        if rule is not None:
            counts[rule] += 1
            keep[i] = False
    return keep, columns.replace(heights=heights, widths=widths)


assert set(_ACTIONS) - {
    "exif-size",
    "exif-turned",
    "exif-undecided",
    "box-reordered",
    "box-clipped",
    "outline-part",
} <= set(RULES)

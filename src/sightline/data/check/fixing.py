"""`fix`: writes a repaired copy of a dataset in the same format; the original is not changed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from sightline.data.blob import Blob
from sightline.data.check.exif import Drawn, drawn_on, is_stored_size, rotate_upright
from sightline.data.check.images import ImageInspection, inspect_images
from sightline.data.check.labels import bad_boxes, duplicate_boxes
from sightline.data.check.outlines import bad_keypoints, bad_outlines
from sightline.data.check.problems import RULES
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import WRITTEN, convert
from sightline.data.segmentation import usable_part
from sightline.data.tables import rows_lost
from sightline.errors import InputError

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
        images, objects: number of images and objects in the copy.
        out: folder of the copy.
        files: images that were left out.
        rows: number of rows removed from each table because an object they refer to was removed.
    """

    counts: dict[str, int]
    images: int
    objects: int
    out: Path
    files: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"Wrote {self.images} images with {self.objects} objects to {self.out}."]
        for name, count in self.counts.items():
            thing = "image" if name in _OF_IMAGES else "object"
            lines.append(f"  · {count} {thing if count == 1 else thing + 's'} {_ACTIONS[name]}")
        for name, count in self.rows.items():
            lines.append(f"  · {count} of the {name} removed (an object they refer to was removed)")
        if not self.counts:
            lines.append("  · nothing had to be changed")
        lines += [f"    without {file}" for file in self.files[:5]]
        if len(self.files) > 5:
            lines.append(f"    … and {len(self.files) - 5} more")
        return "\n".join(lines)


def require_fixable(dataset: Dataset, name: str = "this dataset") -> None:
    """Raise an error if `fix` cannot repair this kind of labels.

    Args:
        dataset: the dataset to repair.
        name: name of the dataset in the error message.

    Raises:
        InputError: the labels are not objects.
    """
    if not dataset.label_kind.has_objects:
        noun = dataset.label_kind.noun
        raise InputError(f"only boxes can be fixed, but {name} has {noun}; correct its files manually")


def fix(
    dataset: Dataset,
    out: str | os.PathLike[str],
    how: Literal["clip", "drop"] = "clip",
    progress: bool = True,
    turned: Drawn | None = None,
) -> FixSummary:
    """Write a repaired copy of a dataset in its original format, without errors and broken boxes.

    Missing, truncated and unreadable images are left out. Boxes that are not finite, have no area, are duplicates or
    have an unknown class are removed. Unusable polygons and masks are removed too, while the box and the other polygons
    of the outline are kept. With "clip", boxes and polygons that extend beyond the image are clipped and inverted boxes
    are reordered; with "drop", these objects are removed.

    Args:
        dataset: a dataset of objects, with all its splits.
        out: a folder that does not exist or is empty.
        how: "clip" or "drop".
        progress: show a progress bar on stderr.
        turned: how labels were drawn whose stated size is the image size before EXIF rotation: on the "upright" or on
            the "stored" image. Used only if the labels themselves do not decide it (see
            `sightline.data.check.exif`); None leaves these images unchanged.

    Returns:
        A summary of the changes.

    Raises:
        InputError: the folder is not empty or lies inside the dataset, the labels are not objects, or nothing is left.
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
    keep, columns = _repair_images(dataset, looks, counts, turned)
    if not keep.any():
        raise InputError(f"none of {len(dataset)} images can be read, so there is nothing to write; correct the paths")
    files = tuple(dataset.name(i) for i in np.flatnonzero(~keep).tolist())
    repaired = dataset.with_columns(columns)[np.flatnonzero(keep)]
    whole = _repair_keypoints(_repair_outlines(repaired.columns, counts), counts)
    fixed = repair_boxes(whole, len(dataset.classes), how, counts)
    convert(repaired.with_columns(fixed), out, dataset.format if dataset.format in WRITTEN else "coco")
    order = {name: position for position, name in enumerate(_ACTIONS)}
    ordered = dict(sorted(counts.items(), key=lambda item: order[item[0]]))
    lost = rows_lost(repaired.columns.tables, fixed.tables)
    return FixSummary(ordered, fixed.images, fixed.objects, out, files, lost)


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


def _repair_outlines(columns: Columns, counts: Counter[str]) -> Columns:
    """Columns without unusable polygons and masks; the rest of each outline is kept."""
    sizes = np.column_stack([columns.heights, columns.widths]).astype(np.int64)
    bad = {row: rule for rule, rows in bad_outlines(columns, sizes).items() for row in rows}
    if not bad:
        return columns
    entries = list(columns.segmentations)
    images = columns.image_of
    for row, rule in bad.items():
        height, width = sizes[images[row]].tolist()
        part = usable_part(json.loads(entries[row]), (height, width))
        entries[row] = b"" if part is None else json.dumps(part, separators=(",", ":")).encode()
        counts[rule if part is None else "outline-part"] += 1
    return columns.replace(segmentations=Blob.of(entries))


def _repair_keypoints(columns: Columns, counts: Counter[str]) -> Columns:
    """Columns in which keypoints outside the image are absent and the others have a valid visibility."""
    if columns.keypoints is None:
        return columns
    keypoints = columns.keypoints.copy()
    sizes = np.column_stack([columns.heights, columns.widths]).astype(np.int64)
    for rule, found in bad_keypoints(columns, sizes).items():
        counts[rule] += int(found.any(1).sum())
        if rule == "keypoint-visibility":
            keypoints[found, 2] = np.where(keypoints[found, 2] > 0, 2, 0)
        else:
            keypoints[found] = 0
    return columns.replace(keypoints=keypoints)


def _clipped_outlines(columns: Columns, frame: np.ndarray, chosen: np.ndarray) -> Blob:
    """The segmentations, with polygons of the `chosen` objects clipped: some formats derive boxes from them."""
    if not (chosen & (columns.segmentations.lengths > 0)).any():
        return columns.segmentations
    entries = list(columns.segmentations)
    for row in np.flatnonzero(chosen & (columns.segmentations.lengths > 0)).tolist():
        polygons = json.loads(entries[row])
        if isinstance(polygons, list):
            width, height = frame[row].tolist()
            inside = [ring for polygon in polygons if len(ring := clip_polygon(polygon, width, height)) >= 6]
            entries[row] = json.dumps(inside, separators=(",", ":")).encode() if inside else b""
    return Blob.of(entries)


def clip_polygon(polygon: Sequence[float], width: float, height: float) -> list[float]:
    """The part of a flat polygon inside 0 … width and 0 … height; an empty list if there is none.

    Source: Sutherland and Hodgman, Reentrant Polygon Clipping, 1974.
    """
    points = [(float(x), float(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
    for axis, edge, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        kept: list[tuple[float, float]] = []
        for k, end in enumerate(points):
            start = points[k - 1]
            depths = [sign * (point[axis] - edge) for point in (start, end)]
            if (depths[0] < 0) != (depths[1] < 0):  # the side crosses the edge
                share = depths[0] / (depths[0] - depths[1])
                across = start[1 - axis] + share * (end[1 - axis] - start[1 - axis])
                kept.append((edge, across) if axis == 0 else (across, edge))
            if depths[1] >= 0:
                kept.append(end)
        points = kept
    return [round(value, 6) for point in points for value in point]


def repair_boxes(columns: Columns, classes: int, how: str, counts: Counter[str]) -> Columns:
    """Columns with valid boxes; each action is added to `counts`."""
    sizes = np.column_stack([columns.heights, columns.widths]).astype(np.int64)
    bad = bad_boxes(columns, sizes, classes)
    boxes = columns.boxes.copy()
    remove = np.zeros(columns.objects, dtype=bool)
    removed_for = ["unknown-class", "box-not-finite", "box-zero-area"]
    if how == "drop":
        removed_for += ["box-inverted", "box-outside"]
    else:
        inverted = bad["box-inverted"]
        boxes[inverted] = np.sort(boxes[inverted].reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        counts["box-reordered"] += int(inverted.sum())
    for rule in removed_for:
        counts[rule] += int((bad[rule] & ~remove).sum())
        remove |= bad[rule]
    frame = sizes[columns.image_of][:, ::-1]
    with np.errstate(invalid="ignore"):
        clipped = np.minimum(boxes.clip(0), np.tile(frame, 2))
        shift = np.abs(clipped - boxes).max(1, initial=0)
    gone = ~remove & (clipped[:, 2:] <= clipped[:, :2]).any(1)  # entirely outside the image
    counts["box-zero-area"] += int(gone.sum())
    remove |= gone
    if how == "clip":
        counts["box-clipped"] += int((~remove & (shift > 0.5)).sum())
    changed = ~remove & (clipped != columns.boxes).any(1)
    own = (columns.boxes[:, 2:] - columns.boxes[:, :2]).prod(1)
    by_box = changed & ((columns.segmentations.lengths == 0) | np.isclose(columns.areas, np.abs(own)))
    areas = np.where(by_box, (clipped[:, 2:] - clipped[:, :2]).prod(1), columns.areas)
    repaired = columns.replace(boxes=np.where(remove[:, None], boxes, clipped), areas=areas)
    if how == "clip":
        repaired = repaired.replace(segmentations=_clipped_outlines(columns, frame, ~remove & (shift > 0)))
    twice = duplicate_boxes(repaired) & ~remove
    counts["box-duplicate"] += int(twice.sum())
    for name in [name for name, count in counts.items() if not count]:
        del counts[name]
    return repaired.take_objects(~(remove | twice))


assert set(_ACTIONS) - {
    "exif-size",
    "exif-turned",
    "exif-undecided",
    "box-reordered",
    "box-clipped",
    "outline-part",
} <= set(RULES)

"""`fix`: a repaired copy of a dataset, in the same format; the original stays as it is."""

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
from sightline.data.check.labels import bad_boxes, duplicate_boxes
from sightline.data.check.outlines import bad_keypoints, bad_outlines
from sightline.data.check.pictures import Looks, look_at
from sightline.data.check.problems import RULES
from sightline.data.check.turning import Drawn, drawn_on, lying
from sightline.data.check.turning import turned as turned_upright
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import WRITTEN, convert
from sightline.data.segmentation import usable_part
from sightline.data.tables import rows_lost
from sightline.errors import InputError

_ACTIONS = {
    "image-missing": "left out (the image is not there)",
    "image-truncated": "left out (the image is cut short)",
    "image-unreadable": "left out (the image cannot be read)",
    "size-differs": "given the size of the image",
    "exif-size": "given its upright size (its labels were drawn on the upright image)",
    "exif-turned": "turned with its labels (they were drawn on the image before its EXIF mark turned it)",
    "exif-undecided": "left as it is: its labels do not show whether they were drawn before its EXIF mark turned it; "
    "look at it, and say so with turned (--turned upright or stored)",
    "label-malformed": "removed (cannot be read)",
    "unknown-class": "removed (unknown class)",
    "box-not-finite": "removed (box not finite)",
    "box-zero-area": "removed (box without area)",
    "box-inverted": "removed (box inverted)",
    "box-outside": "removed (box beyond the image)",
    "box-reordered": "repaired (corners of the box exchanged)",
    "box-clipped": "repaired (box clipped to the image)",
    "box-duplicate": "removed (labelled twice)",
    "outline-malformed": "left without outline (it could not be read)",
    "outline-broken": "left without outline (it could not be used)",
    "outline-part": "left without the polygons of its outline that could not be used",
    "keypoint-not-finite": "left without a keypoint (its place was not finite)",
    "keypoint-outside": "left without a keypoint (it lay beyond the image)",
    "keypoint-visibility": "given the visibility 2 for keypoints above 0, else 0",
    "mask-size-differs": "left without outline (its mask was of another size than the image)",
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
        counts: by what was done ("box-clipped", "image-missing" …), how many objects or images.
        images, objects: how many the copy holds.
        out: where it is.
        files: of images that were left out.
        rows: how many rows of each further table were removed with an object that they refer to.
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
    """Refuse a dataset whose labels `fix` cannot correct.

    Args:
        dataset: that is to be fixed.
        name: what to call it in the message.

    Raises:
        InputError: its labels are no objects.
    """
    if not dataset.label_kind.has_objects:
        noun = dataset.label_kind.noun
        raise InputError(f"only boxes can be fixed, but {name} holds {noun}; correct its files by hand")


def fix(
    dataset: Dataset,
    out: str | os.PathLike[str],
    how: Literal["clip", "drop"] = "clip",
    progress: bool = True,
    turned: Drawn | None = None,
) -> FixSummary:
    """Write a copy without what `check` calls errors and without broken boxes, in the format of the original.

    Images that are missing, cut short or unreadable are left out. Boxes that are not finite, without area, repeated, or
    of an unknown class are removed; so are polygons and masks that cannot be used, while the box and the other polygons
    of the outline stay. With "clip", boxes beyond the image are clipped with their polygons, and inverted ones put in
    order; with "drop" they are removed.

    Args:
        dataset: objects on images, with all its splits.
        out: a folder that does not exist or is empty.
        how: "clip" or "drop".
        progress: show a progress bar on the error stream.
        turned: for images that an EXIF mark turns and whose stated size is that of the stored picture: whether labels
            were drawn on the "upright" or on the "stored" picture, where they do not show it themselves (see
            `sightline.data.check.turning`); None leaves such an image as it is.

    Returns:
        What was changed.

    Raises:
        InputError: the folder is not empty, or lies in the dataset; the dataset is of another kind; nothing is left.
    """
    out = Path(out).expanduser()
    if turned not in (None, "upright", "stored"):
        raise InputError(f"turned is {turned!r}, but labels were drawn on the 'upright' or on the 'stored' image")
    if how not in ("clip", "drop"):
        raise InputError(f"how is {how!r}, but broken boxes can be repaired by 'clip' or 'drop'")
    require_fixable(dataset)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not an empty folder; name a new one, nothing is overwritten")
    dataset = dataset.with_fields(*dataset.source.later)  # what is read only when asked for must match the rows, too
    looks = look_at(dataset, pixels=True, progress=progress)
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
    dataset: Dataset, looks: list[Looks], counts: Counter[str], turned: Drawn | None
) -> tuple[np.ndarray, Columns]:
    """Which images stay (bool [N]), and the columns with the images' true sizes."""
    columns = dataset.columns
    keep = np.ones(len(dataset), dtype=bool)
    for i, one in enumerate(looks):
        stated = (int(columns.heights[i]), int(columns.widths[i]))
        if one.rule is None and one.size is not None and lying(stated, one.size, one.orientation):
            drawn = drawn_on(columns, i, one.size) or turned
            counts[{"upright": "exif-size", "stored": "exif-turned", None: "exif-undecided"}[drawn]] += 1
            if drawn == "stored":
                columns = turned_upright(columns, i, one.orientation, stated, dataset.keypoint_swap)
    heights, widths = columns.heights.copy(), columns.widths.copy()
    for i, one in enumerate(looks):
        stated = (int(heights[i]), int(widths[i]))
        rule = one.rule
        if rule is None and one.size is not None and one.size != stated:
            if not lying(stated, one.size, one.orientation):
                counts["size-differs"] += all(stated)
                heights[i], widths[i] = one.size
            elif (drawn_on(columns, i, one.size) or turned) == "upright":
                heights[i], widths[i] = one.size
        if rule is not None:
            counts[rule] += 1
            keep[i] = False
    return keep, columns.replace(heights=heights, widths=widths)


def _repair_outlines(columns: Columns, counts: Counter[str]) -> Columns:
    """Columns without polygons and masks that cannot be used; what is left of an outline stays."""
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
    """Columns whose keypoints without a place in the image are absent, and the others of a known visibility."""
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
    """The segmentations, polygons of the `chosen` objects cut at their image's edge: formats take the box from them."""
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
    """The part of a flat polygon within 0 … width and 0 … height; empty where nothing is.

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
    """Columns whose boxes are in order; what was done is added to `counts`."""
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
    gone = ~remove & (clipped[:, 2:] <= clipped[:, :2]).any(1)  # wholly beyond the image
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

"""Collecting columns from drawn shapes, and helpers shared by their readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.blob import Blob, Column
from sightline.data.builder import Builder
from sightline.data.columns import Columns
from sightline.data.formats import files, shapes
from sightline.data.formats.coco_gather import compact
from sightline.data.segmentation import area_of
from sightline.errors import InputError
from sightline.structures import Classes, Size

_GENERAL = frozenset(
    ["data", "dataset", "datasets", "images", "img", "via", "annotations", "labels", "json", "csv", "all"]
)
"""Folder names that do not describe what the data shows."""


class Gather:
    """Collects columns from drawn shapes, object by object.

    Args:
        classes: class names given by the user, in order; None for all that occur.
        listed: class names listed in the file, in order; None if it lists none.
    """

    def __init__(self, classes: Sequence[str] | None, listed: Sequence[str] | None = None):
        names = classes if classes is not None else listed
        self.fixed = names is not None
        # Leading and trailing spaces are ignored: tools add and remove them.
        self.ids = {name: k for k, name in enumerate(Classes(dict.fromkeys(name.strip() for name in names or [])))}
        self.builder = Builder()
        self.image_extra: list[str] = []
        self.flags: dict[str, list[bool]] = {name: [] for name in shapes.FLAGS}
        self.texts: dict[str, list[str]] = {name: [] for name in (*shapes.TEXTS, "caption", "shape", "other")}
        self.tracks: list[int] = []

    def image(self, name: str, size: Size, split: int, label_name: str = "", extra: Mapping[str, Any] = {}) -> None:
        """Begin the next image."""
        self.builder.add_image(name, size, split, label_name)
        self.image_extra.append(compact(dict(extra)) if extra else "")

    def object(
        self,
        where: str,
        label: str,
        *,
        box: Sequence[float] | None = None,
        polygons: Sequence[Sequence[float]] | None = None,
        rle: dict[str, Any] | None = None,
        shape: shapes.Shape | None = None,
        area: float | None = None,
        attributes: Mapping[str, Any] = {},
        track: int = -1,
    ) -> None:
        """Add an object to the current image: a box, polygons, an RLE, or another shape.

        Args:
            where: file and object, for messages.
            area: area of an RLE given with its box, so that the RLE need not be decoded.
            attributes: attributes from the tool; those in `shapes.RESERVED` get a column, others are stored in the
                column "other".
            track: id of the track in a video.
        """
        label = label.strip()
        if label not in self.ids and self.fixed:
            raise files.unknown_class(where, f"class {label!r}", list(self.ids))
        segmentation = b""
        if shape is not None:
            box, polygon = shapes.geometry(shape)
            polygons = None if polygon is None else [polygon]
        if polygons is not None:
            box = shapes.bounds(polygons)
            segmentation = compact(polygons).encode()
            area = area_of(polygons, self.builder.size)
        elif rle is not None:
            if box is None or area is None:
                from sightline.ops.masks import rle_area, rle_to_box

                try:
                    box, area = rle_to_box(rle).tolist(), float(rle_area(rle))
                except InputError as error:
                    raise InputError(f"{where}: {error}") from None
            segmentation = compact(rle).encode()
        assert box is not None, "an object is a box, polygons, an RLE or a shape"
        other = {name: value for name, value in attributes.items() if name not in shapes.RESERVED}
        marks = {shapes.MARKS[name]: _is_true(value) for name, value in attributes.items() if name in shapes.MARKS}
        id = self.ids.setdefault(label, len(self.ids))
        self.builder.add_object(box, id, area=area, segmentation=segmentation, **marks)
        for name, flags in self.flags.items():
            flags.append(_is_true(attributes.get(name)))
        for name in (*shapes.TEXTS, "caption"):
            self.texts[name].append(str(attributes.get(name) or ""))
        self.texts["shape"].append("" if shape is None else compact(shape))
        self.texts["other"].append(compact(other) if other else "")
        self.tracks.append(track)

    def finish(self) -> tuple[Columns, Classes]:
        """Return columns and classes; class names that are not listed anywhere are sorted."""
        extra: dict[str, Column] = {name: np.array(flags, bool) for name, flags in self.flags.items() if any(flags)}
        extra |= {name: Blob.of(texts) for name, texts in self.texts.items() if name != "caption" and any(texts)}
        if any(track >= 0 for track in self.tracks):
            extra["track"] = np.array(self.tracks, np.int64)
        captions = Blob.of(self.texts["caption"]) if any(self.texts["caption"]) else None
        image_extra = Blob.of(self.image_extra) if any(self.image_extra) else None
        columns = self.builder.build(extra=extra, captions=captions, image_extra=image_extra)
        if self.fixed:
            return columns, Classes(self.ids)
        names = sorted(self.ids)
        places = np.array([names.index(name) for name in self.ids], np.int32)
        return columns.replace(labels=places[columns.labels] if len(places) else columns.labels), Classes(names)


def _is_true(value: Any) -> bool:
    return value is not None and str(value).strip().lower() in ("1", "1.0", "true", "yes")


def place_of(name: str, folders: Sequence[Path]) -> Path | None:
    """Path of an image of a label file: by its full name, or by the end of its name, in one of the folders."""
    plain = name.replace("\\", "/")
    for candidate in dict.fromkeys((plain, plain.rsplit("/", 1)[-1])):
        for folder in folders:
            if candidate and (folder / candidate).is_file():
                return folder / candidate
    return None


def only_class(home: Path, classes: Sequence[str] | None) -> str:
    """The name of the only class if the labels have none: the one given by the user, else the folder's name."""
    if classes is not None and len(classes) == 1:
        return classes[0]
    if classes is not None:
        raise InputError(f"{home} has no class names, so all objects have one class; give one, not {list(classes)}")
    for folder in (home, *home.parents):
        if folder.name and folder.name.lower() not in _GENERAL and files.split_name(folder.name) not in files.ORDER:
            return folder.name
    return "object"

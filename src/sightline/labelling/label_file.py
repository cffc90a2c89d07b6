"""A COCO file of labels that is edited image by image.

What the editor does not know is kept: other fields of entries, keypoints, masks in COCO's run-length code, and images
that are not being labelled.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.images import image_size
from sightline.errors import InputError
from sightline.ops.masks import polygons_to_rle, rle_area
from sightline.runtime.files import written_whole
from sightline.runtime.reading import read_json
from sightline.structures import Size

_KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Shape:
    """A labelled object.

    Attributes:
        label: name of its class.
        box: (x1, y1, x2, y2) in pixels of the image.
        outline: the points (x, y) of a polygon in pixels, or None for a box alone.
        id: of its annotation in the file; None for a new object.
        fixed: the object has a shape that cannot be edited, such as a mask, several polygons or keypoints; only its
            class is read from here.
    """

    label: str
    box: tuple[float, float, float, float]
    outline: tuple[tuple[float, float], ...] | None = None
    id: int | str | None = None
    fixed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The object as JSON values."""
        return {"label": self.label, "box": self.box, "outline": self.outline, "id": self.id, "fixed": self.fixed}

    @classmethod
    def of(cls, value: Any, size: Size) -> Shape:
        """An object from JSON values, clipped to an image of `size` (height, width).

        Raises:
            InputError: a value is missing, is not a number, or nothing of the object lies in the image.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("label"), str) or not value["label"].strip():
            raise InputError("an object has no label; give the name of its class")
        label, id = value["label"].strip(), value.get("id")
        if id is not None and (isinstance(id, bool) or not isinstance(id, int | str)):
            raise InputError(f"the id of a {label} is {id!r}, but must be a number, a text or null")
        points = value.get("outline")
        if points is not None:
            if not isinstance(points, list | tuple) or len(points) < 3:
                raise InputError(f"the outline of a {label} needs 3 points or more")
            outline = tuple(_clipped(_numbers(point, 2, f"a point of a {label}"), size) for point in points)
            xs, ys = zip(*outline, strict=True)
            box = (min(xs), min(ys), max(xs), max(ys))
        else:
            outline = None
            x1, y1, x2, y2 = _numbers(value.get("box"), 4, f"the box of a {label}")
            box = (*_clipped((min(x1, x2), min(y1, y2)), size), *_clipped((max(x1, x2), max(y1, y2)), size))
        if box[2] <= box[0] or box[3] <= box[1]:
            raise InputError(f"a {label} has no area inside the image of {size[1]}×{size[0]} pixels; draw it again")
        return cls(label, box, outline, id, bool(value.get("fixed")))


class LabelFile:
    """The labels of images in a COCO file, which is written again after each change.

    Only images that have been labelled are in the file; an image in it without objects is one that shows none.

    Args:
        path: the file. If it exists, it is continued.
        images: files of the images to label.
        root: folder that the names in a new file are relative to.
        classes: names of classes; those of the file come first.

    Raises:
        InputError: the file is not a COCO file, or there are no images.
    """

    def __init__(self, path: Path, images: Sequence[Path], root: Path, classes: Sequence[str] = ()):
        if not images:
            raise InputError(f"{root}: there are no images to label; give a folder or files of images")
        self.path, self.images, self.root = path, list(images), root
        self._content = _read(path) if path.exists() else {"images": [], "annotations": [], "categories": []}
        rows = {image.resolve(): k for k, image in enumerate(self.images)}
        self._entries: dict[int, dict[str, Any]] = {}
        for entry in self._content["images"]:
            name = str(entry.get("file_name", ""))
            found = next((rows[p] for base in (root, path.parent) if (p := (base / name).resolve()) in rows), None)
            if found is not None:
                self._entries[found] = entry
        for name in dict.fromkeys(name.strip() for name in classes if name.strip()):
            self._category(name)

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the file."""
        return [str(category["name"]) for category in self._content["categories"]]

    def name(self, image: int) -> str:
        """The name of an image, relative to the folder if it is in it."""
        path = self.images[image]
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def is_labelled(self, image: int) -> bool:
        """Whether the file has the image."""
        return image in self._entries

    def shapes(self, image: int) -> list[Shape]:
        """The objects of an image."""
        if image not in self._entries:
            return []
        return [shape for annotation in self._annotations(image) if (shape := self._shape(annotation)) is not None]

    def count(self, image: int) -> int:
        """The number of objects of an image."""
        return len(self._annotations(image)) if image in self._entries else 0

    def replace(self, image: int, shapes: Sequence[Shape], labelled: bool = True) -> None:
        """Replace the objects of an image, and write the file.

        Args:
            image: its number.
            shapes: all its objects; of the objects that `shapes` returns, those that are not among them are removed.
                Annotations that it does not return, such as those without a box, are kept.
            labelled: whether the image has been labelled; otherwise it is taken out of the file, with its objects.

        Raises:
            InputError: the image cannot be read, or the file cannot be written.
        """
        kept = [annotation for annotation in self._content["annotations"] if not self._is_of(annotation, image)]
        if not labelled:
            entry = self._entries.pop(image, None)
            self._content["images"] = [other for other in self._content["images"] if other is not entry]
            self._content["annotations"] = kept
        else:
            height, width = image_size(self.images[image])
            old = {}
            for annotation in self._annotations(image):
                if self._shape(annotation) is None:  # the page does not show it
                    kept.append(annotation)
                else:
                    old[annotation["id"]] = annotation
            entry = self._entries.get(image)
            if entry is None:
                number = _next_id(self._content["images"])
                entry = {"id": number, "file_name": self.name(image), "width": width, "height": height}
                self._content["images"].append(entry)
                self._entries[image] = entry
            number = _next_id(self._content["annotations"])
            for shape in shapes:
                known = old.pop(shape.id, None) if shape.id is not None else None
                before = None if known is None else self._shape(known)
                annotation = dict(known) if known is not None else {"id": number, "image_id": entry["id"], "iscrowd": 0}
                number += known is None
                annotation["category_id"] = self._category(shape.label)
                if before is None or not (before.fixed or (shape.box, shape.outline) == (before.box, before.outline)):
                    annotation |= _geometry(shape, (height, width))
                    if shape.outline is None:
                        annotation.pop("segmentation", None)
                kept.append(annotation)
            self._content["annotations"] = kept
        self.write()

    def add_class(self, name: str) -> None:
        """Add a class, and write the file.

        Raises:
            InputError: the name is empty or taken.
        """
        name = name.strip()
        if not name:
            raise InputError("the name of a class is empty; type one")
        if name in self.classes:
            raise InputError(f"there is already a class {name!r}; choose another name")
        self._category(name)
        self.write()

    def write(self) -> None:
        """Write the file; an error leaves the old one as it was."""
        with written_whole(self.path, "the labels") as partial:
            partial.write_text(json.dumps(self._content, ensure_ascii=False) + "\n", encoding="utf-8")

    def _annotations(self, image: int) -> list[dict[str, Any]]:
        return [annotation for annotation in self._content["annotations"] if self._is_of(annotation, image)]

    def _is_of(self, annotation: Mapping[str, Any], image: int) -> bool:
        entry = self._entries.get(image)
        return entry is not None and annotation.get("image_id") == entry["id"]

    def _shape(self, annotation: Mapping[str, Any]) -> Shape | None:
        """The object of an annotation, or None if it has no class or no box."""
        names = {category["id"]: str(category["name"]) for category in self._content["categories"]}
        box, name = _box(annotation), names.get(annotation.get("category_id"))
        if box is None or name is None:
            return None
        polygons = annotation.get("segmentation") or None
        outline = _single_polygon(polygons)
        fixed = (polygons is not None and outline is None) or any(map(annotation.get, ("keypoints", "iscrowd")))
        return Shape(name, box, None if fixed else outline, annotation["id"], fixed)

    def _category(self, name: str) -> Any:
        """The id of a class, which is added if it is new."""
        for category in self._content["categories"]:
            if category["name"] == name:
                return category["id"]
        number = _next_id(self._content["categories"])
        self._content["categories"].append({"id": number, "name": name})
        return number


def _read(path: Path) -> dict[str, Any]:
    """The content of a COCO file, of which the entries have what the editor needs."""
    repair = "give another file by --out, or mend this one"
    content = read_json(path)
    if not isinstance(content, dict) or not any(key in content for key in _KEYS):
        raise InputError(f'{path} is not a COCO file: it has no "images"; {repair}')
    for key, needed in zip(_KEYS, (("id", "file_name"), ("id", "image_id"), ("id", "name")), strict=True):
        entries = content.setdefault(key, [])
        if not isinstance(entries, list):
            raise InputError(f'{path}: "{key}" is not a list; {repair}')
        for k, entry in enumerate(entries):
            if not isinstance(entry, dict) or any(name not in entry for name in needed):
                wanted = " and ".join(f'"{name}"' for name in needed)
                raise InputError(f'{path}: entry {k} of "{key}" has no {wanted}; {repair}')
            if isinstance(entry["id"], bool) or not isinstance(entry["id"], int | str):
                raise InputError(f'{path}: the id of entry {k} of "{key}" is {entry["id"]!r}, not a number; {repair}')
        counts = Counter(entry["id"] for entry in entries)
        if twice := [id for id, count in counts.items() if count > 1]:
            raise InputError(f'{path}: the id {twice[0]!r} occurs {counts[twice[0]]} times in "{key}"; {repair}')
    return content


def _single_polygon(segmentation: Any) -> tuple[tuple[float, float], ...] | None:
    """The points (x, y) of a segmentation that is one polygon; None for any other, also one that is not valid."""
    if not isinstance(segmentation, list) or len(segmentation) != 1:
        return None
    (values,) = segmentation
    if not isinstance(values, list) or len(values) < 6 or len(values) % 2 or not all(map(_is_number, values)):
        return None
    return tuple(zip(map(float, values[::2]), map(float, values[1::2]), strict=True))


def _box(annotation: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """The box (x1, y1, x2, y2), or None if the annotation has none of four finite numbers."""
    try:
        x, y, width, height = (float(value) for value in annotation["bbox"])
    except (KeyError, TypeError, ValueError):
        return None
    return (x, y, x + width, y + height) if all(map(math.isfinite, (x, y, width, height))) else None


def _geometry(shape: Shape, size: Size) -> dict[str, Any]:
    """The fields of an annotation that say where the object is."""
    x1, y1, x2, y2 = shape.box
    out: dict[str, Any] = {"bbox": _rounded((x1, y1, x2 - x1, y2 - y1)), "area": round((x2 - x1) * (y2 - y1), 2)}
    if shape.outline is not None:
        points = _rounded([value for point in shape.outline for value in point])
        out |= {"segmentation": [points], "area": rle_area(polygons_to_rle([points], size))}
    return out


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in values]


def _next_id(entries: Sequence[Mapping[str, Any]]) -> int:
    return max((entry["id"] for entry in entries if isinstance(entry.get("id"), int)), default=0) + 1


def _numbers(value: Any, count: int, what: str) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != count:
        raise InputError(f"{what} is {value!r}, but must be {count} numbers")
    if not all(map(_is_number, value)):
        raise InputError(f"{what} is {value!r}, but must be {count} finite numbers")
    return tuple(map(float, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _clipped(point: Sequence[float], size: Size) -> tuple[float, float]:
    return min(max(point[0], 0.0), float(size[1])), min(max(point[1], 0.0), float(size[0]))

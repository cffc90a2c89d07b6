"""COCO panoptic as class maps: one JSON per split, and one PNG per image whose colours encode segment ids.

These layouts are recognised:

- annotations/panoptic_SPLIT.json with panoptic_SPLIT/*.png beside it (or in the folder), and the images in SPLIT/,
  images/SPLIT/ or images/ (or the folder given by images=);
- the path of one such file.

Classes are the categories, things and stuff, by increasing id. Pixels without a segment are ignored. Crowd segments
have their class. If the folder contains COCO instances, too, it is read as COCO unless format="panoptic" is given;
format="panoptic-instances" reads the things as objects with masks, see `sightline.data.formats.panoptic_instances`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.blob import Blob
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.gather import Gather
from sightline.data.formats.listed import Listed, assemble, files_to_read, head_of, recognised
from sightline.data.images import read_image
from sightline.data.rasterise import LazyMaps
from sightline.errors import InputError
from sightline.runtime.reading import read_json
from sightline.runtime.values import require_whole
from sightline.structures import IGNORE, Classes, Size

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "COCO panoptic: annotations/panoptic_*.json with folders of PNG"


class PanopticMaps(LazyMaps):
    """The class map of each image, drawn from its segment PNG.

    Args:
        root: the folder that the paths are relative to.
        pngs: paths of the segment PNGs.
        segments: for each image, (segment id, class id) pairs as JSON.
        sizes: (height, width) of the images.
    """

    def __init__(self, root: Path, pngs: Blob, segments: Blob, sizes: np.ndarray):
        self.root, self.pngs, self.segments, self.sizes = root, pngs, segments, sizes

    def __len__(self) -> int:
        return len(self.pngs)

    def take(self, rows: Sequence[int]) -> PanopticMaps:
        chosen = np.asarray(rows, np.int64)
        return PanopticMaps(self.root, self.pngs.take(chosen), self.segments.take(chosen), self.sizes[chosen])

    def _draw(self, i: int) -> Tensor:
        path = self.root / self.pngs.text(i)
        ids = segment_ids(path, tuple(self.sizes[i].tolist()))
        pairs = np.array([(0, IGNORE), *json.loads(self.segments[i])], np.int64)
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        place = np.searchsorted(pairs[:, 0], ids).clip(max=len(pairs) - 1)
        strange = pairs[place, 0] != ids
        if strange.any():
            raise InputError(
                f"{path} contains segment {int(ids[strange][0])}, which its JSON does not list; export both again"
            )
        return torch.from_numpy(pairs[place, 1])


def recognise(root: Path) -> str | None:
    """The panoptic file found in a folder (or `root` itself, if it is one), as words; None if there is none."""
    return recognised(root, ".json", _looks_right)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read COCO panoptic as class maps. Arguments and errors are those of `sightline.open_dataset`."""
    root, listed, names = parts(root, splits)
    known = list(names.values()) if classes is None else list(classes)
    for one in listed:
        segments = one.entries.pop()
        strange = next((names[c] for _, c, _ in segments if names[c] not in known), None)
        if strange is not None:
            raise files.unknown_class(f"{one.file}: {one.name}", f"class {strange!r}", known)
        one.extra = {"png": one.extra["png"], "segments": [(s, known.index(names[c])) for s, c, _ in segments]}
    data = assemble(root, "panoptic", listed, _nothing, Gather(known), images=images)
    columns = data.source.columns
    extra = [json.loads(text) for text in columns.image_extra or ()]
    maps = PanopticMaps(
        Path(),
        Blob.of(entry["png"] for entry in extra),
        Blob.of(json.dumps(entry["segments"]) for entry in extra),
        np.stack([columns.heights, columns.widths], 1),
    )
    columns = columns.replace(image_extra=None)
    source = replace(
        data.source, columns=columns, kind="class_map", classes=Classes(known), class_maps=maps, ignore=None
    )
    return Dataset(source)


def parts(root: Path, splits: Mapping[str, str | Path] | None) -> tuple[Path, list[Listed], dict[int, str]]:
    """The dataset's folder, its images, and the category names by increasing id.

    Each image has one entry, a list of (segment id, category id, is a crowd), and "png" in `extra`.
    """
    root = root.absolute()
    expected = "COCO panoptic file (a .json with segments_info); give its path"
    found = files_to_read(root, splits, ".json", _looks_right, expected)
    home = root
    if root.is_file():
        home = root.parent.parent if root.parent.name.lower() == "annotations" else root.parent
    listed: list[Listed] = []
    names: dict[int, str] = {}
    for split, file in found:
        listed += _read_file(file, split, home, names)
    return home, listed, dict(sorted(names.items()))


def segment_ids(path: Path, size: Size | tuple[int, ...]) -> np.ndarray:
    """The segment id of each pixel [H, W]: R + 256 G + 256² B.

    Raises:
        InputError: the image cannot be read, or its size differs from the image that it labels.
    """
    rgb = read_image(path).numpy().astype(np.int64)
    if all(size) and rgb.shape[1:] != tuple(size):
        raise InputError(f"{path} has {rgb.shape[2]} × {rgb.shape[1]} pixels, but its image {size[1]} × {size[0]}")
    ids: np.ndarray = rgb[0] + 256 * rgb[1] + 65536 * rgb[2]
    return ids


def _nothing(gather: Gather, one: Listed, entry: Any, size: Size) -> None:
    """Class maps have no objects."""


def _id(value: Any, what: str) -> int:
    """An integer from 0 to 2^30, which may be a string of digits."""
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 12 else value
    return require_whole(what, number, 0, 2**30, "export it again")


def _is_crowd(segment: dict[str, Any], what: str) -> bool:
    mark = segment.get("iscrowd") or 0
    return bool(mark if isinstance(mark, bool) else require_whole(f"{what} iscrowd", mark, 0, 1, "correct it"))


def _looks_right(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    head = head_of(file)
    if not head.lstrip().startswith(b"{"):
        return False
    if b'"segments_info"' in head:
        return True
    try:
        with open(file, "rb") as opened:  # long lists of images or categories may precede the annotations
            opened.seek(max(0, file.stat().st_size - 2**16))
            return b'"segments_info"' in opened.read()
    except OSError:
        return False


def _read_file(file: Path, split: str, home: Path, names: dict[int, str]) -> list[Listed]:
    content: dict[str, Any] = read_json(file, dict)
    try:
        for category in content["categories"]:
            id, name = _id(category["id"], f"{file}: a category's id"), str(category["name"])
            if names.setdefault(id, name) != name:
                raise InputError(f"{file} names category {category['id']} {category['name']!r}, another file differs")
        images = {image["id"]: image for image in content["images"]}
        pngs = _png_folder(file, home)
        listed = []
        for entry in content["annotations"]:
            image = images[entry["image_id"]]
            what = f"{file}: {image['file_name']}: a segment's"
            segments = [
                (_id(one["id"], f"{what} id"), _id(one["category_id"], f"{what} category_id"), _is_crowd(one, what))
                for one in entry["segments_info"]
            ]
            unknown = next((c for _, c, _ in segments if c not in names), None)
            if unknown is not None:
                raise files.unknown_class(f"{file}: {image['file_name']}", f"category {unknown}", list(map(str, names)))
            height, width = (_id(image.get(side) or 0, f"{file}: an image's {side}") for side in ("height", "width"))
            png = {"png": str(pngs / str(entry["file_name"]))}
            listed.append(Listed(str(image["file_name"]), file, split, (height, width), [segments], png))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} is not COCO panoptic: {type(error).__name__} {error}; export it again") from None
    return listed


def _png_folder(file: Path, home: Path) -> Path:
    """The folder with the segment PNGs of a file."""
    places = [folder / file.stem for folder in (file.parent, home, home / "annotations", home / "masks")]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(f"there is no folder {places[0]} with the segment PNGs; add it")
    return found

"""LabelMe (the desktop program, 3 to 5): a JSON file an image.

Layouts that are recognised:

- *.json beside the images, in the folder itself or in a folder a split (train/, val/, test/);
- *.json in a folder such as annotations/ or labels/, the images in images/ (or where images= says);
- the path of one such file.

Shapes are polygon, rectangle (two opposite corners, or all four; a turned one is a polygon), circle, line, linestrip,
point, points and mask, and X-AnyLabeling's rotation and quadrilateral; `sightline.data.formats.shapes` says what
becomes of them. Polygons, circles and masks of one label and one group_id are parts of one object. labels.txt names the
classes in order, else they are those that occur, sorted. A shape's description is its caption; true flags "crowd",
"difficult", "occluded" and "truncated" are marks; whatever else there is is kept in the extra column "other".

An image that is not there as a file is taken from the JSON (imageData), decoded when it is asked for; the dataset then
holds its images in memory's manner, without a root.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.gather import Gather, common_folder, place_of
from sightline.data.formats.labelme_write import write
from sightline.data.formats.listing import find_folder, folders_in
from sightline.data.images import from_pil, is_image, read_image
from sightline.data.malformed import leave_out
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "LabelMe: *.json with shapes beside images"
_LABEL_FOLDERS = ("annotations", "labels", "json", "jsons")
_IMAGE_FOLDERS = ("images", "JPEGImages", "imgs")
_NOT_CLASSES = frozenset(["__ignore__", "_background_"])
_KNOWN = frozenset(["label", "points", "group_id", "description", "shape_type", "flags", "mask"])
_FILE_KNOWN = frozenset(["version", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"])
_QUADRILATERALS = ("rotation", "rotated_rectangle", "oriented_rectangle", "quadrilateral")
"""Names that LabelMe's relatives give to shapes of four corners, in order around it."""
_AREAS = frozenset(["polygon", "circle", "mask"])


@dataclass
class _Part:
    split: str
    folder: Path
    """Where its images and labels are, or their folders."""
    pairs: list[tuple[Path, Path | None]] = field(default_factory=list)
    """Images with their JSON; the JSON itself in the place of an image that only it holds."""
    orphans: list[str] = field(default_factory=list)


class _Pictures(Sequence[Tensor]):
    """Images from files or from the JSON that holds them, decoded each time they are asked for."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int]) -> _Pictures:
        """Those of some images."""
        return _Pictures([self.paths[row] for row in rows])

    def __getitem__(self, item: Any) -> Any:
        path = self.paths[item]
        return _embedded(path) if path.suffix.lower() == ".json" else read_image(path)


def recognise(root: Path) -> str | None:
    """The LabelMe file found in a folder (or `root` itself, if it is one), as words; None if there is none."""
    if root.is_file():
        return root.name if _looks_like_labelme(root) else None
    for folder in (root, *files.folders_of_splits(root)):
        found = files.with_ending(folder, ".json")[:20] if folder == root else []
        named = (
            [find_folder(folder, name) for name in (*_LABEL_FOLDERS, *_IMAGE_FOLDERS)] if folder == root else [folder]
        )
        for place in named:
            names = files.files_below(place) if place is not None else []
            found += [(place or folder) / name for name in names if name.lower().endswith(".json")][:20]
        file = next((file for file in found if _looks_like_labelme(file)), None)
        if file is not None:
            return files.relative(file, root)
    return None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a LabelMe dataset; arguments and errors as `sightline.open_dataset`."""
    root = root.absolute()
    images = None if images is None else images.absolute()
    home = root.parent if root.is_file() else root
    left_out: list[str] = []
    if splits:
        parts = [_Part(name, files.resolve(home, given)) for name, given in splits.items()]
    else:
        folders = files.split_folders(home) if root.is_dir() else {}
        if folders:  # beside them, folders with labels of their own are splits of other names
            folders |= {f.name: f for f in folders_in(home) if f not in folders.values() and _is_part(f)}
        parts = [_Part(name, folder) for name, folder in folders.items()] or [_Part("all", home)]
        left_out = files.beside_splits(home, folders.values(), home) if folders else []
    contents: dict[Path, dict[str, Any]] = {}
    for part in parts:
        _find(part, root if root.is_file() else None, images, home, contents)
    parts = _inner_splits(parts[0]) if parts[0].split == "all" else parts
    orphans = [orphan for part in parts for orphan in part.orphans]
    if not any(part.pairs for part in parts):
        raise files.none_found(home, orphans, "beside the JSON and inside it")
    base = files.naming_root(home, images)
    gather = Gather(classes, _listed(home))
    paths, folders_of = [], []
    for number, part in enumerate(parts):
        names = []
        for image, label in part.pairs:
            content = contents[label] if label is not None else {}
            embedded = image == label
            at = image.with_name(str(content["imagePath"]).replace("\\", "/").split("/")[-1]) if embedded else image
            names.append(files.relative(at, base))
            paths.append(image)
            stated = tuple(content.get(key) or 0 for key in ("imageHeight", "imageWidth"))
            size = _size(stated, image)
            extra = {key: value for key, value in content.items() if key not in _FILE_KNOWN and value}
            gather.image(names[-1], size, number, files.relative(label, base) if label else "", extra)
            if label is not None:
                _add_objects(gather, label, content.get("shapes") or [], size)
        folders_of.append(common_folder(names))
    columns, known = gather.finish()
    source = Source(
        columns=columns,
        classes=known,
        root=base,
        format="labelme",
        split_names=tuple(part.split for part in parts),
        folders=tuple(folders_of),
        orphans=tuple(orphans),
        left_out=tuple(left_out),
    )
    if any(not is_image(path) for path in paths):
        source = _in_memory(source, paths)
    return Dataset(source)


def _in_memory(source: Source, paths: list[Path]) -> Source:
    return replace(source, root=None, pictures=_Pictures(paths), columns=source.columns.replace(label_names=None))


def _looks_like_labelme(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    text = reading.head(file, tail=2**12)
    return b'"shapes"' in text and (b'"imagePath"' in text or b'"imageData"' in text)


def _is_part(folder: Path) -> bool:
    """Whether a folder holds images and LabelMe's labels of them."""
    labels = [folder / name for name in files.files_below(folder) if name.lower().endswith(".json")][:20]
    return any(map(_looks_like_labelme, labels)) and bool(files.images_below(folder))


def _inner_splits(whole: _Part) -> list[_Part]:
    """The splits that have folders in that of the images, with the labels elsewhere; the whole where none has.

    (Of a dataset without splits images/ is written with the labels beside the images, whatever their folders.)
    """
    if not whole.pairs or any(label is not None and label.parent == image.parent for image, label in whole.pairs):
        return [whole]
    top = os.path.commonpath([image.parent for image, _ in whole.pairs])
    names = [files.relative(image, Path(top)) for image, _ in whole.pairs]
    parts = [_Part(split, Path(top) / folder) for split, folder in files.inner_splits(names).items()]
    for part in parts:
        part.pairs = [pair for pair in whole.pairs if pair[0].is_relative_to(part.folder)]
    if parts:
        parts[0].orphans = whole.orphans
    return parts or [whole]


def _find(
    part: _Part, only: Path | None, images: Path | None, home: Path, contents: dict[Path, dict[str, Any]]
) -> None:
    """Pair images with their JSON."""
    folder = part.folder
    label_folder = (files.first_folder(folder, _LABEL_FOLDERS) if only is None else None) or folder
    inner = files.first_folder(folder, _IMAGE_FOLDERS)
    if images is not None:
        image_folder = images / part.split if (images / part.split).is_dir() else images
    else:
        image_folder = inner or label_folder
    found = [only] if only is not None else [label_folder / name for name in files.files_below(label_folder)]
    labels: dict[Path, Path] = {}
    unread: set[Path] = set()
    for file in found:
        if not _looks_like_labelme(file):
            continue
        try:
            content = contents[file] = _content(file)
        except InputError as error:
            leave_out(error, file)
            unread |= {f for f in _same_stem(file, label_folder, image_folder) if f.is_file()}
            continue
        stated = content["imagePath"].replace("\\", "/")
        near = place_of(stated, [file.parent, image_folder])
        near = near or next((f for f in _same_stem(file, label_folder, image_folder) if f.is_file()), None)
        image = Path(os.path.normpath(near)) if near is not None else file if content.get("imageData") else None
        if image is None or image in labels:
            part.orphans.append(files.relative(file, home))
        else:
            labels[image] = file
    pictured = [] if only is not None else [image_folder / name for name in files.images_below(image_folder)]
    every = dict.fromkeys(place for place in [*pictured, *labels] if place in labels or place not in unread)
    part.pairs = sorted(
        ((image, labels.get(image)) for image in every), key=lambda pair: files.without_suffix(str(pair[0]))
    )


def _same_stem(file: Path, label_folder: Path, image_folder: Path) -> list[Path]:
    stem = files.without_suffix(
        file.relative_to(label_folder).as_posix() if label_folder in file.parents else file.name
    )
    return [image_folder / f"{stem}{suffix}" for suffix in (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".JPG", ".webp")]


def _content(file: Path) -> dict[str, Any]:
    content = reading.read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("imagePath"), str):
        raise InputError(f'{file} is not of LabelMe: it needs "shapes" and "imagePath"; save it again')
    if not isinstance(content.get("shapes", []), list | None):
        raise InputError(
            f'{file} has the "shapes" {str(content["shapes"])[:60]!r}, but they must be a list; save it again'
        )
    return content | {"imageData": bool(content.get("imageData"))}


def _listed(home: Path) -> list[str] | None:
    file = home / "labels.txt"
    if not file.is_file():
        return None
    lines = [line.strip() for line in files.read_text(file).splitlines()]
    return [line for line in lines if line and line not in _NOT_CLASSES]


def _size(stated: tuple[Any, ...], image: Path) -> Size:
    if all(type(side) is int and 0 < side < 2**30 for side in stated):
        return stated[0], stated[1]
    if is_image(image):
        return files.header_size(image)
    picture = _embedded(image)
    return int(picture.shape[1]), int(picture.shape[2])


def _embedded(file: Path) -> Tensor:
    """The image inside a JSON file."""
    from PIL import Image

    data = reading.read_json(file, dict).get("imageData")
    try:
        return from_pil(Image.open(io.BytesIO(base64.b64decode(data))))
    except (TypeError, ValueError, OSError, binascii.Error) as error:
        raise InputError(f"{file}: its imageData is no image ({error}); add the image as a file") from None


def _add_objects(gather: Gather, file: Path, stated: list[Any], size: Size) -> None:
    groups: dict[tuple[str, Any], list[int]] = {}
    for k, shape in enumerate(stated):
        try:
            groups.setdefault(_group(file, k, shape), []).append(k)
        except InputError as error:
            leave_out(error, file)
    for (label, _), members in groups.items():
        try:
            _add(gather, f"{file}: shape {members[0]}", label, [stated[k] for k in members], size)
        except InputError as error:
            leave_out(error, file)


def _group(file: Path, k: int, shape: Any) -> tuple[str, Any]:
    """The label of a shape, and what it has in common with other parts of its object."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
        raise InputError(f"{file}: shape {k} has no label; name its class, or remove it")
    group = shape.get("group_id")
    if not isinstance(group, int | str | None):
        raise InputError(f"{file}: shape {k} has the group_id {str(group)[:60]}, but it must be a number; correct it")
    grouped = group is not None and str(shape.get("shape_type") or "polygon") in _AREAS
    return shape["label"].strip(), group if grouped else f"shape {k}"


def _add(gather: Gather, where: str, label: str, parts: list[dict[str, Any]], size: Size) -> None:
    """An object of one shape, or of several that enclose an area."""
    attributes = _attributes(parts[0])
    read_shapes = [_shape(part, where, size) for part in parts]
    if len(parts) == 1:
        gather.object(where, label, attributes=attributes, **read_shapes[0])
        return
    polygons: list[Any] = []
    masks: list[dict[str, Any]] = []
    for one in read_shapes:
        if "rle" in one:
            masks.append(one["rle"])
        else:
            polygons += one["polygons"] if "polygons" in one else [shapes.geometry(one["shape"])[1]]
    if not masks:
        gather.object(where, label, polygons=polygons, attributes=attributes)
        return
    from sightline.ops.masks import mask_to_rle, polygons_to_mask, rle_to_mask

    mask = polygons_to_mask(polygons, size)
    for rle in masks:
        mask |= rle_to_mask(rle)
    gather.object(where, label, rle=mask_to_rle(mask), attributes=attributes)


def _attributes(shape: dict[str, Any]) -> dict[str, Any]:
    flags = shape.get("flags") if isinstance(shape.get("flags"), dict) else {}
    assert isinstance(flags, dict)
    attributes = {key: value for key, value in shape.items() if key not in _KNOWN and key not in shapes.RESERVED}
    marks = {name: shape[name] for name in (*shapes.MARKS, *shapes.FLAGS) if shape.get(name)}  # X-AnyLabeling's
    attributes |= marks | {name: value for name, value in flags.items() if name in shapes.RESERVED}
    rest = {name: value for name, value in flags.items() if name not in shapes.RESERVED}
    if rest:
        attributes["flags"] = rest
    if shape.get("pose"):
        attributes["pose"] = shape["pose"]
    return attributes | ({"caption": shape["description"]} if shape.get("description") else {})


def _shape(shape: dict[str, Any], where: str, size: Size) -> dict[str, Any]:
    """The arguments of `Gather.object` for one shape."""
    kind = str(shape.get("shape_type") or "polygon")
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points) or not points:
        raise InputError(
            f"{where} has the points {str(points)[:60]}, but they must be pairs x, y; correct or remove it"
        )
    flat = shapes.as_numbers([value for point in points for value in point], where)
    if kind in ("rectangle", *_QUADRILATERALS) and len(points) == 5 and points[0] == points[-1]:
        points, flat = points[:-1], flat[:-2]  # closed by its first corner
    if kind in ("circle", "mask") and len(points) != 2:
        raise InputError(f"{where} is a {kind} of {len(points)} points, but it has two; draw it again or remove it")
    if kind == "rectangle" and len(points) not in (2, 4):
        raise InputError(
            f"{where} is a rectangle of {len(points)} points, but it has two opposite corners or all four; draw it "
            "again or remove it"
        )
    if kind in _QUADRILATERALS and len(points) != 4:
        raise InputError(f"{where} is a {kind} of {len(points)} points, but it has four; draw it again or remove it")
    if kind == "polygon":
        return {"polygons": [shapes.plain(flat, 10)]}
    if kind in _QUADRILATERALS or (kind == "rectangle" and len(points) == 4 and not _is_upright(points)):
        return {"polygons": [shapes.plain(flat, 10)]}
    if kind == "rectangle":  # from any corner to the opposite one, or all four
        return {"box": (min(flat[::2]), min(flat[1::2]), max(flat[::2]), max(flat[1::2]))}
    if kind == "circle":  # its centre, and a point on it
        radius = float(np.hypot(flat[2] - flat[0], flat[3] - flat[1]))
        return {"shape": {"kind": "ellipse", "cx": flat[0], "cy": flat[1], "rx": radius, "ry": radius}}
    if kind in ("line", "linestrip"):
        return {"shape": {"kind": "line", "points": flat}}
    if kind in ("point", "points"):
        return {"shape": {"kind": "points", "points": flat}}
    if kind == "mask":
        return {"rle": _mask(shape.get("mask"), flat, where, size)}
    raise InputError(f"{where} is a {kind!r}, which is not known; draw it as a polygon, or remove it")


def _is_upright(corners: Sequence[Sequence[float]]) -> bool:
    """Whether four corners are those of an upright rectangle, to a thousandth of a pixel and in any order."""
    xs, ys = ([round(float(corner[axis]), 3) for corner in corners] for axis in (0, 1))
    rectangle = {(x, y) for x in (min(xs), max(xs)) for y in (min(ys), max(ys))}
    return set(zip(xs, ys, strict=True)) == rectangle


def _mask(data: Any, corners: list[float], where: str, size: Size) -> dict[str, Any]:
    """The RLE of a mask's PNG, which covers the pixels from one corner to the other, both included."""
    from PIL import Image

    from sightline.ops.masks import mask_to_rle

    if not isinstance(data, str):
        raise InputError(f"{where} is a mask without a picture of it; draw it again, or remove it")
    try:
        inside = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) != 0
    except (TypeError, ValueError, OSError, binascii.Error) as error:
        raise InputError(f"{where} is a mask, but its picture cannot be read ({error}); draw it again") from None
    x, y = int(min(corners[::2])), int(min(corners[1::2]))
    whole = torch.zeros(size, dtype=torch.bool)
    height, width = inside.shape[:2]
    if inside.ndim != 2 or x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
        raise InputError(
            f"{where} is a mask of {width} × {height} pixels at {x}, {y}, but the image is {size[1]} × {size[0]}; "
            "draw it again or remove it"
        )
    whole[y : y + height, x : x + width] = torch.from_numpy(inside)
    return mask_to_rle(whole)

"""Supervisely: a project folder with meta.json, and ann/NAME.json beside img/NAME in each dataset folder.

The project folder or one of its dataset folders can be opened. Datasets named like splits (train/, val/, test/) are
splits; otherwise all datasets together are one split, "all". Classes are those of meta.json in order.

Objects are rectangle, polygon (with holes), bitmap, line, point and graph; `sightline.data.formats.shapes` describes
how they are read (a graph becomes the bounding box of its nodes). Tags are kept in the extra column "other", those of
the image in its extra data.
"""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.gather import Gather
from sightline.data.formats.listed import Listed, assemble, head_of
from sightline.data.formats.listing import folders_in
from sightline.data.malformed import skip_label
from sightline.errors import InputError
from sightline.ops.masks import mask_to_rle, polygons_to_mask
from sightline.runtime.reading import read_json
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise"]

_UNREADABLE = (TypeError, ValueError, OSError, SyntaxError, binascii.Error, zlib.error, Image.DecompressionBombError)
LOOKED_FOR = "Supervisely: meta.json with */ann/*.json"


def recognise(root: Path) -> str | None:
    """A description of the project found in a folder; None if there is none."""
    if not root.is_dir():
        return None
    meta = _meta(root)
    return files.relative(meta, root) if meta is not None and _datasets(root) else None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a Supervisely project; a split is a dataset folder. Arguments and errors: see `sightline.open_dataset`."""
    root = root.absolute()
    meta = _meta(root)
    if meta is None:
        raise InputError(f"{root} contains no meta.json of a Supervisely project; give the project's folder")
    stated = read_json(meta, dict).get("classes")
    if not isinstance(stated, list) or not all(isinstance(one, dict) and "title" in one for one in stated):
        raise InputError(f'{meta} contains no classes; it must have "classes" with a "title" each')
    if splits:
        parts = [(name, files.resolve(root, given).absolute()) for name, given in splits.items()]
    else:
        found = _datasets(root)
        usual = any(files.is_usual_split(folder) for folder in found)
        parts = [(files.split_name(folder.name) if usual else "all", folder) for folder in found]
    listed: list[Listed] = []
    for split, folder in parts:
        for name in files.files_below(folder / "ann"):
            if name.lower().endswith(".json"):
                try:
                    listed.append(_read_file(folder / "ann" / name, folder, split))
                except InputError as error:
                    skip_label(error, folder / "ann" / name)
    names = list(dict.fromkeys(str(one["title"]) for one in stated))
    return assemble(root, "supervisely", listed, _add, Gather(classes, names), images=images)


def _meta(root: Path) -> Path | None:
    for file in (root / "meta.json", root.parent / "meta.json"):
        if file.is_file() and b'"classes"' in head_of(file, 2**20):
            return file
    return None


def _datasets(root: Path) -> list[Path]:
    """The dataset folders: the folder itself, its subfolders, or their subfolders in datasets/."""
    if (root / "ann").is_dir():
        return [root] if files.with_ending(root / "ann", ".json") else []
    found = []
    for folder in folders_in(root):
        found += [folder] if (folder / "ann").is_dir() and files.with_ending(folder / "ann", ".json") else []
        found += _datasets(folder / "datasets") if (folder / "datasets").is_dir() else []
    return found


def _read_file(file: Path, folder: Path, split: str) -> Listed:
    content: dict[str, Any] = read_json(file, dict)
    name = file.relative_to(folder / "ann").as_posix()[: -len(".json")]
    size = content.get("size")
    stated = [size.get(side) for side in ("height", "width")] if isinstance(size, dict) else []
    sides = [side for side in stated if isinstance(side, int) and side > 0]
    if len(sides) != 2:
        raise InputError(f'{file} has no "size" with height and width; export it again')
    objects = content.get("objects") or []
    if not isinstance(objects, list):
        raise InputError(f"{file} has objects that are not a list; export it again")
    given = content.get("tags") or []
    if not isinstance(given, list):
        raise InputError(f"{file} has tags that are not a list; export it again")
    tags = [str(tag.get("name")) for tag in given if isinstance(tag, dict)]
    extra = {"tags": tags} if tags else {}
    image_path = folder / "img" / name
    listed_name = str(image_path) if image_path.is_file() else name
    return Listed(listed_name, file, split, (sides[0], sides[1]), [*enumerate(objects)], extra)


def _add(gather: Gather, one: Listed, entry: tuple[int, Any], size: Size) -> None:
    number, content = entry
    where = f"{one.file}: object {number}"
    if not isinstance(content, dict) or not isinstance(content.get("classTitle"), str):
        raise InputError(f'{where} has no "classTitle"; correct or remove it')
    label, kind = content["classTitle"], content.get("geometryType")
    given = content.get("tags") or []
    if not isinstance(given, list):
        raise InputError(f"{where} has tags that are not a list; export it again")
    tags = [str(tag.get("name")) for tag in given if isinstance(tag, dict)]
    attributes = {"tags": tags} if tags else {}
    if kind == "bitmap" or isinstance(content.get("bitmap"), dict):
        gather.object(where, label, rle=_bitmap(content.get("bitmap"), size, where), attributes=attributes)
        return
    if kind == "graph":
        nodes = content.get("nodes")
        listed = nodes.values() if isinstance(nodes, dict) else nodes if isinstance(nodes, list) else []
        points = [value for node in listed if isinstance(node, dict) for value in node.get("loc") or []]
        shape = {"kind": "points", "points": shapes.as_numbers(points, where, even=True)}
        gather.object(where, label, shape=shape, attributes=attributes)
        return
    rings = content.get("points")
    rings = rings if isinstance(rings, dict) else {}
    outer = _ring(rings.get("exterior"), where)
    if kind == "rectangle":
        x1, y1, x2, y2 = shapes.bounds([outer])
        gather.object(where, label, box=(x1, y1, x2, y2), attributes=attributes)
    elif kind == "polygon":
        holes = [_ring(ring, where) for ring in rings.get("interior") or []]
        if holes:
            mask = polygons_to_mask([outer], size) & ~polygons_to_mask(holes, size)
            gather.object(where, label, rle=mask_to_rle(mask), attributes=attributes)
        else:
            gather.object(where, label, polygons=[outer], attributes=attributes)
    elif kind in ("line", "point"):
        shape = {"kind": "line" if kind == "line" else "points", "points": outer}
        gather.object(where, label, shape=shape, attributes=attributes)
    else:
        raise InputError(
            f"{where} is a {kind!r}, but objects must be rectangle, polygon, bitmap, line, point or graph; export it "
            "as one of these"
        )


def _ring(points: Any, where: str) -> list[float]:
    flat = [value for point in points or [] for value in (point if isinstance(point, list) else [point])]
    return shapes.plain(shapes.as_numbers(flat, where, even=True))


def _bitmap(value: Any, size: Size, where: str) -> dict[str, Any]:
    """The RLE of a bitmap: a PNG, compressed by zlib, in base64, placed at an origin [x, y]."""
    data = value.get("data") if isinstance(value, dict) else None
    origin = value.get("origin") if isinstance(value, dict) else None
    try:
        unpacker = zlib.decompressobj()
        packed = base64.b64decode(data or "", validate=True)
        with Image.open(io.BytesIO(unpacker.decompress(packed, 2**26))) as image:
            if image.width * image.height > size[0] * size[1]:
                raise ValueError(f"it has {image.width} × {image.height} pixels, more than the image")
            array = np.asarray(image if image.mode in ("1", "L", "P") else image.convert("RGBA"))
        inside = array[:, :, 3] != 0 if array.ndim == 3 else array != 0
        x, y = (int(v) for v in shapes.as_numbers(origin or [], where))
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(f"{where} is a bitmap that cannot be read ({error}); draw it again or remove it") from None
    whole = np.zeros(size, bool)
    height, width = inside.shape
    if x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
        raise InputError(
            f"{where} is a bitmap of {width} × {height} pixels at {x}, {y}, which extends beyond the image of "
            f"{size[1]} × {size[0]}; draw it again or remove it"
        )
    whole[y : y + height, x : x + width] = inside
    return mask_to_rle(whole)

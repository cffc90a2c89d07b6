"""VIA (VGG Image Annotator) 1.x and 2.x: annotations as JSON, as a project, or as CSV.

These layouts are recognised, with the images beside the file or in images/ (or the folder given by images=):

- SPLIT/via_region_data.json (any .json or .csv with VIA regions), one folder per split;
- such files in the folder itself, one in total or one per split; a .csv is used only if there is no .json;
- the path of one such file.

Regions are polygon, rect, circle, ellipse, polyline and point; `sightline.data.formats.shapes` describes how they are
read.

VIA has no classes, only region attributes. If there is one attribute, it is the class. If there are several, the class
is the attribute whose values are all in `classes`, if given, else the one with a name such as "class", "label", "type"
or "name". Without attributes all regions have one class: the only one of `classes`, else it is named after the folder
("balloon"). The options of a project's attribute are its classes in order; otherwise the classes are those that occur,
sorted. Other attributes are kept in the extra column "other".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.gather import Gather, only_class, place_of
from sightline.data.formats.listed import folders_of
from sightline.data.formats.listing import folders_in
from sightline.data.formats.via_write import write
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "VIA: *.json or *.csv with regions"
_PLAUSIBLE = (
    "class",
    "label",
    "labels",
    "category",
    "type",
    "name",
    "object",
    "class_name",
    "label_name",
    "object_type",
)


@dataclass
class _Image:
    """One image of a file: regions are (shape attributes, region attributes)."""

    name: str
    regions: list[tuple[dict[str, Any], dict[str, Any]]]
    attributes: dict[str, Any]


@dataclass
class _File:
    """A file's images, and the options of each region attribute (projects only)."""

    path: Path
    split: str
    images: list[_Image]
    options: dict[str, list[str]]


def recognise(root: Path) -> str | None:
    """A description of the VIA file found in a folder (or `root` itself, if it is one); None if there is none."""
    if root.is_file():
        return root.name if _looks_like_via(root) else None
    found = _files(root)
    return files.relative(found[0][1], root) if found else None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a VIA dataset. Arguments and errors are those of `sightline.open_dataset`.

    The files contain no image sizes, so each image's header is read. Images that are not in the file are left out.
    """
    root = root.absolute()
    images = None if images is None else images.absolute()
    if splits:
        places = {name: files.resolve(root, given) for name, given in splits.items()}
        found = [(name, p if p.is_file() else _only(p)) for name, p in places.items()]
    else:
        found = [("all", root)] if root.is_file() else _parts(root)
    if not found:
        raise InputError(f"{root} contains no VIA file (a .json or .csv with regions); give its path")
    home = files.home_of(root)
    base = files.naming_root(home, images)
    parts = [_read_file(path, split) for split, path in found]
    attribute = _class_attribute(parts, classes)
    options = next((part.options[attribute] for part in parts if attribute in part.options), None)
    only = only_class(home, classes) if attribute is None else None
    gather = Gather(classes, options or None if only is None else [only])
    folders, there, orphans = [], 0, []
    for number, part in enumerate(parts):
        above = [images / part.split, images] if images is not None else []
        above += [part.path.parent, part.path.parent / "images", *folders_of(part.split, home), home / "images", home]
        names = []
        for image in part.images:
            place = place_of(image.name, above)
            there += place is not None
            names.append(files.relative(place or part.path.parent / image.name.replace("\\", "/"), base))
            if place is None:
                orphans.append(f"{files.relative(part.path, base)}: {image.name}")
            gather.image(names[-1], files.header_size(place) if place else (0, 0), number, extra=image.attributes)
            for k, region in enumerate(image.regions):
                try:
                    _add(gather, f"{part.path}: region {k} of {image.name}", region, attribute, only)
                except InputError as error:
                    skip_label(error, part.path)
        folders.append(files.common_folder(names))
    if not there:
        raise files.none_found(home, orphans, "beside the file and in images/")
    columns, known = gather.finish()
    left_out = [] if splits else files.unlisted_beside(root, columns, base)
    source = Source(
        columns=columns,
        classes=known,
        root=base,
        format="via",
        split_names=tuple(part.split for part in parts),
        left_out=tuple(left_out),
        folders=tuple(folders),
        label_files=tuple(part.path for part in parts),
    )
    return Dataset(source)


def _looks_like_via(file: Path) -> bool:
    head = reading.head(file)
    if file.suffix.lower() == ".csv":
        return b"region_shape_attributes" in head.split(b"\n")[0]
    if file.suffix.lower() != ".json":
        return False
    return b'"_via_' in head or (b'"regions"' in head and b'"filename"' in head)


def _files(root: Path) -> list[tuple[str, Path]]:
    """(split, file) of the VIA files in the first place that has any: JSON before CSV, the folder before its splits."""
    for folders, ending in ((f, e) for f in ([root], folders_in(root)) for e in (".json", ".csv")):
        near = itertools.islice((file for f in folders for file in files.with_ending(f, ending)), 200)
        found = [file for file in near if _looks_like_via(file)]
        if found and found[0].parent == root:
            return [(files.split_in(f.stem) or f.stem, f) for f in found]
        if found:
            of_folder = {f: files.split_name(f.parent.name) for f in found}
            several = len(set(of_folder.values())) < len(found)  # as in annotations/, where file names give the split
            return [((several and files.split_in(f.stem)) or split, f) for f, split in of_folder.items()]
    return []


def _parts(root: Path) -> list[tuple[str, Path]]:
    """The splits of a folder."""
    found = _files(root)
    if len(found) == 1 and found[0][0] not in files.ORDER:
        return [("all", found[0][1])]
    by_name = dict(found)
    if len(by_name) < len(found):
        names = ", ".join(files.relative(file, root) for _, file in found)
        raise InputError(f"{root} contains several VIA files for one split ({names}); give the path of one")
    return [(name, by_name[name]) for name in files.in_order(by_name)]


def _only(folder: Path) -> Path:
    found = _files(folder)
    if len(found) != 1:
        names = ", ".join(file.name for _, file in found) or "none"
        raise InputError(f"{folder} must contain one VIA file to be a split, but contains {names}; name the file")
    return found[0][1]


def _read_file(path: Path, split: str) -> _File:
    if path.suffix.lower() == ".csv":
        return _File(path, split, _csv_images(path), {})
    content = reading.read_json(path, unique=True)
    options: dict[str, list[str]] = {}
    if isinstance(content, dict) and "_via_img_metadata" in content:
        stated = _dict(_dict(content.get("_via_attributes")).get("region"))
        options = {name: list(map(str, _dict(_dict(one).get("options")))) for name, one in stated.items()}
        content = content["_via_img_metadata"]
    if not isinstance(content, dict) or not all(isinstance(e, dict) and "filename" in e for e in content.values()):
        raise InputError(f'{path} is not a VIA file: it needs an entry with "filename" and "regions" for each image')
    images = []
    for entry in content.values():
        regions = entry.get("regions") or []
        listed = list(regions.values()) if isinstance(regions, dict) else regions
        where = f"{path}: {entry['filename']}"
        if not isinstance(listed, list):
            raise InputError(f"{where} has the regions {str(regions)[:60]!r}, but they must be a list; export it again")
        pairs = []
        for k, region in enumerate(listed):
            try:
                pairs.append(_pair(region, f"{where}: region {k}"))
            except InputError as error:
                skip_label(error, path)
        images.append(_Image(str(entry["filename"]), pairs, _dict(entry.get("file_attributes"))))
    return _File(path, split, images, {name: values for name, values in options.items() if values})


def _dict(value: Any) -> dict[str, Any]:
    """`value` if it is a dict, else an empty dict."""
    return value if isinstance(value, dict) else {}


def _pair(region: Any, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict):
        raise InputError(f'{where} has no "shape_attributes"; draw it again or remove it')
    return shape, _dict(region.get("region_attributes"))


def _csv_images(path: Path) -> list[_Image]:
    images: dict[tuple[str, str], _Image] = {}
    header, *rows = reading.read_csv(path) or [[]]
    header = [name.lstrip("#").strip() for name in header]
    for number, row in enumerate(rows, 2):
        entry = dict(zip(header, row, strict=False))
        where = f"{path}: row {number}"
        try:
            stated, shape, attributes = (
                reading.parse_json(entry.get(key) or "{}", f"{where}, {key}")
                for key in ("file_attributes", "region_shape_attributes", "region_attributes")
            )
            name = entry["filename"] if "filename" in entry else row[0]
        except InputError as error:
            skip_label(error, path, number)
            continue
        image = images.setdefault((name, entry.get("file_size", "")), _Image(name, [], _dict(stated)))
        try:
            if shape:
                image.regions.append(_pair({"shape_attributes": shape, "region_attributes": attributes}, where))
        except InputError as error:
            skip_label(error, path, number)
    return list(images.values())


def _class_attribute(parts: Sequence[_File], classes: Sequence[str] | None) -> str | None:
    """The attribute that is the class; None if no region has attributes."""
    values: dict[str, set[str]] = {}
    for attributes in (region[1] for part in parts for image in part.images for region in image.regions):
        for name, value in attributes.items():
            text = _value(value)
            if name not in shapes.RESERVED and text:
                values.setdefault(name, set()).add(text)
    for name in (name for part in parts for name in part.options if name not in shapes.RESERVED):
        values.setdefault(name, set())
    names = list(values)
    if classes is not None and len(names) > 1:
        names = [name for name in names if values[name] <= set(classes)] or names
    if len(names) > 1:
        named = [name for plausible in _PLAUSIBLE for name in names if name.strip().lower() == plausible]
        names = named[:1] or names
    if len(names) > 1:
        raise InputError(
            f"{parts[0].path} has several region attributes ({', '.join(names)}), and none has a usual name for the "
            "class; give the class names (classes=…), so that the attribute with these values is used"
        )
    return names[0] if names else None


def _value(value: Any) -> str:
    """The value of an attribute as a name; for checkboxes the option that is ticked."""
    if isinstance(value, dict):
        ticked = [str(name) for name, on in value.items() if on]
        return ticked[0] if len(ticked) == 1 else ""
    return "" if value is None else str(value).strip()


def _add(
    gather: Gather,
    where: str,
    region: tuple[dict[str, Any], dict[str, Any]],
    attribute: str | None,
    only: str | None,
) -> None:
    stated, attributes = region
    label = only if attribute is None else _value(attributes.get(attribute))
    if not label:
        raise InputError(f"{where} has no {attribute!r}, which is the class; set it, or remove the region")
    attributes = {name: value for name, value in attributes.items() if name != attribute}
    kind = stated.get("name")

    def get(*names: str) -> list[float]:
        return shapes.as_numbers([stated.get(name) for name in names], where)

    if kind == "rect":
        x, y, width, height = get("x", "y", "width", "height")
        gather.object(where, label, box=(x, y, x + width, y + height), attributes=attributes)
    elif kind in ("polygon", "polyline"):
        given = (stated.get("all_points_x"), stated.get("all_points_y"))
        sides = [side if isinstance(side, list) else [] for side in given]
        if len(sides[0]) != len(sides[1]):
            raise InputError(
                f"{where} has {len(sides[0])} x but {len(sides[1])} y coordinates; draw it again or remove it"
            )
        points = shapes.as_numbers([value for point in zip(*sides, strict=True) for value in point], where, even=True)
        points = shapes.plain(points)
        if kind == "polygon":
            gather.object(where, label, polygons=[points], attributes=attributes)
        else:
            gather.object(where, label, shape={"kind": "line", "points": points}, attributes=attributes)
    elif kind in ("circle", "ellipse"):
        cx, cy, rx, ry = get("cx", "cy", *(("r", "r") if kind == "circle" else ("rx", "ry")))
        shape = {"kind": "ellipse", "cx": cx, "cy": cy, "rx": rx, "ry": ry}
        theta = stated.get("theta")
        if theta:  # VIA uses radians
            shape["angle"] = round(math.degrees(shapes.as_numbers([theta], where)[0]), 6)
        gather.object(where, label, shape=shape, attributes=attributes)
    elif kind == "point":
        gather.object(where, label, shape={"kind": "points", "points": get("cx", "cy")}, attributes=attributes)
    else:
        raise InputError(f"{where} is a {kind!r}, but regions are rect, polygon, polyline, circle, ellipse or point")

"""CVAT XML 1.1: one file for all images, or for the frames of a video.

These layouts are recognised:

- annotations.xml (any .xml whose root is <annotations>, one file in total or one per split) with images in images/, in
  images/SUBSET/ or beside it (or the folder given by images=); a project's subsets are the splits;
- the path of one such file.

Images contain box, polygon, polyline, points, ellipse, mask, cuboid and skeleton shapes;
`sightline.data.formats.shapes` describes how they are read (a cuboid or skeleton becomes the bounding box of its
points). Polygons with the same label and group_id are parts of one object. Classes are the file's labels in order.
"occluded" is a flag; attributes are kept in the extra column "other", and an image's tags in its extra data. If no
image has a shape, the tags are the classes of the images, one each.

A video's tracks become objects of its frames, with the track id in the extra column "track". Frames in which a track is
outside have no object. Frames are images whose name ends in the frame number (frame_000010.png); nothing is
interpolated between the frames in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import torch

from sightline.data.dataset import Dataset
from sightline.data.formats import cvat_tags, files, shapes
from sightline.data.formats.cvat_write import write
from sightline.data.formats.gather import Gather, place_of
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "CVAT: annotations.xml with images or tracks"
_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")


@dataclass
class _Object:
    element: Element
    label: str
    track: int = -1


@dataclass
class _Image:
    name: str
    split: str
    size: Size
    objects: list[_Object] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


@dataclass
class _File:
    path: Path
    labels: list[str] = field(default_factory=list)
    images: list[_Image] = field(default_factory=list)
    frames: dict[int, list[_Object]] = field(default_factory=dict)
    size: Size = (0, 0)
    is_video: bool = False


def recognise(root: Path) -> str | None:
    """A description of the CVAT file found in a folder (or `root` itself, if it is one); None if there is none."""
    if root.is_file():
        return root.name if _looks_like_cvat(root) else None
    found = _files(root)
    return files.relative(found[0], root) if found else None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a CVAT dataset. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    images = None if images is None else images.absolute()
    home = files.home_of(root)
    if splits:
        places = {name: files.resolve(home, given) for name, given in splits.items()}
        found = [(name, file) for name, p in places.items() for file in ([p] if p.is_file() else _files(p))]
    else:
        several = [root] if root.is_file() else _files(root)
        found = [("all" if len(several) == 1 else files.split_in(f.stem) or f.stem, f) for f in several]
    if not found:
        raise InputError(f"{root} contains no CVAT XML file; give its path")
    base = files.naming_root(home, images)
    read_files = [_read_file(path, split, images) for split, path in found]
    listed = list(dict.fromkeys(label for file in read_files for label in file.labels))
    gather = Gather(classes, listed or None)
    split_names = files.in_order(dict.fromkeys(image.split for file in read_files for image in file.images))
    names: dict[str, list[str]] = {name: [] for name in split_names}
    missing, there = [], 0
    for split in split_names:
        folders = {f.path: _image_folders(f.path.parent, split, images) for f in read_files}
        for file, image in ((f, i) for f in read_files for i in f.images if i.split == split):
            place = place_of(image.name, folders[file.path])
            there += place is not None
            if place is None:
                missing.append(f"{file.path.name}: {image.name}")
            name = files.relative(place or file.path.parent / "images" / image.name, base)
            names[split].append(name)
            size = image.size if all(image.size) else files.header_size(place) if place else (0, 0)
            gather.image(name, size, split_names.index(split), extra={"tags": image.tags} if image.tags else {})
            _add_objects(gather, file.path, image.name, image.objects, size)
    if not there:
        raise files.none_found(home, missing, "in images/ and beside the file")
    columns, known = gather.finish()
    tags = [
        (file.path, image.name, image.tags)
        for split in split_names
        for file in read_files
        for image in file.images
        if image.split == split
    ]
    by_tags = not columns.objects and any(own for *_, own in tags) and not any(file.is_video for file in read_files)
    left_out = [] if splits else files.unlisted_beside(root, columns, base)
    label_files = tuple(next(f.path for f in read_files for i in f.images if i.split == split) for split in split_names)
    source = Source(
        columns=columns,
        classes=known,
        root=base,
        format="cvat",
        split_names=tuple(split_names),
        left_out=tuple(left_out),
        folders=tuple(files.common_folder(names[split]) for split in split_names),
        label_files=label_files,
        orphans=tuple(
            f"{file.path.name}: frame {number}" for file in read_files for number in file.frames if file.is_video
        ),
        notes=() if by_tags else tuple(cvat_tags.notes_on(tags)),
    )
    return cvat_tags.classified(source, tags, classes) if by_tags else Dataset(source)


def _looks_like_cvat(file: Path) -> bool:
    if file.suffix.lower() != ".xml":
        return False
    return b"<annotations" in reading.head(file, 4096)


def _files(root: Path) -> list[Path]:
    for pattern in ("*.xml", "annotations/*.xml"):
        found = [file for file in sorted(root.glob(pattern))[:200] if _looks_like_cvat(file)]
        if found:
            return found
    return []


def _image_folders(home: Path, split: str, images: Path | None) -> list[Path]:
    """Possible folders of a split's images: CVAT uses images/SUBSET, with its own spelling of the name."""
    above = [images] if images is not None else [home / "images", home, home.parent / "images"]
    inner = []
    for folder in above:
        listed = sorted(folder.iterdir()) if folder.is_dir() else []
        inner += [f for f in listed if f.is_dir() and files.split_name(f.name) == split]
    return [*inner, *above]


def _read_file(path: Path, split: str, images: Path | None) -> _File:
    file = _File(path)
    for event, element in reading.iter_xml(path):
        if event == "start":
            continue
        if element.tag == "meta":
            _add_meta(file, element)
        elif element.tag == "image":
            file.images.append(_image(path, element, split))
        elif element.tag == "track":
            file.is_video = True
            _add_track(file, element)
    if file.is_video:
        _place_frames(file, split, images)
    return file


def _add_meta(file: _File, meta: Element) -> None:
    names = (label.findtext("name") for label in meta.iterfind(".//labels/label") if label.find("parent") is None)
    file.labels = [name.strip() for name in names if name and name.strip()]
    original = meta.find(".//original_size")
    if original is not None:
        file.size = _whole(original.findtext("height")), _whole(original.findtext("width"))


def _image(path: Path, element: Element, split: str) -> _Image:
    name = element.get("name")
    if not name:
        raise InputError(f"{path}: image {element.get('id')} has no name; export the file again")
    subset = element.get("subset")
    size = _whole(element.get("height")), _whole(element.get("width"))
    image = _Image(name, files.split_name(subset) if subset else split, size if all(size) else (0, 0))
    for child in element:
        if child.tag == "tag":
            image.tags.append((child.get("label") or "").strip())
        elif child.tag in _SHAPES:
            image.objects.append(_Object(child, (child.get("label") or "").strip()))
    return image


def _add_track(file: _File, track: Element) -> None:
    for child in track:
        if child.tag in _SHAPES and child.get("outside") != "1":
            one = _Object(child, (track.get("label") or "").strip(), _whole(track.get("id")))
            if track.get("group_id"):
                child.set("group_id", track.get("group_id") or "")
            file.frames.setdefault(_whole(child.get("frame")), []).append(one)


def _place_frames(file: _File, split: str, images: Path | None) -> None:
    """Create an image for each video frame that exists as a file; the others stay in `frames`."""
    folders = _image_folders(file.path.parent, split, images)
    folder = next(
        (f for f in folders if f.is_dir() and any(_number(name) is not None for name in files.images_below(f))), None
    )
    for name in files.images_below(folder) if folder is not None else []:
        number = _number(name)
        if number is not None:
            file.images.append(_Image(name, split, file.size, file.frames.pop(number, [])))
    if not file.images:
        raise InputError(
            f"{file.path} contains tracks of a video, but none of its frames exists (looked for "
            "images/frame_000000.png and similar names); export it with its images, or name their folder (images=…)"
        )


def _number(name: str) -> int | None:
    digits = re.search(r"(\d+)$", files.without_suffix(name))
    return int(digits[1]) if digits else None


def _add_objects(gather: Gather, file: Path, image: str, objects: Sequence[_Object], size: Size) -> None:
    where = f"{file}: {image}"
    groups: dict[tuple[str, str], list[int]] = {}
    for k, one in enumerate(objects):
        if not one.label:
            no_label = f"{where}: shape {k} ({one.element.tag}) has no label; name its class, or remove it"
            skip_label(InputError(no_label), file)
            continue
        group = one.element.get("group_id") or "0"
        grouped = group != "0" and one.element.tag == "polygon"
        groups.setdefault((one.label, f"{one.track}: {group}" if grouped else f"shape {k}"), []).append(k)
    for (label, _), members in groups.items():
        first = objects[members[0]]
        here = f"{where}: shape {members[0]} ({first.element.tag})"
        try:
            geometry: dict[str, Any] = (
                {"polygons": [_points(objects[k].element, here) for k in members]}
                if len(members) > 1
                else _geometry(first.element, here, size)
            )
            gather.object(here, label, attributes=_attributes(first.element), track=first.track, **geometry)
        except InputError as error:
            skip_label(error, file)


def _attributes(element: Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in element.iterfind("attribute"):
        found[attribute.get("name") or ""] = (attribute.text or "").strip()
    if _whole(element.get("z_order")):
        found["z_order"] = element.get("z_order")
    return found | ({"occluded": "1"} if element.get("occluded") == "1" else {})


def _geometry(element: Element, where: str, size: Size) -> dict[str, Any]:
    """The arguments of `Gather.object` for one shape."""

    def get(*names: str) -> list[float]:
        return shapes.as_numbers([element.get(name) for name in names], where)

    angle = shapes.as_numbers([element.get("rotation") or 0], where)[0]
    if element.tag == "box":
        box = get("xtl", "ytl", "xbr", "ybr")
        return {"shape": {"kind": "box", "box": box, "angle": angle}} if angle else {"box": box}
    if element.tag == "ellipse":
        values = dict(zip(("cx", "cy", "rx", "ry"), get("cx", "cy", "rx", "ry"), strict=True))
        return {"shape": {"kind": "ellipse", **values, **({"angle": angle} if angle else {})}}
    if element.tag == "polygon":
        return {"polygons": [_points(element, where)]}
    if element.tag == "mask":
        return {"rle": _mask(element, where, size)}
    if element.tag == "cuboid":
        names = [
            f"{axis}{corner}" for corner in ("tl1", "bl1", "tr1", "br1", "tl2", "bl2", "tr2", "br2") for axis in "xy"
        ]
        return {"box": shapes.bounds([get(*names)])}
    if element.tag == "skeleton":
        points = [v for p in element.iterfind("points") if p.get("outside") != "1" for v in _points(p, where)]
        if not points:
            raise InputError(f"{where} has no points; draw it again or remove it")
        return {"box": shapes.bounds([points])}
    return {"shape": {"kind": "line" if element.tag == "polyline" else "points", "points": _points(element, where)}}


def _points(element: Element, where: str) -> list[float]:
    """ "x,y;x,y" as a flat list."""
    pairs = [pair for pair in (element.get("points") or "").split(";") if pair.strip()]
    return shapes.as_numbers([value for pair in pairs for value in pair.split(",")], where, even=True)


def _mask(element: Element, where: str, size: Size) -> dict[str, Any]:
    """The RLE of a mask, stored as row-major runs inside its bounding box, background first."""
    from sightline.ops.masks import mask_to_rle

    left, top, width, height = (_whole(element.get(name)) for name in ("left", "top", "width", "height"))
    runs = np.array(shapes.as_numbers([v for v in (element.get("rle") or "").split(",") if v.strip()], where), np.int64)
    if (runs < 0).any() or runs.sum() != width * height:
        raise InputError(
            f"{where}: the runs of its rle add up to {int(runs.sum())}, but {width} × {height} are {width * height} "
            "pixels; export it again or remove it"
        )
    if top + height > size[0] or left + width > size[1]:
        raise InputError(
            f"{where} is a mask of {width} × {height} pixels at {left}, {top}, but the image is {size[1]} × {size[0]}; "
            "draw it again or remove it"
        )
    whole = torch.zeros(size, dtype=torch.bool)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    whole[top : top + height, left : left + width] = torch.from_numpy(inside)
    return mask_to_rle(whole)


def _whole(text: str | None) -> int:
    """A non-negative integer; 0 if the text is not one."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0
    return int(value) if 0 <= value < 2**30 else 0

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
from xml.etree.ElementTree import Element

from sightline.data.dataset import Dataset
from sightline.data.formats import cvat_tags, files
from sightline.data.formats.cvat_shapes import SHAPES, Shape, add_objects, whole_number
from sightline.data.formats.cvat_write import write
from sightline.data.formats.gather import Gather, place_of
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "CVAT: annotations.xml with images or tracks"


@dataclass
class _Image:
    name: str
    split: str
    size: Size
    objects: list[Shape] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


@dataclass
class _File:
    path: Path
    labels: list[str] = field(default_factory=list)
    images: list[_Image] = field(default_factory=list)
    frames: dict[int, list[Shape]] = field(default_factory=dict)
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
            add_objects(gather, file.path, image.name, image.objects, size)
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
        file.size = whole_number(original.findtext("height")), whole_number(original.findtext("width"))


def _image(path: Path, element: Element, split: str) -> _Image:
    name = element.get("name")
    if not name:
        raise InputError(f"{path}: image {element.get('id')} has no name; export the file again")
    subset = element.get("subset")
    size = whole_number(element.get("height")), whole_number(element.get("width"))
    image = _Image(name, files.split_name(subset) if subset else split, size if all(size) else (0, 0))
    for child in element:
        if child.tag == "tag":
            image.tags.append((child.get("label") or "").strip())
        elif child.tag in SHAPES:
            image.objects.append(Shape(child, (child.get("label") or "").strip()))
    return image


def _add_track(file: _File, track: Element) -> None:
    for child in track:
        if child.tag in SHAPES and child.get("outside") != "1":
            one = Shape(child, (track.get("label") or "").strip(), whole_number(track.get("id")))
            if track.get("group_id"):
                child.set("group_id", track.get("group_id") or "")
            file.frames.setdefault(whole_number(child.get("frame")), []).append(one)


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

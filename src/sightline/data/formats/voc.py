"""Pascal VOC: one XML file per image.

These layouts are recognised:

- Annotations/*.xml, JPEGImages/* (or images/*) and ImageSets/Main/SPLIT.txt (VOC, CVAT); lists of single classes
  (aeroplane_train.txt) are ignored, and so is trainval if train and val exist;
- train/, valid/, test/ with XML files beside images (Roboflow), or such folders inside both the image folder and the
  label folder;
- XML files beside images, or in a folder beside an image folder (LabelImg): one split, "all";
- VOCdevkit/ with VOC2007/, VOC2012/ or both: a split contains the images of that split from every year.

Folder names and suffixes are case-insensitive. If images differ only in their suffix (a.jpg, a.png), a label belongs to
the image it names, or to all of them if it names none.

Coordinates are kept as they are in the files. The VOC challenges counted pixels from 1 and included the last one;
today's tools (LabelImg, CVAT, Roboflow) write box edges counted from 0, like Sightline. A file does not say which
convention it uses, and the difference is at most one pixel, so nothing is shifted.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sightline.data.blob import Blob, Column
from sightline.data.builder import Builder
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.listing import find_folder
from sightline.data.formats.voc_devkit import read_years, years
from sightline.data.formats.voc_lists import image_lists, names_in, read_class_list
from sightline.data.formats.voc_write import write
from sightline.data.formats.voc_xml import VocFile, read_xml
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Classes, Size

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "Pascal VOC: Annotations/*.xml with ImageSets/Main/*.txt, or *.xml beside images"
_IMAGE_FOLDERS = ("JPEGImages", "images", "imgs")
_LABEL_FOLDERS = ("Annotations", "xmls", "labels")


@dataclass(frozen=True)
class _Part:
    """One split.

    Attributes:
        split: its name.
        labels: XML files relative to the naming root, by name without suffix.
        images: image files relative to the naming root, by name without suffix; usually one each.
        image_folder: the image folder, relative to the naming root; "" for the root.
        listed: the names in the split's list; None for all.
        list_file: the list, relative to the root.
    """

    split: str
    labels: dict[str, str]
    images: dict[str, list[str]]
    image_folder: str
    listed: list[str] | None = None
    list_file: str = ""


def recognise(root: Path) -> str | None:
    """A description of the VOC folders found; None if there are none."""
    if not root.is_dir():
        return None
    if recognised := [year.name for year in years(root) if recognise(year) is not None]:
        return ", ".join(recognised)
    masks = (find_folder(root, name) for name in ("SegmentationObject", "SegmentationClass"))
    masks_alone = any(folder is not None for folder in masks) and find_folder(root, "Annotations") is None
    if find_folder(root, "ImageSets") is not None and find_folder(root, "JPEGImages") is not None and not masks_alone:
        return "ImageSets and JPEGImages"
    for folder in (root, *files.folders_of_splits(root)):
        deep = [place for name in _LABEL_FOLDERS if (place := find_folder(folder, name)) is not None]
        below = (place / name for place in deep for name in files.files_below(place) if name.lower().endswith(".xml"))
        found = itertools.chain(files.with_ending(folder, ".xml"), below)
        file = next((file for file in itertools.islice(found, 20) if _looks_like_voc(file)), None)
        if file is not None:
            return files.relative(file, root)
    return None


def _looks_like_voc(file: Path) -> bool:
    text = reading.head(file, 2**14)
    return b"<annotation" in text and b"<annotations" not in text and (b"<bndbox" in text or b"<size" in text)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a VOC dataset. Arguments and errors are those of `sightline.open_dataset`.

    Classes are those of labelmap.txt (written by CVAT), else all names that occur, sorted. Sizes are those stated in
    the files, or those of the images if not stated. Labels without an image are recorded as orphans. The extra columns
    "truncated" and "occluded" (bool) and "pose" (text) exist if any object has such a value.
    """
    root = root.absolute()
    if found := years(root):
        return read_years(root, found, splits or images, lambda year: read(year, None, classes))
    base = files.naming_root(root, images)
    left_out: list[str] = []
    if splits:
        parts = [_given(root, name, files.resolve(root, given), images) for name, given in splits.items()]
    else:
        parts = _parts(root, images, left_out)
    names = list(classes) if classes is not None else read_class_list(root)
    gather = _Gather(base, names)
    for number, part in enumerate(parts):
        gather.add(part, number)
    if not gather.count:
        looked = "in " + ", ".join(dict.fromkeys(part.image_folder or "the folder itself" for part in parts))
        raise files.none_found(root, gather.orphans, looked)
    columns, known = gather.finish()
    if not splits:
        tops = dict.fromkeys(part.image_folder for part in parts if part.listed is not None)
        left_out += [words for top in tops for words in files.unlisted(base / top, columns.names.texts(), base)]
    source = Source(
        columns=columns,
        classes=known,
        root=base,
        format="voc",
        split_names=tuple(part.split for part in parts),
        folders=tuple(_layout_folder(part) for part in parts),
        orphans=tuple(dict.fromkeys(gather.orphans)),
        left_out=tuple(left_out),
    )
    return Dataset(source)


def _parts(root: Path, images: Path | None, left_out: list[str]) -> list[_Part]:
    whole = _part(root, root, "all", images) if (root / "ImageSets").is_dir() else None
    lists = image_lists(root, whole.images) if whole is not None else []
    if whole is not None and lists:
        parts = [
            replace(whole, split=split, listed=names, list_file=files.relative(file, root))
            for split, file, names in lists
        ]
        return (
            [replace(parts[0], split="all")] if [part.split for part in parts] in (["default"], ["trainval"]) else parts
        )
    folders = files.split_folders(root)
    if folders and files.first_folder(root, _LABEL_FOLDERS) is None:
        left_out += files.beside_splits(root, folders.values(), root)
        return [_part(root, folder, name, images) for name, folder in folders.items()]
    return _inner_splits(whole or _part(root, root, "all", images))


def _inner_splits(whole: _Part) -> list[_Part]:
    """The splits that have a folder in both the image and the label folder; the whole if there are none."""
    parts = []
    for split, folder in files.inner_splits([*whole.images, *whole.labels]).items():
        inside = f"{folder}/"
        images = {n.removeprefix(inside): found for n, found in whole.images.items() if n.startswith(inside)}
        labels = {n.removeprefix(inside): label for n, label in whole.labels.items() if n.startswith(inside)}
        home = files.joined(whole.image_folder, folder)
        parts.append(replace(whole, split=split, images=images, labels=labels, image_folder=home))
    return parts or [whole]


def _given(root: Path, split: str, path: Path, images: Path | None) -> _Part:
    """A split given by the user: a folder, or a list of names."""
    whole = _part(root, root, split, images)
    if path.is_dir():
        part = _part(root, path, split, images)
        if part.labels or path == root:
            return part
        # a folder with images only: labels are in the root's label folder, perhaps in a subfolder of this name
        places = {name: (name, f"{path.name}/{name}") for name in part.images}
        found = {name: next((p for p in both if p in whole.labels), None) for name, both in places.items()}
        return replace(part, labels={name: whole.labels[place] for name, place in found.items() if place is not None})
    return replace(whole, listed=names_in(path, whole.images), list_file=files.relative(path, root))


def _part(root: Path, folder: Path, split: str, images: Path | None) -> _Part:
    """All XML files and images of a folder."""
    label_folder = files.first_folder(folder, _LABEL_FOLDERS) or folder
    image_folder = images or files.first_folder(folder, _IMAGE_FOLDERS) or label_folder
    base = files.naming_root(root, images)
    labels_at, images_at = files.folder_name(label_folder, base), files.folder_name(image_folder, base)
    xml = [name for name in files.files_below(label_folder) if name.lower().endswith(".xml")]
    pictures: dict[str, list[str]] = {}
    for name in files.images_below(image_folder):
        pictures.setdefault(files.without_suffix(name), []).append(files.joined(images_at, name))
    return _Part(split, {files.without_suffix(n): files.joined(labels_at, n) for n in xml}, pictures, images_at)


def _layout_folder(part: _Part) -> str:
    """The leading part of image names that is layout, including the split's name if all names begin with it."""
    names = part.images if part.listed is None else [name for name in part.listed if name in part.images]
    inner = bool(names) and all(name.startswith(f"{part.split}/") for name in names)
    return files.joined(part.image_folder, part.split) if inner else part.image_folder


class _Gather:
    """Collects the columns of all splits, file by file."""

    def __init__(self, root: Path, names: list[str] | None):
        self.root = root
        self.fixed = names is not None
        self.ids = {name: k for k, name in enumerate(Classes(names or []))}
        self.builder = Builder()
        self.count = 0
        self.orphans: list[str] = []
        self.marks: dict[str, list[bool]] = {"truncated": [], "occluded": []}
        self.poses: list[str] = []
        self._files: dict[str, VocFile | None] = {}

    def add(self, part: _Part, split: int) -> None:
        """Add a split's images; labels (and entries of its list) without an image become orphans."""
        listed = None if part.listed is None else set(part.listed)
        by_lower = {name.lower(): name for name in part.images}
        labels: dict[str, str] = {}
        without: list[str] = []
        for name, label in part.labels.items():
            own = part.images.get(name) or part.images.get(by_lower.get(name.lower(), ""), [])
            if len(own) > 1 and (file := self._file(label)) is not None:
                ending = file.image.rsplit("/", 1)[-1].lower()
                own = [image for image in own if image.rsplit("/", 1)[-1].lower() == ending] or own
            if own:
                labels |= dict.fromkeys(own, label)
            elif listed is None or name in listed:
                without.append(label)
        for label in without:  # no image has its name: it may name another one
            file = self._file(label)
            stated = [] if file is None else part.images.get(files.without_suffix(file.image), [])
            exact = [image for image in stated if file is not None and image.endswith(file.image)] or stated
            free = [image for image in exact if image not in labels]
            if free:
                labels[free[0]] = label
            elif file is not None:
                self.orphans.append(label)
        for name in part.images if part.listed is None else part.listed:
            images = part.images.get(name, [])
            for image in images:
                if part.listed is None or len(images) == 1 or image in labels or not labels.keys() & set(images):
                    self._image(image, split, labels.get(image, ""))
            if not images and name not in part.labels:
                self.orphans.append(f"{part.list_file}: {name}")

    def _file(self, label: str) -> VocFile | None:
        """A label file, read once; None if it is not XML."""
        if label not in self._files:
            try:
                self._files[label] = read_xml(self.root / label)
            except InputError as error:
                self._files[label] = None
                skip_label(error, self.root / label)
        return self._files[label]

    def _image(self, image: str, split: int, label: str) -> None:
        file = self._file(label) if label else VocFile("", (0, 0), [])
        if file is None:
            return  # this label was already reported as unreadable
        size: Size = file.size if all(file.size) else files.header_size(self.root / image)
        self.builder.add_image(image, size, split, label)
        self.count += 1
        for number, one in enumerate(file.objects):
            if one.name not in self.ids and self.fixed:
                path, known = self.root / label, list(self.ids)
                skip_label(files.unknown_class(f"{path}: object {number}", f"class {one.name!r}", known), path)
                continue
            id = self.ids.setdefault(one.name, len(self.ids))
            # Crowds are written as difficult, too, for other tools; here they are read as crowds.
            self.builder.add_object(one.box, id, crowd=one.crowd, difficult=one.difficult and not one.crowd)
            self.marks["truncated"].append(one.truncated)
            self.marks["occluded"].append(one.occluded)
            self.poses.append("" if one.pose.lower() == "unspecified" else one.pose)

    def finish(self) -> tuple[Columns, Classes]:
        extra: dict[str, Column] = {name: np.array(marks, bool) for name, marks in self.marks.items() if any(marks)}
        if any(self.poses):
            extra["pose"] = Blob.of(self.poses)
        columns = self.builder.build(extra=extra)
        if self.fixed:
            return columns, Classes(self.ids)
        names = sorted(self.ids)
        places = np.array([names.index(name) for name in self.ids], np.int32)
        return columns.replace(labels=places[columns.labels] if len(places) else columns.labels), Classes(names)

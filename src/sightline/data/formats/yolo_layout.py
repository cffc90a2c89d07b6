"""Where YOLO tools put images and labels, and which of them make up a split."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.data.formats import files
from sightline.data.formats.listing import Listing, find_file, find_folder
from sightline.data.formats.yolo_config import Description, find_listed, read_description, read_names
from sightline.data.formats.yolo_lines import Keypoints
from sightline.data.images import is_image
from sightline.errors import InputError
from sightline.runtime import reading

_NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "classes.names", "_darknet.labels")


@dataclass
class Part:
    """One split: images with their label files (None if an image has none), and labels without an image."""

    split: str
    pairs: list[tuple[Path, Path | None]]
    image_folder: Path
    orphans: list[str] = field(default_factory=list)


@dataclass
class Layout:
    """The contents of a dataset.

    Attributes:
        root: the folder that names are relative to.
        names: class names by id; None if there is no file with names.
        parts: the splits.
        names_file: the file with the class names.
        keypoints: keypoints of YOLO pose.
        missing: splits whose places do not exist, by name, with a description.
        left_out: images that belong to no split, in words.
        notes: contradictions in the description, one sentence each.
    """

    root: Path
    names: dict[int, str] | None
    parts: list[Part]
    names_file: Path | None = None
    keypoints: Keypoints | None = None
    missing: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Given = Mapping[str, str | os.PathLike[str]]
"""Image folders, or lists of images, that the user gives for splits."""


def from_description(file: Path, images: Path | None, given: Given) -> Layout:
    """The layout described by a data.yaml or obj.data."""
    description = read_description(file)
    home = file.parent
    layout = Layout(home, description.names, [], description.names_file, description.keypoints, notes=description.notes)
    finder = _Finder(home, images)
    if given:
        layout.parts = finder.given(given)
        return layout
    if file.suffix.lower() == ".data":
        _require_places(description)
    for split in files.in_order(dict.fromkeys(entry.split for entry in description.entries)):
        entries = [entry for entry in description.entries if entry.split == split]
        places = [entry.place for entry in entries if entry.place is not None]
        lost = [entry for entry in entries if entry.place is None]
        if places:
            layout.parts.append(finder.part(split, places, description.bases))
            layout.parts[-1].orphans += [f"{file.name}: {entry.key}: {entry.text}" for entry in lost]
        elif lost:
            layout.missing[split] = f"{file.name}: {lost[0].key}: {lost[0].text}"
    if not layout.parts:
        tried = "; ".join(layout.missing.values()) or "it names no train, val or test"
        raise InputError(f"{file}: none of its splits exists ({tried}); correct the paths, relative to the file")
    layout.parts[0].orphans += finder.unused_labels(layout.parts)
    if file.suffix.lower() == ".data" and len(layout.parts) == 1:
        layout.parts[0].split = "all"  # CVAT lists every export as "train"
    return layout


def _require_places(description: Description) -> None:
    for entry in description.entries:
        if entry.place is None:
            raise InputError(
                f"{description.file}: {entry.text}, which it names for {entry.key}, does not exist; correct the path"
            )


def from_folder(root: Path, images: Path | None, given: Given) -> Layout:
    """The layout of a folder without description: images/ and labels/ (perhaps by split), or *.txt beside images."""
    image_folder = find_folder(root, "images")
    names, names_file = _names(root, image_folder)
    layout = Layout(root, names, [], names_file)
    finder = _Finder(root, images)
    if given:
        layout.parts = finder.given(given)
        return layout
    for base in [image_folder, root] if image_folder is not None else [root]:
        folders = files.split_folders(base)
        if folders:
            for split, folder in folders.items():
                layout.parts.append(finder.part(split, [find_folder(folder, "images") or folder], [root]))
            layout.left_out = files.beside_splits(base, folders.values(), root)
            layout.parts[0].orphans += finder.unused_labels(layout.parts)
            return layout
    layout.parts = [finder.part("all", [image_folder or root], [root])]
    return layout


def _names(root: Path, image_folder: Path | None) -> tuple[dict[int, str] | None, Path | None]:
    """Class names and their file: in the folder itself, else among the labels, where LabelImg writes classes.txt.

    Raises:
        InputError: files in several folders give different names for one id.
    """
    homes = [folder for folder in (find_folder(root, "labels"), image_folder) if folder is not None]
    splits = [folder for home in (root, *homes) for folder in files.folders_of_splits(home)]
    homes += [inner for folder in splits for inner in (folder, find_folder(folder, "labels")) if inner is not None]
    known: dict[int, str] = {}
    first: Path | None = None
    for folder in (root, *homes):
        places = (find_file(folder, name) for name in _NAME_FILES)
        file = next((place for place in places if place is not None and not looks_like_labels(place)), None)
        if file is None:
            continue
        names = read_names(file)
        for id in sorted(known.keys() & names.keys()):
            if known[id] != names[id]:
                raise InputError(
                    f"{file} names class {id} {names[id]!r}, but {first} names it {known[id]!r}; correct the one that "
                    f"is wrong, or write the right names into {root / _NAME_FILES[0]}"
                )
        if first is None or len(names) > len(known):
            known, first = names, file
        if folder == root:
            break
    return (None if first is None else known), first


class _Finder:
    """Finds the images and labels of one dataset. One image is never used for two different lines of a list."""

    def __init__(self, root: Path, images: Path | None):
        self.root = root
        self.images = images
        self.listing = Listing()
        self.taken: dict[Path, str] = {}

    def given(self, splits: Given) -> list[Part]:
        """The splits given by the user."""
        return [self.part(name, [files.resolve(self.root, place)], [self.root]) for name, place in splits.items()]

    def part(self, split: str, places: Sequence[Path], bases: Sequence[Path]) -> Part:
        """A split from folders and lists."""
        part = Part(split, [], self.root)
        tops: list[Path] = []
        for place in dict.fromkeys(places):
            if place.is_dir():
                tops.append(self._add_folder(part, place))
            elif is_image(place):
                part.pairs.append((place, self._label(place)))
            else:
                tops += self._add_list(part, place, [place.parent, *bases])
        part.image_folder = Path(os.path.commonpath(tops)) if tops else self.root
        return part

    def unused_labels(self, parts: Sequence[Part]) -> list[str]:
        """Label files in the label folder that belong to no image of any split."""
        folder = self.listing.find(self.root, "labels")
        if folder is None or not folder.is_dir():
            return []
        used = {label for part in parts for _, label in part.pairs}
        known = {orphan for part in parts for orphan in part.orphans}
        image_folder = self.listing.find(self.root, "images")
        there = (
            {files.without_suffix(name) for name in files.images_below(image_folder)}
            if image_folder is not None
            else set()
        )
        names = (name for name in files.files_below(folder) if name.lower().endswith(".txt"))
        every = [folder / name for name in names if files.without_suffix(name) not in there]
        unused = (f for f in every if f not in used and f.name.lower() not in _NAME_FILES and looks_like_labels(f))
        return [name for name in (files.relative(file, self.root) for file in unused) if name not in known]

    def _add_folder(self, part: Part, folder: Path) -> Path:
        """Add all images of a folder; returns the folder they are in."""
        labels_at = self._mirrored(folder)
        labels_at = labels_at if labels_at is not None and labels_at.is_dir() else folder
        if self.images is not None:
            folder = find_folder(self.images, folder.name) or self.images
        known: dict[str, str] = {}
        double = []
        for name in sorted(files.files_below(labels_at), key=lambda name: not name.endswith(".txt")):
            if name.lower().endswith(".txt"):
                stem = files.without_suffix(name)
                if stem in known:
                    double.append(name)
                else:
                    known[stem] = name
        used: set[str] = set()
        by_lower = {stem.lower(): stem for stem in known}
        for name in files.images_below(folder):
            stem = files.without_suffix(name)
            stem = stem if stem in known else by_lower.get(stem.lower(), stem)
            label = labels_at / known[stem] if stem in known else None
            used.add(stem)
            if label is None and labels_at != folder:
                label = self._beside(folder / name)
            part.pairs.append((folder / name, label))
        left = [labels_at / known[stem] for stem in known if stem not in used] + [labels_at / name for name in double]
        unused = (file for file in left if file.name.lower() not in _NAME_FILES and looks_like_labels(file))
        part.orphans += [files.relative(file, self.root) for file in unused]
        return folder

    def _add_list(self, part: Part, file: Path, bases: Sequence[Path]) -> list[Path]:
        """Add all images of a list; returns their folders."""
        lines = [line.strip() for line in files.read_text(file).splitlines() if line.strip()]
        for line in dict.fromkeys(lines):
            place = find_listed(line, bases if self.images is None else [self.images], self.listing)
            if place is not None and self.taken.setdefault(place, line) != line and not _is_exact(line, bases, place):
                # This file is the image of another line; the one meant here is missing.
                part.orphans.append(f"{files.relative(file, self.root)}: {line}")
                continue
            label = None if place is None else self._label(place)
            if place is None or self.images is not None:
                stem = files.without_suffix(line) + ".txt"
                label = find_listed(stem, bases, self.listing) or find_listed(_as_labels(stem), bases, self.listing)
            if place is not None:
                part.pairs.append((place, label))
            else:
                part.orphans.append(
                    files.relative(label, self.root) if label else f"{files.relative(file, self.root)}: {line}"
                )
        return [place.parent for place, _ in part.pairs]

    def _label(self, image: Path) -> Path | None:
        mirrored = self._mirrored(image)
        found = None if mirrored is None else self._beside(mirrored)
        return found or self._beside(image)

    def _beside(self, image: Path) -> Path | None:
        """The text file with the image's name in the same folder."""
        return self.listing.find(image.parent, files.without_suffix(image.name) + ".txt")

    def _mirrored(self, path: Path) -> Path | None:
        """The path with its last "images" replaced by "labels", where YOLO looks for labels; None without "images"."""
        parts = list(path.parts)
        for k in range(len(parts) - 1, -1, -1):
            if parts[k].lower() == "images":
                labels, rest = self.listing.find(Path(*parts[:k]), "labels"), parts[k + 1 :]
                if labels is None or not rest:
                    return labels
                whole = self.listing.find(labels, "/".join(rest))
                return whole or (self.listing.find(labels, "/".join(rest[:-1])) or labels) / rest[-1]
        return None


def _is_exact(line: str, bases: Iterable[Path], place: Path) -> bool:
    return any(Path(os.path.normpath(base / line)) == place for base in bases)


def looks_like_labels(file: Path) -> bool:
    """Whether a text file's first line is a class id and coordinates."""
    line = reading.head(file, 4096).strip().split(b"\n")[0].split()
    try:
        return len(line) >= 5 and float(line[0]) >= 0 and not any(abs(float(value)) >= 10 for value in line[1:5])
    except ValueError:
        return False


def _as_labels(line: str) -> str:
    head, found, tail = line.replace("\\", "/").rpartition("images/")
    return f"{head}labels/{tail}" if found else line

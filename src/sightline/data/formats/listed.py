"""Label files that list images: finding these images, and building a dataset from the entries."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.finder import Finder
from sightline.data.formats.gather import Gather
from sightline.data.formats.listing import contents, folders_in
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Size

IMAGE_FOLDERS = ("images", "Images", "imgs", "img", "JPEGImages", "data")
"""Usual names of image folders beside label files."""
LABEL_FOLDERS = ("annotations", "Annotations", "labels", "Labels", "csv", "json", "jsons")
"""Usual names of folders with label files."""
_MOST_ORPHANS = 1000
_MOST_FOLDERS = 50


@dataclass
class Listed:
    """One image as listed in a label file.

    Attributes:
        name: the image as named in the file: a path, a name, or a name without suffix.
        other_names: alternative names of the image.
        file: the label file.
        split: the name of its split.
        size: (height, width) as stated in the file; (0, 0) if not stated.
        entries: its objects, in the reader's format.
        extra: additional data about the image.
    """

    name: str
    file: Path
    split: str = "all"
    size: Size = (0, 0)
    entries: list[Any] = field(default_factory=list)
    extra: Mapping[str, Any] = field(default_factory=dict)
    other_names: tuple[str, ...] = ()


def label_files(
    root: Path, suffix: str | tuple[str, ...], looks_right: Callable[[Path], bool], most: int = 200
) -> list[tuple[str, Path]]:
    """(split, file) of the label files of one format, in the first of the usual places that has any.

    The places are the folder itself, its label folders, its split folders with their label folders, and its other
    folders. Next to split folders, other folders with both labels and images are splits with their own names. The split
    is that of the folder, or the one contained in the file's name, or "all".

    Args:
        root: the dataset's folder, or one file.
        suffix: suffix of the files in lower case, or several.
        looks_right: function that says whether a file has the format.
        most: maximum number of files inspected in each folder.
    """
    if root.is_file():
        return [("all", root)] if looks_right(root) else []

    def inside(*folders: Path) -> list[Path]:
        named = ((folder, name) for folder in folders for name in _with_suffix(folder, suffix, most))
        return [file for folder, name in named if looks_right(file := folder / name)]

    found = inside(root) or inside(*(root / name for name in LABEL_FOLDERS))
    if found:
        return [(files.split_in(file.stem) or "all", file) for file in found]
    folders = folders_in(root)
    splits = [folder for folder in folders if files.is_usual_split(folder)]
    others = [f for f in folders if f not in splits and f.name not in LABEL_FOLDERS][:_MOST_FOLDERS]
    for group in (splits, others):
        by_folder = {f: inside(f, *(f / name for name in LABEL_FOLDERS)) for f in group}
        if group is splits and any(by_folder.values()):
            by_folder |= {f: own for f in others if (own := inside(f)) and files.images_below(f)}
        pairs = [(files.split_name(folder.name), file) for folder, own in by_folder.items() for file in own]
        if pairs and group is others and len({split for split, _ in pairs}) == 1:
            return [("all", file) for _, file in pairs]
        if pairs:
            return pairs
    return []


def recognised(root: Path, suffix: str | tuple[str, ...], looks_right: Callable[[Path], bool]) -> str | None:
    """A description of the first label file of a format; None if there is none. Arguments as for `label_files`."""
    found = label_files(root, suffix, looks_right, most=20)
    return files.relative(found[0][1], files.home_of(root)) if found else None


def files_to_read(
    root: Path,
    splits: Mapping[str, str | Path] | None,
    suffix: str | tuple[str, ...],
    looks_right: Callable[[Path], bool],
    expected: str,
    most: int = 200,
) -> list[tuple[str, Path]]:
    """(split, file) of the label files of a format: those given by the user, else those that are found.

    Args:
        root: the dataset's folder, or one file; absolute.
        splits: the splits given by the user.
        suffix, looks_right, most: as for `label_files`.
        expected: what is expected and what to do if it is missing, for the message.

    Raises:
        InputError: there are no such files.
    """
    found = given_files(root, splits, suffix, looks_right) if splits else label_files(root, suffix, looks_right, most)
    if not found:
        raise InputError(f"{root} contains no {expected}")
    return found


def _with_suffix(folder: Path, suffix: str | tuple[str, ...], most: int) -> list[str]:
    return list(itertools.islice((n for n in contents(folder).files if n.lower().endswith(suffix)), most))


def head_of(file: Path, size: int = 2**16) -> bytes:
    """The first bytes of a file, like `reading.head`, without a byte order mark."""
    return reading.head(file, size).removeprefix(b"\xef\xbb\xbf")


def given_files(
    root: Path,
    splits: Mapping[str, str | Path],
    suffix: str | tuple[str, ...],
    looks_right: Callable[[Path], bool],
) -> list[tuple[str, Path]]:
    """(split, file) of the splits given by the user: one file each, or a folder that contains files of the format."""
    home = files.home_of(root)
    found = []
    for split, given in splits.items():
        place = files.resolve(home, given).absolute()
        inside = [place] if place.is_file() else [file for _, file in label_files(place, suffix, looks_right)]
        if not inside:
            endings = " or ".join(f"*{ending}" for ending in ([suffix] if isinstance(suffix, str) else suffix))
            raise InputError(f"{place} contains no label file ({endings}) to be a split; name the file")
        found += [(split, file) for file in inside]
    return found


def assemble(
    root: Path,
    format: str,
    listed: Iterable[Listed],
    add: Callable[[Gather, Listed, Any, Size], None],
    gather: Gather,
    *,
    images: Path | None = None,
    relative: bool = False,
    notes: Sequence[str] = (),
) -> Dataset:
    """Build a dataset from listed images: find and measure them, and add their objects one by one.

    Listed images that do not exist are recorded as orphans and left out. Images beside them that no label file lists
    are left out with a note. An image that is listed twice in a split has the objects of both entries.

    Args:
        root: the dataset's folder, or its only label file.
        format: name of the format.
        listed: the images.
        add: adds one entry of an image to the columns, given the image's (height, width).
        gather: collects the columns.
        images: the folder of the images, if given by the user.
        relative: coordinates are fractions of the image size, so the actual size of the file is used, not the stated
            one.
        notes: notes for the user on how the files were read.
    """
    root = root.absolute()
    home = files.home_of(root)
    base = files.naming_root(home, images)
    if images is not None:
        folders = [images.absolute()]
    else:
        folders = [*(home / name for name in IMAGE_FOLDERS), home]
    finder = Finder(folders)
    by_split: dict[str, dict[Path, list[Listed]]] = {}
    orphans: list[str] = []
    missing = 0
    of_split: dict[str, list[Path]] = {}
    for one in listed:
        if one.split not in of_split:
            of_split[one.split] = folders_of(one.split, home)
        near = [images / one.split] if images is not None else [*_beside(one.file), *of_split[one.split]]
        names_of = (one.name, *one.other_names)
        found = next((place for name in names_of if (place := finder.find(name, near)) is not None), None)
        if found is None:
            missing += 1
            orphans += [f"{files.relative(one.file, base)}: {one.name}"] if len(orphans) < _MOST_ORPHANS else []
        else:
            by_split.setdefault(one.split, {}).setdefault(found, []).append(one)
    if not by_split:
        looked = "in the folder named" if images is not None else "beside the file and in images/"
        raise files.none_found(home, orphans, looked)
    split_names = files.in_order(by_split)
    folder_of = []
    for number, split in enumerate(split_names):
        names = []
        for place, several in by_split[split].items():
            stated = next((one.size for one in several if all(one.size)), (0, 0))
            size = files.header_size(place) if relative or not all(stated) else stated
            size = size if all(size) else stated
            names.append(files.relative(place, base))
            extra = {key: value for one in several for key, value in one.extra.items()}
            gather.image(names[-1], size, number, files.relative(several[0].file, base), extra)
            for one in several:
                for entry in one.entries:
                    try:
                        add(gather, one, entry, size)
                    except InputError as error:
                        skip_label(error, one.file, getattr(entry, "line", None))
                    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
                        what = f"{one.file}: {one.name}: an object does not follow the format ({error}); correct it"
                        skip_label(InputError(what), one.file)
        folder_of.append(files.common_folder(names))
    columns, known = gather.finish()
    told = list(notes)
    if missing:
        told.append(f"listed images that do not exist and are left out: {missing}, the first {orphans[0]}")
    told += _unlisted({place for places in by_split.values() for place in places}, home, base)
    source = Source(
        columns=columns,
        classes=known,
        root=base,
        format=format,
        split_names=tuple(split_names),
        folders=tuple(folder_of),
        orphans=tuple(orphans),
        notes=tuple(told),
    )
    return Dataset(source)


def _beside(file: Path) -> list[Path]:
    return [file.parent, *(file.parent / name for name in IMAGE_FOLDERS)]


def folders_of(split: str, home: Path) -> list[Path]:
    """Possible image folders of a split, by their names."""
    if split == "all":
        return []
    places = [place for place in (home / "images", home) if place.is_dir()]
    return [f for place in places for f in folders_in(place) if files.split_name(f.name) == split]


def _unlisted(listed: set[Path], home: Path, base: Path) -> list[str]:
    """A note on images in the folders of listed images, or next to the split folders, that no label file lists.

    Args:
        listed: the images of the dataset.
        home: the dataset's folder.
        base: the folder that names in the note are relative to.
    """
    folders = sorted({place.parent for place in listed})
    if any(folder.is_relative_to(split) for split in files.folders_of_splits(home) for folder in folders):
        folders = folders_in(home)
    tops = [folder for folder in folders if not any(other in folder.parents for other in folders)]
    every = (top / name for top in tops for name in files.images_below(top))
    left = [place for place in every if place not in listed]
    if not left:
        return []
    return [f"images in no label file, which are left out: {len(left)}, the first {files.relative(left[0], base)}"]

"""Label files that list images: finding the images they name, and making a dataset of what they say."""

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
from sightline.data.malformed import leave_out
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Size

IMAGE_FOLDERS = ("images", "Images", "imgs", "img", "JPEGImages", "data")
"""Names that folders of images have beside label files."""
LABEL_FOLDERS = ("annotations", "Annotations", "labels", "Labels", "csv", "json", "jsons")
"""Names that folders of label files have."""
_MOST_ORPHANS = 1000
_MOST_FOLDERS = 50


@dataclass
class Listed:
    """One image as a label file lists it.

    Attributes:
        name: the image, as the file names it: a path, a name, or a name without ending.
        other_names: what it may be called instead.
        file: the label file.
        split: the name of its split.
        size: (height, width) as the file states it; (0, 0) where it does not.
        entries: its objects, in the reader's own form.
        extra: what else is known of the image.
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
    """(split, file) of the label files of one kind, in the first of the usual places that has any.

    Looked into are the folder itself, its folders of labels, its folders named as splits with theirs, and its other
    folders; beside folders named as splits, others with both labels and images are splits of their own names. The split
    is the folder's, or the one that the file's name speaks of, or "all".

    Args:
        root: the dataset's folder, or one file.
        suffix: of the files, in lower case; one or several.
        looks_right: whether a file is of the kind.
        most: how many files are looked into in each folder.
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
    """The first label file of a kind, as words; None where there is none. Arguments as `label_files`."""
    found = label_files(root, suffix, looks_right, most=20)
    return files.relative(found[0][1], files.home_of(root)) if found else None


def files_to_read(
    root: Path,
    splits: Mapping[str, str | Path] | None,
    suffix: str | tuple[str, ...],
    looks_right: Callable[[Path], bool],
    wanted: str,
    most: int = 200,
) -> list[tuple[str, Path]]:
    """(split, file) of the label files of a kind: those that the user names, else those that are found.

    Args:
        root: the dataset's folder, or one file; absolute.
        splits: what the user names.
        suffix, looks_right, most: as `label_files`.
        wanted: what there must be and what to do where it is not, for the sentence.

    Raises:
        InputError: there is none.
    """
    found = given_files(root, splits, suffix, looks_right) if splits else label_files(root, suffix, looks_right, most)
    if not found:
        raise InputError(f"{root} holds no {wanted}")
    return found


def _with_suffix(folder: Path, suffix: str | tuple[str, ...], most: int) -> list[str]:
    return list(itertools.islice((n for n in contents(folder).files if n.lower().endswith(suffix)), most))


def head_of(file: Path, size: int = 2**16) -> bytes:
    """The first bytes of a file, as `reading.head`, without a byte order mark."""
    return reading.head(file, size).removeprefix(b"\xef\xbb\xbf")


def given_files(
    root: Path,
    splits: Mapping[str, str | Path],
    suffix: str | tuple[str, ...],
    looks_right: Callable[[Path], bool],
) -> list[tuple[str, Path]]:
    """(split, file) of the splits that the user names: a file each, or a folder that holds files of the kind."""
    home = files.home_of(root)
    found = []
    for split, given in splits.items():
        place = files.resolve(home, given).absolute()
        inside = [place] if place.is_file() else [file for _, file in label_files(place, suffix, looks_right)]
        if not inside:
            endings = " or ".join(f"*{ending}" for ending in ([suffix] if isinstance(suffix, str) else suffix))
            raise InputError(f"{place} holds no label file ({endings}) to be a split; name the file")
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
    """A dataset of listed images: found, measured, with their objects added one by one.

    Listed images that are not there are remembered as orphans and left out; so are, with a note, images beside them
    that no label file lists. One image that is listed twice in a split has the objects of both.

    Args:
        root: the dataset's folder, or its one label file.
        format: its name.
        listed: the images.
        add: adds one entry of an image to the gathered columns, given the image's (height, width).
        gather: what the columns are gathered in.
        images: the folder with the images, where the user names one.
        relative: coordinates are parts of the image's size, so that the file's own size is taken, not the stated one.
        notes: what the user should know of how the files were read.
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
                        leave_out(error, one.file, getattr(entry, "line", None))
                    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
                        what = f"{one.file}: {one.name}: an object is not as the format has it ({error}); correct it"
                        leave_out(InputError(what), one.file)
        folder_of.append(files.common_folder(names))
    columns, known = gather.finish()
    told = list(notes)
    if missing:
        told.append(f"images that are listed but not there, which are left out: {missing}, the first {orphans[0]}")
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
    """The folders of images that a split may have, by their names."""
    if split == "all":
        return []
    places = [place for place in (home / "images", home) if place.is_dir()]
    return [f for place in places for f in folders_in(place) if files.split_name(f.name) == split]


def _unlisted(listed: set[Path], home: Path, base: Path) -> list[str]:
    """A note on images that lie beside listed ones, or in folders beside those of splits, but that no label file lists.

    Args:
        listed: the images of the dataset.
        home: the dataset's folder.
        base: what names in the note are relative to.
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

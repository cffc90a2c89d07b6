"""One folder per class, for image labels.

These layouts are recognised:

- CLASS/NAME.jpg, with two classes or more;
- SPLIT/CLASS/NAME.jpg, where the split is train, val or test.

Each class folder directly contains images, and may contain more in subfolders. Classes are sorted by name, as numbers
if all names are whole numbers; or in the order of classes.txt (one name per line), if it lists all of them. An empty
class folder is a class without images. Folders next to split folders, and images next to class folders, are left out.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sightline.data.builder import Builder
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.image_labels import KIND, in_class_order
from sightline.data.formats.listing import contents, find_file, folders_in
from sightline.data.images import is_image
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.words import counted

__all__ = ["LOOKED_FOR", "WRITES", "read", "recognise", "write"]

LOOKED_FOR = "folders: CLASS/*.jpg or SPLIT/CLASS/*.jpg"
WRITES = (KIND,)
CLASSES = "classes.txt"
_OF_LABELS = (".json", ".xml", ".txt", ".csv", ".tsv", ".yaml", ".yml", ".jsonl", ".parquet")
"""Suffixes of label files, which say more about images than their folder does."""


def recognise(root: Path) -> str | None:
    """A description of a class folder, if a folder contains one folder per class; else None."""
    if not root.is_dir():
        return None
    homes = _homes(root)
    folders = [folder for home in homes for folder in folders_in(home) if _has_images(folder)]
    names = {folder.name.strip() for folder in folders}
    if not names or _of_another_layout(names) or not all(map(_is_class, folders)):
        return None
    if len(names) < 2 and not names <= {*_listed(root)}:
        return None
    if homes == [root] and any(map(is_image, contents(root).files)):  # the folders contain more images, not classes
        return None
    return f"{files.relative(folders[0], root)}/"


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a dataset with one folder per class. Arguments and errors are those of `sightline.open_dataset`.

    A split is given by the folder that contains its class folders.
    """
    root = (images or root).absolute()
    if not root.is_dir():
        raise InputError(f"{root} is a file, but classes are folders; give the folder that contains them")
    if splits:
        homes = {name: files.resolve(root, given).absolute() for name, given in splits.items()}
        lone = next((home for home in homes.values() if not home.is_dir()), None)
        if lone is not None:
            raise InputError(f"{lone} is a file, but a split is a folder with a folder for each class; name that one")
    else:
        inner = files.split_folders(root) if _homes(root) != [root] else {}
        homes = inner or {"all": root}
    names = _class_names(root, homes, classes)
    ids = {name: k for k, name in enumerate(names)}
    builder, labels, counts = Builder(), array("i"), dict.fromkeys(names, 0)
    left_out: list[str] = []
    for number, home in enumerate(homes.values()):
        for folder in folders_in(home):
            name = folder.name.strip()
            if name not in ids:
                skip_label(files.unknown_class(str(folder), f"class {name!r}", names), folder)
                continue
            inside = files.images_below(folder)
            for image in inside:  # sizes are read lazily: datasets of this kind are large
                builder.add_image(files.relative(folder / image, root), (0, 0), number)
            labels.extend([ids[name]] * len(inside))
            counts[name] += len(inside)
        loose = [name for name in contents(home).files if is_image(name)]
        if loose:
            where = files.joined(files.folder_name(home, root), loose[0])
            left_out.append(f"{where}: {counted(len(loose))} in no class's folder")
    if not labels:
        raise InputError(f"{root} contains no folder with images; give the folder that contains one folder per class")
    if not splits and "all" not in homes:
        left_out += files.beside_splits(root, homes.values(), root)
    notes = [f"class {name!r} has no images" for name, count in counts.items() if not count]
    source = Source(
        columns=builder.build(image_labels=np.array(labels, np.int32)),
        classes=files.class_names(names, root),
        kind=KIND,
        root=root,
        format="folders",
        split_names=tuple(homes),
        folders=tuple(files.folder_name(home, root) for home in homes.values()),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )
    return Dataset(source)


def _homes(root: Path) -> list[Path]:
    """The folders that contain class folders: one per split if there are splits, else the root."""
    splits = files.folders_of_splits(root)
    nested = [folder for folder in splits if any(map(_has_images, folders_in(folder)))]
    return splits if nested else [root]


def _of_another_layout(names: Iterable[str]) -> str | None:
    """A name that shows that the folders belong to another layout and are not classes; None if there is none."""
    splits = [name for name in names if files.split_name(name) in files.ORDER]  # a class may be named "train"
    if len(splits) > 1 or any(name.startswith(split) and name != split for split in splits for name in names):
        return splits[0]
    return next((name for name in names if files.of_layout(name)), None)


def _has_images(folder: Path) -> bool:
    for _, folders, names in reading.walk(folder):  # links that lead in circles are followed once
        folders[:] = [name for name in folders if not reading.is_hidden(name)]
        if any(is_image(name) for name in names if not reading.is_hidden(name)):
            return True
    return False


def _is_class(folder: Path) -> bool:
    """Whether a folder directly contains images and no labels; otherwise it may be another dataset."""
    names = contents(folder).files
    return any(map(is_image, names)) and not any(name.lower().endswith(_OF_LABELS) for name in names)


def _class_names(root: Path, homes: Mapping[str, Path], classes: Sequence[str] | None) -> list[str]:
    """The classes in the order of their ids."""
    if classes is not None:
        return list(classes)
    found = {folder.name.strip() for home in homes.values() for folder in folders_in(home)}
    listed = _listed(root)
    return listed if found and found <= {*listed} else in_class_order(found)


def _listed(root: Path) -> list[str]:
    """The names in classes.txt; empty if there is no such file."""
    listing = find_file(root, CLASSES)
    lines = [line.strip() for line in files.read_text(listing).splitlines()] if listing is not None else []
    return list(dict.fromkeys(line for line in lines if line))


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as SPLIT/CLASS/NAME (one without splits as CLASS/NAME), and classes.txt.

    Args:
        dataset: a dataset with one class per image.
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.

    Raises:
        InputError: a class name cannot be the name of a class folder, or two images would share a file.
    """
    repair = "rename it (--classes {0}=NAME, in Python classes={{{0!r}: NAME}}), or write a CSV"
    for name in dataset.classes:
        if reading.is_hidden(name) or any(mark in name for mark in "/\\\0"):
            raise InputError(f"the class {name!r} cannot be the name of a folder; {repair.format(name)}")
    other = _of_another_layout(dataset.classes)
    if other is not None:
        raise InputError(
            f"a folder named as the class {other!r} would be read as part of another layout; {repair.format(other)}"
        )
    whole = dataset.splits == ("all",)
    if not whole and files.splits_lost(dataset):
        raise InputError(
            f"the dataset has the splits {', '.join(dataset.splits)}, but a folder with a name other than train, val "
            "or test would be read as a class; write a CSV"
        )
    for name in dataset.classes:
        for split in ("",) if whole else dataset.splits:
            (out / split / name).mkdir(parents=True)
    places = _places(dataset, whole)
    own = [dataset.name(i) for i in range(len(dataset))]
    files.require_distinct(own, places, "a file in the folder of their class")
    for i, place in enumerate(places):
        files.write_image(dataset, i, out / place, symlink)
    (out / CLASSES).write_text("".join(f"{name}\n" for name in dataset.classes), encoding="utf-8")
    return Counter()


def _places(dataset: Dataset, whole: bool) -> list[Path]:
    """The path of each image, SPLIT/CLASS/NAME, such that each class folder directly contains images."""
    labels = dataset.columns.image_labels
    assert labels is not None, "a dataset of image labels has this column"
    folders: dict[Path, dict[int, str]] = {}
    for i, name in enumerate(files.image_names(dataset)):
        label = dataset.classes[int(labels[i])]
        # the name may begin with the class folder that the image was read from
        folders.setdefault(Path("" if whole else dataset.split_of(i), label), {})[i] = name.removeprefix(f"{label}/")
    places: dict[int, Path] = {}
    for folder, names in folders.items():
        above = files.common_folder([*names.values()])
        shorter = {i: name.removeprefix(f"{above}/") for i, name in names.items()}
        if all("/" in name for name in shorter.values()):
            shorter = {i: name.replace("/", "_") for i, name in shorter.items()}
        places |= {i: folder / name for i, name in shorter.items()}
    return [places[i] for i in range(len(dataset))]

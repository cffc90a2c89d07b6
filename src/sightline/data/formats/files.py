"""Functions shared by the readers and writers of all formats: split names, finding images, writing images."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats.listing import contents, find_folder
from sightline.data.images import image_size, is_image, to_pil
from sightline.data.malformed import UnknownClass
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Classes, Size
from sightline.words import listed

_SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
    "all": ("default",),
}
_USUAL = {alias: name for name, aliases in _SPLIT_NAMES.items() for alias in aliases}
ORDER = ("train", "val", "test")
_OF_LAYOUTS = frozenset(["images", "jpegimages", "imgs", "annotations", "labels", "xmls", "json", "jsons", "masks"])
"""Folder names, in lower case, that have a meaning in dataset layouts."""


def split_name(raw: str) -> str:
    """The usual name of a split: "valid" → "val", "train2017" → "train"; other names are unchanged."""
    plain = re.sub(r"[\W_]*\d{4}$", "", raw)
    return _USUAL.get(plain.lower(), _USUAL.get(raw.lower(), raw))


def split_in(stem: str) -> str | None:
    """The split contained in a file name ("bees_train_v2" → "train"), or None."""
    for word in re.split(r"[^a-z]+", stem.lower()):
        if word in _USUAL:
            return _USUAL[word]
    return None


def aliases(raw: str) -> list[str]:
    """Possible folder names for the images of split `raw`, `raw` first."""
    plain = re.sub(r"[\W_]*\d{4}$", "", raw)
    return list(dict.fromkeys([raw, plain, split_name(raw), *_SPLIT_NAMES.get(split_name(raw), ())]))


def in_order(names: Iterable[str]) -> list[str]:
    """Splits in the order train, val, test, then the others in their original order."""
    names = list(names)
    return [name for name in ORDER if name in names] + [name for name in names if name not in ORDER]


def resolve(root: Path, given: str | os.PathLike[str]) -> Path:
    """The path of a split given by the user: relative to the working directory, or to the root."""
    path = Path(given)
    for candidate in (root / path, path):
        if candidate.exists():
            return candidate
    raise InputError(f"there is no {path} in {root}; correct the path of the split")


def home_of(root: Path) -> Path:
    """The dataset's folder; `root` may also be its only label file."""
    return root.parent if root.is_file() else root


def naming_root(root: Path, images: Path | None) -> Path:
    """The folder that names are relative to: the dataset's, or its nearest parent that also contains the images."""
    if images is None:
        return root
    common = Path(os.path.commonpath([os.path.abspath(root), os.path.abspath(images)]))
    return root if common == Path(common.anchor) else common


def relative(path: Path, root: Path) -> str:
    """`path` relative to `root`, with / as separator; absolute if it is outside `root`."""
    absolute, base = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    return (absolute.relative_to(base) if absolute.is_relative_to(base) else absolute).as_posix()


def folder_name(folder: Path, root: Path) -> str:
    """Like `relative`, but "" for the root itself."""
    name = relative(folder, root)
    return "" if name == "." else name


def joined(folder: str, name: str) -> str:
    """`name` in `folder`, which may be ""."""
    return f"{folder}/{name}" if folder else name


def is_usual_split(path: Path) -> bool:
    """Whether the path is a folder with a usual name for train, val or test."""
    return split_name(path.name) in ORDER and path.is_dir()


def files_below(folder: Path) -> list[str]:
    """Paths of all files below `folder`, relative to it, with /, sorted; hidden files are left out."""
    found = []
    for at, folders, names in reading.walk(folder):
        folders[:] = sorted(name for name in folders if not reading.is_hidden(name))
        base = Path(at).relative_to(folder).as_posix()
        found += [name if base == "." else f"{base}/{name}" for name in names if not reading.is_hidden(name)]
    return sorted(found)


def split_folders(home: Path) -> dict[str, Path]:
    """Folders with usual names for train, val and test, by split name.

    If two folders stand for one split (val and valid), the second keeps its name, so that no image is lost.
    """
    found: dict[str, Path] = {}
    for folder in folders_of_splits(home):
        name = split_name(folder.name)
        found[folder.name if name in found else name] = folder
    return {name: found[name] for name in in_order(found)}


def inner_splits(names: Iterable[str]) -> dict[str, str]:
    """The folder of each split, in order, if all names are in folders named like splits; else empty."""
    folders = dict.fromkeys(name.partition("/")[0] if "/" in name else "" for name in names)
    found = {split_name(folder): folder for folder in folders}
    if len(found) < len(folders) or not found.keys() <= set(ORDER):
        return {}
    return {split: found[split] for split in in_order(found)}


def folders_like_splits(names: Iterable[str]) -> list[str]:
    """The names of folders, at any depth, that are usual for splits."""
    folders = {name.rpartition("/")[0] for name in names}
    return sorted({word for folder in folders for word in folder.split("/") if split_name(word) in ORDER})


def with_ending(folder: Path, ending: str) -> list[Path]:
    """The files in a folder with this suffix, case-insensitive; sorted, without hidden files."""
    return [folder / name for name in contents(folder).files if name.lower().endswith(ending)]


def folders_of_splits(home: Path) -> list[Path]:
    """The folders with usual names for train, val and test, sorted."""
    return [home / name for name in contents(home).folders if split_name(name) in ORDER]


def first_folder(home: Path, names: Iterable[str]) -> Path | None:
    """The first of several folders that exists, case-insensitive."""
    return next((found for name in names if (found := find_folder(home, name)) is not None), None)


def beside_splits(base: Path, splits: Iterable[Path], root: Path) -> list[str]:
    """Images next to the split folders that belong to no split, in words: one entry per folder, and loose images."""
    inside = [f"{relative(folder, root)}/" for folder in splits]
    every = (relative(base / name, root) for name in images_below(base))
    return unlisted(base, (name for name in every if name.startswith(tuple(inside))), root)


def sets_apart(name: str) -> bool:
    """Whether an image is in a folder that readers would interpret as a split or as part of a layout."""
    first = name.split("/")[0].lower() if "/" in name else ""
    return split_name(first) in ORDER or of_layout(first)


def of_layout(folder: str) -> bool:
    """Whether a folder name has a meaning in dataset layouts."""
    return folder.lower() in _OF_LAYOUTS


def unlisted_beside(root: Path, columns: Columns, base: Path) -> list[str]:
    """Like `unlisted`, for the common folder of the dataset's images; nothing if the user named one file.

    Args:
        root: the dataset's folder, or one file.
        columns: columns of the dataset; names are relative to `base`.
        base: the folder that names and the result are relative to.
    """
    if root.is_file():
        return []
    names = columns.names.texts()
    return unlisted(base / common_folder([name for name in names if (base / name).is_file()]), names, base)


def common_folder(paths: Sequence[str]) -> str:
    """The deepest folder, relative as the paths are, that contains all paths; "" if there is none."""
    parents = [path.rsplit("/", 1)[0].split("/") if "/" in path else [] for path in paths]
    if not parents:
        return ""
    least, most = min(parents), max(parents)
    same = next((k for k, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), min(len(least), len(most)))
    return "/".join(least[:same])


def unlisted(top: Path, names: Iterable[str], base: Path) -> list[str]:
    """Images below a folder that are not in the dataset, in words: one entry per subfolder, and loose images.

    Args:
        top: the folder.
        names: names of the dataset's images, relative to `base`.
        base: the folder that names and the result are relative to.
    """
    known = set(names)
    found: Counter[str] = Counter()
    for name in images_below(top):
        if relative(top / name, base) not in known:
            found[name.split("/")[0] if "/" in name else ""] += 1
    return [
        f"{relative(top / first, base)}: {count} image{'s' if count > 1 else ''} in no split"
        for first, count in found.items()
    ]


def images_below(folder: Path) -> list[str]:
    """Like `files_below`, but only images."""
    return [name for name in files_below(folder) if is_image(name)]


def without_suffix(name: str) -> str:
    """A file's path without the suffix."""
    return os.path.splitext(name)[0]


def read_text(path: Path) -> str:
    """The text of a label file; see `sightline.runtime.reading.decode` for encodings."""
    return reading.read_text(path)


def class_names(names: Iterable[str], path: Path) -> Classes:
    """Create classes from names read from a file; errors name the file."""
    try:
        return Classes(names)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def unknown_class(where: str, what: str, classes: Sequence[str]) -> InputError:
    """The error for a label whose class is unknown."""
    known = listed(classes, 20)
    return UnknownClass(f"{where} has {what}, which is not among the classes ({known or 'none'}); correct it or add it")


def none_found(root: Path, orphans: Sequence[str], looked: str) -> InputError:
    """The error for a dataset none of whose images exists."""
    if not orphans:
        return InputError(f"{root} contains no images (looked {looked}); give another folder")
    return InputError(
        f"{root} contains {len(orphans)} labels but none of their images: {orphans[0]} has none (looked {looked}); "
        "put the images there, or name their folder (images=…)"
    )


def header_size(path: Path) -> Size:
    """Like `image_size`, but (0, 0) for an unreadable file, which is reported by `check` and when it is opened."""
    try:
        return image_size(path)
    except InputError:
        return 0, 0


# Writing


def number(value: float) -> str:
    """A coordinate as text: an integer if possible, else rounded to 1e-6."""
    if not np.isfinite(value):
        return str(value)
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def image_names(dataset: Dataset) -> list[str]:
    """The file name for each image when written: unique within its split, and inside the folder."""
    names = []
    for i in range(len(dataset)):
        name = dataset.image_name(i)
        if Path(name).is_absolute() or ".." in Path(name).parts:
            name = Path(name).name
        if dataset.source.images is not None and not name.lower().endswith((".png", ".npy")):
            name = without_suffix(name) + ".png"
        if name.lower().endswith(".png") and dataset.source.images is not None:
            tensor = dataset.image(i)
            if tensor.is_floating_point() or tensor.shape[0] not in (1, 3, 4):  # not representable as PNG
                name = without_suffix(name) + ".npy"
        names.append(name)
    return names


def require_distinct(names: Sequence[str], keys: Sequence[object], what: str) -> None:
    """Raise an error if the labels of two images would be written to the same file."""
    first: dict[object, str] = {}
    for name, key in zip(names, keys, strict=True):
        if key in first:
            raise InputError(f"images {first[key]} and {name} would share {what}; rename one of them")
        first[key] = name


def splits_lost(dataset: Dataset) -> Counter[str]:
    """What is lost in layouts that have a folder for train, val and test, and no other splits."""
    others = [split for split in dataset.splits if split not in ORDER and dataset.splits != ("all",)]
    return +Counter({"names of splits that are not train, val or test": len(others)})


def write_image(dataset: Dataset, i: int, path: Path, symlink: bool) -> None:
    """Copy image `i` or link to it; save it if it is in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = dataset.path(i)
    if source is None:
        _save(dataset.image(i), path)
    elif not source.is_file():
        raise InputError(f"the image {source} does not exist; add it, or remove its label")
    elif symlink:
        path.symlink_to(os.path.abspath(source))
    else:
        shutil.copyfile(source, path)


def _save(image: Tensor, path: Path) -> None:
    if path.suffix.lower() == ".npy":
        np.save(path, image.cpu().numpy())
    else:
        to_pil(image).save(path)

"""Class maps: for each image, an image of the same size whose pixels encode the class.

These layouts are recognised:

- images/ and masks/ (or labels, annotations, SegmentationClass, … see `MASKS`) with files whose names are equal except
  for the suffix, and for an addition such as _mask, -label, _gt; with one folder per split in both, or SPLIT/images and
  SPLIT/masks;
- one folder per split beside one for its masks: train/ and trainannot/, train_labels/, train_masks/, …;
- JPEGImages/ and SegmentationClass/ (Pascal VOC), whose lists in ImageSets/Segmentation are splits; or VOC's years
  (VOC2007/, VOC2012/) that contain these, as in VOCdevkit/;
- SPLIT/NAME.jpg with SPLIT/NAME_mask.png and SPLIT/_classes.csv (Roboflow);
- 701_StillsRaw_full/ and LabeledApproved_full/ (CamVid);
- a text file that lists an image and its mask in each line, relative to its folder; or only images, whose masks are
  found as above.

A mask is a grey or palette image with 8 or 16 bits whose values are class ids from 0 on, or an RGB image whose colours
are listed (a palette image is read by its colours, too, if they are listed). 255 marks ignored pixels, with more than
255 classes 65535, and -1 in any file type that can store it. Classes are in classes.txt or labels.txt (one name per
line, value and name, or name r g b), class_dict.csv (columns name, r, g, b, or a colour in one column, and the value if
it is not the row number), labelmap.txt (name:r,g,b::), label_colors.txt (r g b name), or classes.json ({"names": […],
"colors": […], "ignore_index": 255}), in the folder or beside the masks. Without such a file, classes are named after
their ids. If all masks contain only 0 and 255 and nothing says that 255 is ignored, the classes are background and
foreground, or background and the only class that is named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from sightline.data.blob import Blob
from sightline.data.builder import Builder
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.listing import find_folder
from sightline.data.formats.semantic_classes import ClassTable, find_table
from sightline.data.formats.semantic_write import write
from sightline.data.formats.voc_devkit import read_years, years
from sightline.data.formats.voc_lists import colour, names_in
from sightline.data.images import is_image, read_map
from sightline.data.map_values import MapValues
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.structures import BACKGROUND, IGNORE

__all__ = ["LOOKED_FOR", "MASKS", "WRITES", "read", "recognise", "write"]

LOOKED_FOR = "semantic: masks/*.png (or labels/, annotations/, …) with images/"
WRITES = ("instances", "class_map")
IMAGES = ("images", "imgs", "image", "JPEGImages", "Images", "img", "img_dir", "701_StillsRaw_full")
MASKS: tuple[str, ...] = (
    "masks",
    "mask",
    "labels",
    "annotations",
    "class_maps",
    "semantic",
    "segmentation",
    "gt",
    "ground_truth",
)
MASKS += ("Masks", "Labels", "label", "SegmentationClass", "ann_dir", "LabeledApproved_full")
"""Usual names of mask folders."""
_ADDED = re.compile(
    r"(?:[_\-. ]|(?<=\d))(mask|masks|label|labels|labelids|labeltrainids|gt|seg|segmentation|annotation|l)$", re.I
)
_VOC: tuple[str, ...] = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
)
_VOC += ("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
_VOC_BORDER = (224, 224, 192)
"""The colour of 255 in VOC's palette: the border of objects, which is ignored."""
_MIXED = "_classes.csv"
_BESIDE: tuple[str, ...] = ("annot", "_annot", "_masks", "_mask", "_labels", "_label", "_gt")
"""Suffixes of a split folder's name that give the name of its mask folder."""
_Ignore = int | Literal["usual"] | None
_WIDE = 65535
_Pair = tuple[Path, Path | None, str]
"""An image, its mask, its split."""


def recognise(root: Path) -> str | None:
    """A description of the class maps found in a folder or a list; None if there are none."""
    if root.is_file():
        return root.name if root.suffix == ".txt" and _lists_pairs(root) else None
    for home in (root, *years(root), *files.folders_of_splits(root)):
        for images, masks in _folders(home):
            name = next((n for n in files.files_below(masks) if is_image(n)), None)
            if name is not None and images != masks:
                return masks.relative_to(root).as_posix()
    for _, masks in _splits_beside(root):
        if any(is_image(name) for name in files.files_below(masks)):
            return masks.name
    mixed = _mixed(root)
    return files.relative(mixed[0] / _MIXED, root) if mixed else None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
    ignore: _Ignore = "usual",
) -> Dataset:
    """Read a dataset of class maps. Arguments and errors are those of `sightline.open_dataset`.

    A split is given by its folder of images, or by a list. `ignore` is the value of ignored pixels, unless the file of
    classes defines one; None if no pixel is ignored.
    """
    given, root = root, root.absolute()
    if found := [year for year in years(root) if (year / "SegmentationClass").is_dir()]:
        return read_years(root, found, splits or images, lambda year: read(year, None, classes, None, ignore))
    home = root if root.is_dir() else root.parent
    orphans: list[str] = []
    if splits:
        chosen = {name: files.resolve(home, path).absolute() for name, path in splits.items()}
        pairs = [pair for name, path in chosen.items() for pair in _of_split(home, path, name, images, orphans)]
    elif root.is_file():
        pairs = _listed_pairs(root, "all", images)
    else:
        pairs = _all_pairs(home, images, orphans)
    if not pairs:
        raise files.none_found(given, orphans, "in images/ and JPEGImages/")
    return _dataset(home, pairs, classes, ignore, orphans, images)


def _dataset(
    home: Path,
    pairs: Sequence[_Pair],
    classes: Sequence[str] | None,
    ignore: _Ignore,
    orphans: Sequence[str],
    images: Path | None,
) -> Dataset:
    base = files.naming_root(home, images)
    masks = [mask for _, mask, _ in pairs if mask is not None]
    beside = [folder for mask in masks[:1] for folder in (mask.parent, mask.parent.parent) if folder != home]
    table = find_table(home, *beside) or _voc_table(masks)
    if table is not None and table.colours and masks and masks[0].parent.name == "SegmentationClass":
        table = replace(table, colours={_VOC_BORDER: IGNORE, **table.colours})
    names, values = _values(masks, table, classes, ignore)
    split_names = files.in_order(dict.fromkeys(split for _, _, split in pairs))
    builder = Builder()
    by_split: dict[str, list[str]] = {name: [] for name in split_names}
    maps: list[str] = []
    for split in split_names:
        for image, mask, own in pairs:
            if own == split:
                name = files.relative(image, base)
                maps.append("" if mask is None else files.relative(mask, base))
                by_split[split].append(name)
                builder.add_image(name, files.header_size(image), split_names.index(split), maps[-1])
    source = Source(
        columns=builder.build(maps=Blob.of(maps)),
        classes=files.class_names(names, home),
        kind="class_map",
        root=base,
        format="semantic",
        split_names=tuple(split_names),
        folders=tuple(files.common_folder(by_split[split]) for split in split_names),
        orphans=tuple(orphans),
        map_values=values,
        ignore=values.ignore,
        notes=() if table is not None or classes is not None else _unnamed(names),
    )
    return Dataset(source)


def _unnamed(names: Sequence[str]) -> tuple[str, ...]:
    """A note on classes that are named after their ids; empty for background and foreground."""
    if names[0] == BACKGROUND:
        return ()
    called = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    return (
        f"no file names the classes of the masks, so they are called {called}; a classes.txt names them, one per line",
    )


def _values(
    masks: Sequence[Path], table: ClassTable | None, classes: Sequence[str] | None, ignore: _Ignore
) -> tuple[tuple[str, ...], MapValues]:
    """The class names, and the meaning of the masks' values."""
    if table is not None and table.ignore is not None:
        ignore = table.ignore
    listed = table.names if table is not None else None
    given = classes or listed
    few = len(listed or given or "ab") <= 2 and not (table is not None and (table.colours or table.values))
    if ignore == "usual" and few and _black_and_white(masks):
        names, own = (_with_background(n or (BACKGROUND, "foreground")) for n in (given, listed or given))
        _require_known(own, names)
        return names, MapValues(None, {0: names.index(own[0]), 255: names.index(own[1])})
    if not given:
        inexact = next((path for path in masks if path.suffix.lower() in (".jpg", ".jpeg")), None)
        if inexact is not None:
            raise InputError(f"the mask {inexact} is a JPEG, whose values are not exact; save masks as PNG")
        found = {value for path in masks for value in _values_of(path)}
        if ignore == "usual":
            ignore = _WIDE if max(found - {_WIDE}, default=0) > 255 else 255
        found -= {IGNORE, ignore}
        if not found:
            raise InputError("no mask contains a class; name the classes in a file classes.txt beside the masks")
        return tuple(f"class {k}" for k in range(max(found) + 1)), MapValues(ignore)
    if ignore == "usual":
        ignore = _WIDE if len(given) > 255 else 255
    if classes is None or listed is None:
        table = table or ClassTable(())
        return tuple(classes or listed or ()), MapValues(ignore, table.values, table.colours)
    # the user's order: ids of the file are mapped to those of the given names
    _require_known(listed, classes)
    places = [classes.index(name) for name in listed]
    table = table or ClassTable(())
    colours = {c: IGNORE if k == IGNORE else places[k] for c, k in table.colours.items()}
    numbers = {v: places[k] for v, k in table.values.items()} or dict(enumerate(places))
    return tuple(classes), MapValues(ignore, numbers, colours)


def _with_background(names: Sequence[str]) -> tuple[str, ...]:
    return (BACKGROUND, *names) if len(names) == 1 else tuple(names)


def _require_known(names: Sequence[str], classes: Sequence[str]) -> None:
    unknown = next((name for name in names if name not in classes), None)
    if unknown is not None:
        raise files.unknown_class("a mask's class", f"class {unknown!r}", list(classes))


def _black_and_white(masks: Sequence[Path]) -> bool:
    """Whether masks contain only 0 and 255, and both occur."""
    found: set[int] = set()
    for path in masks:
        found |= set(_values_of(path))
        if not found <= {0, 255}:
            return False
    return 255 in found


def _values_of(path: Path) -> list[int]:
    try:
        values: list[int] = np.unique(read_map(path).numpy()).tolist()
    except InputError as error:
        if "but a class map has one whole number" not in str(error):
            return []  # damaged: `check` and reading the mask report it
        raise InputError(
            f"{path} is a colour image, and no file lists the classes of its colours; add a classes.txt with one "
            "line 'name r g b' per class"
        ) from None
    return values


def _voc_table(masks: Sequence[Path]) -> ClassTable | None:
    if not masks or masks[0].parent.name != "SegmentationClass":
        return None
    colours = {colour(k): k for k in range(len(_VOC))}
    return ClassTable(_VOC, {**colours, _VOC_BORDER: IGNORE}, 255)


def _folders(home: Path, images: Path | None = None) -> Iterable[tuple[Path, Path]]:
    """Image folders with their mask folders."""
    image_folders = (
        [images] if images is not None else [f for name in IMAGES if (f := find_folder(home, name)) is not None]
    )
    masks = dict.fromkeys(f for name in MASKS if (f := find_folder(home, name)) is not None)
    return [(a, b) for a in image_folders[:1] for b in masks]


def _splits_beside(home: Path) -> list[tuple[Path, Path]]:
    """Split folders with the mask folders beside them."""
    splits = files.folders_of_splits(home)
    beside = [(path, path.with_name(path.name + added)) for path in splits for added in _BESIDE]
    return [(images, masks) for images, masks in beside if masks.is_dir()]


def _mixed(home: Path) -> list[Path]:
    """Folders with images and masks side by side, and a list of classes (Roboflow)."""
    splits = files.folders_of_splits(home)
    folders = [home, *splits]
    return [folder for folder in folders if (folder / _MIXED).is_file() and any(folder.glob("*_mask.png"))]


def _side_by_side(folder: Path, split: str, home: Path, orphans: list[str]) -> list[_Pair]:
    names = files.images_below(folder)
    masks = {files.without_suffix(name).removesuffix("_mask"): name for name in names if name.endswith("_mask.png")}
    stems = {name: files.without_suffix(name) for name in names if name not in masks.values()}
    orphans += [files.relative(folder / name, home) for stem, name in masks.items() if stem not in stems.values()]
    return [(folder / name, folder / masks[stem] if stem in masks else None, split) for name, stem in stems.items()]


def _all_pairs(home: Path, images: Path | None, orphans: list[str]) -> list[_Pair]:
    for image_folder, masks in _folders(home, images):
        if any(is_image(name) for name in files.files_below(masks)):
            lists = sorted((home / "ImageSets" / "Segmentation").glob("*.txt"))
            return _by_lists(image_folder, masks, lists) if lists else _paired(image_folder, masks, None, home, orphans)
    found = []
    for folder in files.folders_of_splits(home):
        for image_folder, masks in _folders(folder):
            found += _paired(image_folder, masks, files.split_name(folder.name), home, orphans)
            break
    if not found and images is None:
        for image_folder, masks in _splits_beside(home):
            found += _paired(image_folder, masks, files.split_name(image_folder.name), home, orphans)
        for folder in _mixed(home) if not found else []:
            found += _side_by_side(folder, "all" if folder == home else files.split_name(folder.name), home, orphans)
    return found


def _paired(images: Path, masks: Path, split: str | None, home: Path, orphans: list[str]) -> list[_Pair]:
    """Images with the masks of the same name; the split is the first folder below `images`, if it is a usual one."""
    by_stem = _by_stem(masks, {files.without_suffix(name) for name in files.images_below(images)})
    used: set[Path] = set()
    pairs: list[_Pair] = []
    for name in files.images_below(images):
        mask = _mask_of(files.without_suffix(name), by_stem)
        used |= {mask} if mask is not None else set()
        first = files.split_name(name.split("/")[0]) if "/" in name else "all"
        pairs.append((images / name, mask, split or (first if first in files.ORDER else "all")))
    orphans += [files.relative(path, home) for path in by_stem.values() if path not in used]
    return pairs


def _by_lists(images: Path, masks: Path, lists: Sequence[Path]) -> list[_Pair]:
    by_stem, known = _by_stem(masks), {files.without_suffix(name): name for name in files.images_below(images)}
    listed = {files.split_name(file.stem): names_in(file, known) for file in lists}
    if {"train", "val"} <= listed.keys():
        listed.pop("trainval", None)
    return [
        (images / known.get(name, f"{name}.jpg"), _mask_of(name, by_stem), split)
        for split, names in listed.items()
        for name in names
    ]


def _by_stem(masks: Path, images: Collection[str] = ()) -> dict[str, Path]:
    """Masks by name without suffix, and by that name without an addition, unless an image has that name."""
    found = {files.without_suffix(name): masks / name for name in files.images_below(masks)}
    return {_ADDED.sub("", stem): path for stem, path in found.items() if stem not in images} | found


def _mask_of(stem: str, by_stem: Mapping[str, Path]) -> Path | None:
    for known in (stem, re.sub(r"[_\-](image|img|sat|leftImg8bit)$", "", stem)):
        if known in by_stem:
            return by_stem[known]
    return None


def _lists_pairs(file: Path) -> bool:
    lines = [line.split() for line in files.read_text(file).splitlines()[:3] if line.strip()]
    return bool(lines) and all(len(words) == 2 and all(map(is_image, words)) for words in lines)


def _of_split(home: Path, path: Path, split: str, images: Path | None, orphans: list[str]) -> list[_Pair]:
    if path.is_file():
        return _listed_pairs(path, split, images)
    for image_folder, masks in _folders(path):
        return _paired(image_folder, masks, split, home, orphans)
    return [(i, m, split) for i, m, _ in _all_pairs(home, images, []) if i.is_relative_to(path)]


def _listed_pairs(file: Path, split: str, images: Path | None) -> list[_Pair]:
    pairs: list[_Pair] = []
    by_folder: dict[Path, dict[str, Path]] = {}
    for number, line in enumerate(files.read_text(file).splitlines(), 1):
        words = [word for word in re.split(r"[\s,;]+", line.strip()) if word]
        if not words or line.startswith("#"):
            continue
        if len(words) > 2 or not is_image(words[0]):
            raise InputError(f"{file}, line {number}: {line[:60]!r} is not an image and its mask; correct it")
        places = [_place(word, file.parent, images if k == 0 else None) for k, word in enumerate(words)]
        pairs.append((places[0], places[1] if len(places) == 2 else _mask_beside(places[0], by_folder), split))
    return pairs


def _place(word: str, folder: Path, images: Path | None) -> Path:
    for base in (images, folder, folder.parent):
        if base is not None and (base / word).is_file():
            return base / word
    return folder / word


def _mask_beside(image: Path, by_folder: dict[Path, dict[str, Path]]) -> Path | None:
    """The mask of an image with an image folder in its path: the same path below a mask folder.

    Args:
        image: the image file.
        by_folder: cache of the masks in each folder, by name.
    """
    for k, part in enumerate(image.parts):
        if part in IMAGES:
            home, rest = Path(*image.parts[:k]), Path(*image.parts[k + 1 :])
            for masks in (home / name for name in MASKS if (home / name).is_dir()):
                if masks not in by_folder:
                    by_folder[masks] = _by_stem(masks)
                found = _mask_of(files.without_suffix(rest.as_posix()), by_folder[masks])
                if found is not None:
                    return found
    return None

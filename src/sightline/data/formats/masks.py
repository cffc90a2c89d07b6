"""Instance masks as images.

These layouts are recognised (SPLIT folders may be missing):

- instance_ids/SPLIT/NAME.png with images/SPLIT/NAME.*: grey PNG (16-bit for many objects) whose values are the object
  ids in the image, with 0 for the background; class_ids/SPLIT/NAME.png contains the classes of the same pixels, from 1
  on, in the order of classes.txt. With a single class it may be missing;
- SegmentationObject/NAME.png with SegmentationClass/NAME.png and JPEGImages/ (Pascal VOC): palette indices, or
  colours; 255 (VOC's ignored border) is not an object. labelmap.txt gives the class names by colour; the default is
  VOC's twenty classes. The class of an object is that of most of its pixels. A list in ImageSets/Segmentation is a
  split. If Annotations/ exists, too, the folder is read as VOC, whose boxes and masks need not be the same objects;
  give format="masks" to read the masks;
- NAME/images/*.png with NAME/masks/*.png: one folder per image, one image per object (inside is not 0), one class.

Masks are stored as RLE, so all maps are read when the dataset is opened; boxes are the bounding boxes of the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats import masks_voc as voc
from sightline.data.formats.gather import Gather, only_class
from sightline.data.formats.listing import folders_in
from sightline.data.formats.masks_write import CLASS_IDS, IDS, write
from sightline.data.formats.voc_devkit import read_years, years
from sightline.data.formats.voc_lists import names_in, read_list
from sightline.data.images import is_image, read_map
from sightline.data.map_values import MapValues
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.structures import BACKGROUND, Classes

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "masks: instance_ids/*.png or SegmentationObject/*.png, or */masks/*.png, with images"


class _Mask(NamedTuple):
    """An object's pixels, its bounding box, and its number of pixels."""

    rle: dict[str, Any]
    box: tuple[float, float, float, float]
    area: float


@dataclass
class _Entry:
    """One image: its file and the files of its masks."""

    image: Path
    split: str
    ids: Path | None = None
    classes: Path | None = None
    single: tuple[Path, ...] = ()


def recognise(root: Path) -> str | None:
    """A description of the mask folders found; None if there are none."""
    if not root.is_dir():
        return None
    for name in (IDS, voc.OBJECTS):
        if (root / name).is_dir():
            return name
    for folder in folders_in(root)[:20]:
        if files.is_usual_split(folder):
            continue  # class maps with one folder per split
        if (folder / "masks").is_dir() and len(_image_names(folder)) == 1:  # with several, masks/ holds class maps
            return f"{folder.name}/masks"
    return None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a dataset of masks. Arguments and errors are those of `sightline.open_dataset`.

    A split is given by its folder of images, or by a list of image names.
    """
    root = root.absolute()
    if found := [year for year in years(root) if (year / voc.OBJECTS).is_dir()]:
        return read_years(root, found, splits or images, lambda year: read(year, None, classes))
    images = None if images is None else images.absolute()
    as_voc = not (root / IDS).is_dir() and (root / voc.OBJECTS).is_dir()
    orphans: list[str] = []
    if as_voc:
        entries = _voc_entries(root, images, orphans, by_lists=not splits)
    elif (root / IDS).is_dir():
        entries = _id_entries(root, images, orphans)
    else:
        entries = _single_entries(root)
    if splits:
        given = {name: files.resolve(root, path).absolute() for name, path in splits.items()}
        entries = [replace(e, split=name) for name, path in given.items() for e in _chosen(entries, path, orphans)]
    if not entries:
        raise files.none_found(root, orphans, "in images/ and JPEGImages/")
    base = files.naming_root(root, images)
    values: MapValues | None = None
    if as_voc:
        names, values = voc.class_values(root)
    else:
        names = read_list(root / "classes.txt") if (root / "classes.txt").is_file() else []
    gather = Gather(classes, names or [only_class(root, classes)])
    split_names = files.in_order(dict.fromkeys(entry.split for entry in entries))
    only = next(iter(gather.ids))
    by_split: dict[str, list[str]] = {name: [] for name in split_names}
    for split in split_names:
        for entry in (e for e in entries if e.split == split):
            name = files.relative(entry.image, base)
            by_split[split].append(name)
            label = entry.ids or (entry.single[0] if entry.single else None)
            gather.image(
                name,
                files.header_size(entry.image),
                split_names.index(split),
                files.relative(label, base) if label else "",
            )
            for id, class_id, mask in _objects(entry, names, values):
                where = f"{label}: object {id}"
                if class_id is not None and not 0 < class_id <= len(names):
                    raise files.unknown_class(
                        where, f"class id {class_id}", [f"{k} {n}" for k, n in enumerate(names, 1)]
                    )
                gather.object(where, only if class_id is None else names[class_id - 1], **mask._asdict())
    columns, known = gather.finish()
    source = Source(
        columns=columns,
        classes=known,
        root=base,
        format="masks",
        split_names=tuple(split_names),
        folders=tuple(files.common_folder(by_split[split]) for split in split_names),
        orphans=tuple(orphans),
    )
    return Dataset(source)


def _id_entries(root: Path, images: Path | None, orphans: list[str]) -> list[_Entry]:
    home = images or next((root / n for n in ("images", "JPEGImages", "Images") if (root / n).is_dir()), root)
    by_stem = {files.without_suffix(name): name for name in files.files_below(root / IDS) if is_image(name)}
    entries = []
    for name in files.images_below(home):
        if home == root and name.split("/")[0] in (IDS, CLASS_IDS):
            continue
        stem = files.without_suffix(name)
        ids = by_stem.pop(stem, None)
        classes = root / CLASS_IDS / ids if ids is not None else None
        split = files.split_name(name.split("/")[0]) if "/" in name else "all"
        split = split if split in files.ORDER else "all"
        kept = classes if classes is not None and classes.is_file() else None
        entries.append(_Entry(home / name, split, None if ids is None else root / IDS / ids, kept))
    orphans += [f"{IDS}/{name}" for name in by_stem.values()]
    return entries


def _voc_entries(root: Path, images: Path | None, orphans: list[str], by_lists: bool) -> list[_Entry]:
    home = images or next((root / n for n in ("JPEGImages", "images", "Images") if (root / n).is_dir()), root)
    by_stem = {files.without_suffix(name): home / name for name in files.images_below(home)}
    ids = {files.without_suffix(name): root / voc.OBJECTS / name for name in files.files_below(root / voc.OBJECTS)}
    lists = sorted((root / "ImageSets" / "Segmentation").glob("*.txt")) if by_lists else []
    listed = {files.split_name(file.stem): names_in(file, by_stem) for file in lists}
    if {"train", "val"} <= listed.keys():
        listed.pop("trainval", None)
    entries = []
    for split, names in (listed or {"all": sorted(ids)}).items():
        for name in names:
            if name not in by_stem:
                orphans.append(f"{voc.OBJECTS}/{name}.png")
                continue
            classes = root / voc.CLASSES / f"{name}.png"
            entries.append(_Entry(by_stem[name], split, ids.get(name), classes if classes.is_file() else None))
    return entries


def _single_entries(root: Path) -> list[_Entry]:
    entries = []
    for folder in sorted(root.iterdir()):
        image_names = _image_names(folder)
        masks = files.images_below(folder / "masks") if (folder / "masks").is_dir() else []
        if len(image_names) > 1 and masks:
            raise InputError(
                f"{folder}/images contains {len(image_names)} images, but with one mask file per object it must "
                "contain one; use one folder per image, or open class maps one folder at a time"
            )
        if image_names:
            single = tuple(folder / "masks" / name for name in masks)
            entries.append(_Entry(folder / "images" / image_names[0], "all", single=single))
    return entries


def _image_names(folder: Path) -> list[str]:
    return files.images_below(folder / "images") if (folder / "images").is_dir() else []


def _chosen(entries: Sequence[_Entry], path: Path, orphans: list[str]) -> list[_Entry]:
    """The entries of a split: those below an image folder, or those in a list of names."""
    if not path.is_file():
        return [e for e in entries if e.image.is_relative_to(path)]
    by_name: dict[str, _Entry] = {}
    for e in entries:  # by the stem alone, and by any trailing part of the path that a list may use
        parts = files.without_suffix(e.image.as_posix()).split("/")
        by_name |= {"/".join(parts[-k:]): e for k in range(1, len(parts) + 1)}
    names = names_in(path, by_name)
    orphans += [f"{path.name}: {name}" for name in names if name not in by_name]
    return [by_name[name] for name in names if name in by_name]


def _objects(entry: _Entry, names: Sequence[str], voc_values: MapValues | None) -> list[tuple[int, int | None, _Mask]]:
    """(id, class id or None, mask) of each object of an image."""
    if entry.single:
        return [(k, None, one) for k, path in enumerate(entry.single, 1) for _, one in mask_rles(_plain(path) != 0)]
    if entry.ids is None:
        return []
    ids = _plain(entry.ids) if voc_values is None else voc.object_ids(entry.ids)
    found = mask_rles(ids)
    if entry.classes is None:
        if found and len(names) > 1:
            where = CLASS_IDS if voc_values is None else voc.CLASSES
            raise InputError(f"{entry.ids} has no matching class map in {where}; add it")
        return [(id, None, mask) for id, mask in found]
    if voc_values is None:
        classes = _plain(entry.classes)
    else:
        classes = voc_values.read(entry.classes, Classes([BACKGROUND, *names]), entry.image.name, (0, 0)).numpy()
    if classes.shape != ids.shape:
        raise InputError(
            f"{entry.classes} has size {list(classes.shape)}, but {entry.ids} has size {list(ids.shape)}; "
            "both must have the size of the image"
        )
    return [(id, class_id, mask) for (id, mask), class_id in zip(found, _most_common(ids, classes), strict=True)]


def _most_common(ids: np.ndarray, classes: np.ndarray) -> list[int]:
    """The most frequent class id among the pixels of each object, by increasing object id; `IGNORE` is skipped."""
    objects = np.unique(ids[ids > 0])
    inside = (ids > 0) & (classes >= 0)
    known, column = np.unique(classes[inside], return_inverse=True)
    if not len(known):
        return [0] * len(objects)
    pairs = np.searchsorted(objects, ids[inside]) * len(known) + column
    counts = np.bincount(pairs, minlength=len(objects) * len(known)).reshape(len(objects), len(known))
    most: list[int] = known[counts.argmax(1)].tolist()
    return most


def _plain(path: Path) -> np.ndarray:
    return read_map(path).numpy()


def mask_rles(ids: np.ndarray) -> list[tuple[int, _Mask]]:
    """Each id above 0 in a map [H, W] with its mask, by increasing id.

    All masks are encoded in one pass over the map's runs in column-major order.
    """
    from hotcoco import mask as coco

    height, width = ids.shape
    flat = ids.astype(np.int64).ravel(order="F")
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    order = order[values[order] > 0]
    firsts = np.flatnonzero(np.diff(values[order], prepend=0))
    found = []
    for mine in np.split(order, firsts)[1:]:
        first, end = starts[mine], ends[mine]
        edges = np.stack([first, end], 1).ravel()
        counts = np.diff(edges, prepend=0, append=flat.size)
        rle = coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
        x1, x2 = int(first[0]) // height, int(end[-1] - 1) // height + 1
        y1, y2 = int((first % height).min()), int(((end - 1) % height).max()) + 1
        if (
            first // height < (end - 1) // height
        ).any():  # a run that continues in the next column touches the bottom and top rows
            y1, y2 = 0, height
        compressed = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
        found.append((int(values[mine[0]]), _Mask(compressed, (x1, y1, x2, y2), float((end - first).sum()))))
    return found

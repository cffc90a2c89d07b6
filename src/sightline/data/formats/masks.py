"""Instance masks as pictures.

Layouts that are recognised (SPLIT folders may be missing):

- instance_ids/SPLIT/NAME.png with images/SPLIT/NAME.*: grey PNG (16-bit where there are many) whose values number the
  objects of the image, 0 being background; beside them class_ids/SPLIT/NAME.png numbers the classes of the same pixels
  from 1 on, in the order of classes.txt. Without class_ids there is one class;
- SegmentationObject/NAME.png with SegmentationClass/NAME.png and JPEGImages/ (Pascal VOC): palette indices, or VOC's
  colours; 255 (the border VOC leaves undecided) is no object. labelmap.txt names the classes by colour, else they are
  VOC's twenty. A list in ImageSets/Segmentation is a split. Where there are Annotations/, too, it is read as VOC, whose
  boxes and masks need not be the same objects: give format="masks" for the masks;
- NAME/images/*.png with NAME/masks/*.png: a folder an image, a picture an object (not 0 is inside), one class.

Masks are kept as RLE, so every map is read when the dataset is opened; boxes are the smallest around the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.gather import Gather, common_folder, only_class
from sightline.data.formats.masks_write import CLASS_IDS, IDS, write
from sightline.data.formats.voc_lists import colour, is_comment, names_in, read_list
from sightline.data.images import is_image, read_map
from sightline.data.source import Source
from sightline.errors import InputError

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "masks: instance_ids/*.png or SegmentationObject/*.png, or */masks/*.png, with images"
_VOC_NAMES: tuple[str, ...] = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow")
_VOC_NAMES += (
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_VOC_IDS, _VOC_CLASS_IDS = "SegmentationObject", "SegmentationClass"


class _Mask(NamedTuple):
    """An object's pixels, the box around them, and how many they are."""

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
    """What of masks is found in a folder, as words; None if nothing is."""
    if not root.is_dir():
        return None
    for name in (IDS, _VOC_IDS):
        if (root / name).is_dir():
            return name
    for folder in sorted(root.iterdir())[:20]:
        if files.is_usual_split(folder):
            continue  # class maps, a folder a split
        if (folder / "masks").is_dir() and (folder / "images").is_dir():
            return f"{folder.name}/masks"
    return None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a dataset of masks; arguments and errors as `sightline.open_dataset`.

    A split is given by its folder of images.
    """
    root = root.absolute()
    images = None if images is None else images.absolute()
    voc = not (root / IDS).is_dir() and (root / _VOC_IDS).is_dir()
    orphans: list[str] = []
    if voc:
        entries = _voc_entries(root, images, orphans)
    elif (root / IDS).is_dir():
        entries = _id_entries(root, images, orphans)
    else:
        entries = _single_entries(root)
    if splits:
        given = {name: files.resolve(root, path).absolute() for name, path in splits.items()}
        chosen = [(name, e) for name, path in given.items() for e in entries if e.image.is_relative_to(path)]
        entries = [_Entry(e.image, name, e.ids, e.classes, e.single) for name, e in chosen]
    if not entries:
        raise files.none_found(root, orphans, "in images/ and JPEGImages/")
    base = files.naming_root(root, images)
    names = _class_names(root, voc)
    gather = Gather(classes, names or [only_class(root, classes)])
    split_names = files.in_order(dict.fromkeys(entry.split for entry in entries))
    only = next(iter(gather.ids))
    palette = _palette(root, names or []) if voc else None
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
            for id, class_id, mask in _objects(entry, palette):
                where = f"{label}: object {id}"
                if class_id is not None and not 0 < class_id <= len(names or []):
                    raise files.unknown_class(
                        where, f"class id {class_id}", [f"{k} {n}" for k, n in enumerate(names or [], 1)]
                    )
                gather.object(where, only if class_id is None else (names or [])[class_id - 1], **mask._asdict())
    columns, known = gather.finish()
    source = Source(
        columns=columns,
        classes=known,
        root=base,
        format="masks",
        split_names=tuple(split_names),
        folders=tuple(common_folder(by_split[split]) for split in split_names),
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


def _voc_entries(root: Path, images: Path | None, orphans: list[str]) -> list[_Entry]:
    home = images or next((root / n for n in ("JPEGImages", "images", "Images") if (root / n).is_dir()), root)
    by_stem = {files.without_suffix(name): home / name for name in files.images_below(home)}
    ids = {files.without_suffix(name): root / _VOC_IDS / name for name in files.files_below(root / _VOC_IDS)}
    lists = sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))
    listed = {files.split_name(file.stem): names_in(file) for file in lists}
    if {"train", "val"} <= listed.keys():
        listed.pop("trainval", None)
    entries = []
    for split, names in (listed or {"all": sorted(ids)}).items():
        for name in names:
            if name not in by_stem:
                orphans.append(f"{_VOC_IDS}/{name}.png")
                continue
            classes = root / _VOC_CLASS_IDS / f"{name}.png"
            entries.append(_Entry(by_stem[name], split, ids.get(name), classes if classes.is_file() else None))
    return entries


def _single_entries(root: Path) -> list[_Entry]:
    entries = []
    for folder in sorted(root.iterdir()):
        pictures = files.images_below(folder / "images") if (folder / "images").is_dir() else []
        masks = files.images_below(folder / "masks") if (folder / "masks").is_dir() else []
        if pictures:
            single = tuple(folder / "masks" / name for name in masks)
            entries.append(_Entry(folder / "images" / pictures[0], "all", single=single))
    return entries


def _class_names(root: Path, voc: bool) -> list[str] | None:
    """The names that the ids of class maps stand for, from 1 on; None where one class is all."""
    if voc:
        return list(_labelmap(root)) or list(_VOC_NAMES)
    file = root / "classes.txt"
    return read_list(file) if file.is_file() else None


def _labelmap(root: Path) -> dict[str, tuple[int, int, int]]:
    """Colours by class name, from labelmap.txt ("name:r,g,b:parts:actions" a line); empty without one."""
    file = root / "labelmap.txt"
    colours: dict[str, tuple[int, int, int]] = {}
    for line in read_list(file) if file.is_file() else []:
        name, *rest = line.rsplit(":", 3)
        if is_comment(line) or name == "background":
            continue
        try:
            red, green, blue = (int(value) for value in "".join(rest[:1]).split(","))
            colours[name] = (red, green, blue)
        except ValueError:
            raise InputError(f"{file}: {line!r} must be name:red,green,blue:parts:actions; correct it") from None
    return colours


def _palette(root: Path, names: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """A function from palette indices or colour numbers to class ids from 1 on."""
    colours = _labelmap(root) or {name: colour(k) for k, name in enumerate(names, 1)}
    by_index = {colour(k): k for k in range(256)}
    places = {by_index.get(rgb, 0): k for k, rgb in enumerate(colours.values(), 1)}

    def to_classes(indices: np.ndarray) -> np.ndarray:
        return np.array([places.get(int(index), -1) for index in indices], np.int64)

    return to_classes


def _objects(entry: _Entry, palette: Callable[[np.ndarray], np.ndarray] | None) -> list[tuple[int, int | None, _Mask]]:
    """(id, class id or None, mask) of each object of an image."""
    if entry.single:
        return [(k, None, one) for k, path in enumerate(entry.single, 1) for _, one in _rles(_plain(path) != 0)]
    if entry.ids is None:
        return []
    voc = palette is not None
    ids = _voc_indices(entry.ids) if voc else _plain(entry.ids)
    if voc:
        ids = np.where(ids == 255, 0, ids)
    found = _rles(ids)
    if entry.classes is None:
        if voc:
            raise InputError(f"{entry.ids} has no map of classes beside it in {_VOC_CLASS_IDS}; add it")
        return [(id, None, mask) for id, mask in found]
    classes = _voc_indices(entry.classes) if voc else _plain(entry.classes)
    if classes.shape != ids.shape:
        raise InputError(
            f"{entry.classes} is of size {list(classes.shape)}, but {entry.ids} of {list(ids.shape)}; "
            "both must have the image's size"
        )
    values, first = np.unique(ids, return_index=True)
    of = dict(zip(values.tolist(), classes.ravel()[first].tolist(), strict=True))
    class_ids = np.array([of[id] for id, _ in found], np.int64)
    class_ids = palette(class_ids) if palette is not None else class_ids
    return [(id, class_id, mask) for (id, mask), class_id in zip(found, class_ids.tolist(), strict=True)]


def _plain(path: Path) -> np.ndarray:
    return read_map(path).numpy()


def _voc_indices(path: Path) -> np.ndarray:
    """Palette indices [H, W] of a VOC map, also where its colours were saved in place of them."""
    from sightline.data.images import read_image

    try:
        return read_map(path).numpy()
    except InputError:
        rgb = read_image(path).numpy().astype(np.int64)
    index = np.zeros(rgb.shape[1:], np.int64)
    for bit in range(8):  # the inverse of `voc_lists.colour`
        for channel in range(3):
            place = 3 * bit + channel
            if place < 8:
                index |= (rgb[channel] >> (7 - bit) & 1) << place
    return index


def _rles(ids: np.ndarray) -> list[tuple[int, _Mask]]:
    """Each id above 0 in a map [H, W] with its mask, by rising id.

    All are encoded in one pass over the map's runs in column-major order.
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
        ).any():  # a run that goes on in the next column has bottom and top row
            y1, y2 = 0, height
        compressed = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
        found.append((int(values[mine[0]]), _Mask(compressed, (x1, y1, x2, y2), float((end - first).sum()))))
    return found

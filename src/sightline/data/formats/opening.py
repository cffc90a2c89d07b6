"""Open a dataset in any of the formats."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from sightline.data.dataset import Dataset
from sightline.data.formats import files, semantic
from sightline.data.formats.archives import is_archive, unpacked
from sightline.data.formats.recognition import dataset_folder, recognised, unpacked_folder
from sightline.data.malformed import collecting, refuse
from sightline.data.shared import repeated_images, shared_images
from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.runtime.reading import unusual_kind
from sightline.structures import Classes

_LOG = logging.getLogger(__name__)
StrPath = str | os.PathLike[str]


@checked_keywords
def open_dataset(
    path: StrPath,
    train: StrPath | None = None,
    val: StrPath | None = None,
    test: StrPath | None = None,
    classes: Classes | Sequence[str] | Mapping[str, str | None] | None = None,
    *,
    images: StrPath | None = None,
    format: str | None = None,
    ignore: int | Literal["usual"] | None = "usual",
    lenient: bool = False,
    full_scale: int | None = None,
) -> Dataset:
    """Open a dataset; its format is recognised from the contents of the folder.

    Splits are found where the format's usual tools put them, and are named "train", "val" and "test" (other splits keep
    their name). If there are none, the dataset has one split, "all", which `dataset.split(0.8, 0.1, 0.1, seed=0)`
    divides. Opening changes nothing: an image without a label is an image without objects, a label without an image is
    listed in `dataset.orphans`, and broken boxes are kept for `sightline check` to report. A label that cannot be
    parsed, or has an unknown class, raises an error unless `lenient` is set.

    Args:
        path: a folder in one of the formats (COCO, Pascal VOC, YOLO with boxes, polygons or keypoints, VIA, LabelMe,
            CVAT XML, images of object masks or class maps), a file that describes one, such as a COCO .json or a YOLO
            data.yaml, or a zip or tar archive of such a folder, which is unpacked beside it
            (`sightline.data.formats.archives`). docs/formats.md and the module of each format describe the layouts.
        train, val, test: the images of a split, if it is not found automatically: a folder, a COCO .json, or a text
            file that lists images. The dataset then has only the splits named here.
        classes: the class names in order; labels of other classes raise an error. Alternatively a dict from old to new
            names, which renames, merges and (with None) removes classes as `Dataset.with_class_mapping` does.
        images: the folder with the images, if they are not beside their labels.
        format: the name of the format, a key of `FORMATS`, for a folder that contains several. Masks next to labels in
            another format are read only if this is set.
        ignore: the value of ignored pixels in class maps, if the file of classes does not name one; by default 255,
            with more than 255 classes 65535. None if no pixel is ignored.
        lenient: skip labels that cannot be parsed or have an unknown class. They are listed in `dataset.malformed`;
            `sightline check` reports them, and --fix removes them from the copy.
        full_scale: the sample value of white in images with more than 8 bits, such as 4095 for a 12-bit camera; by
            default it is found from the images (`Dataset.full_scale`).

    Raises:
        InputError: `path` does not exist, its format is unknown or ambiguous, a file is damaged, or a label cannot be
            parsed or has an unknown class (the message names the first one and the number of others).
    """
    root = _existing(path)
    if format is not None and not isinstance(format, str):
        raise InputError(f"format is {format!r}, but must be a name, such as 'coco'")
    images = None if images is None else Path(images)
    if images is not None and not images.is_dir():
        raise InputError(f"there is no folder {images} for the images; correct its path")
    if is_archive(root):
        root = unpacked_folder(unpacked(root))
    module = recognised(root, format)
    root = dataset_folder(root, module)
    mapping = classes if isinstance(classes, Mapping) else None
    if mapping is not None:
        classes = None
    elif classes is not None:
        classes = [name.strip() for name in Classes(classes)]
        Classes(classes)
    named = {name: Path(p) for name, p in (("train", train), ("val", val), ("test", test)) if p is not None}
    more = {"ignore": ignore} if module is semantic else {}
    with collecting() as found:
        try:
            dataset: Dataset = module.read(root, named or None, classes, images, **more)
        except InputError:
            if found:  # the first problem may be the reason why nothing is left
                raise refuse(found, root) from None
            raise
    if found and not lenient:
        raise refuse(found, root)
    if found:
        dataset = Dataset(replace(dataset.source, malformed=tuple(found)), fields=dataset.fields)
    if dataset.source.split_names == ("all",) and dataset.root is not None:
        dataset = _without_splits(dataset)
    for words in (*shared_images(dataset), *repeated_images(dataset)):
        _LOG.warning("%s: %s", root, words)
    for note in dataset.notes:
        _LOG.warning("%s: %s", root, note.removeprefix(f"{root.name}: "))
    if dataset.source.columns.nbytes > 2**24:
        _give_back_memory()
    given = {"path": path, "train": train, "val": val, "test": test, "images": images}
    again: dict[str, Any] = {name: os.path.abspath(Path(p).expanduser()) for name, p in given.items() if p is not None}
    again |= {} if format is None else {"format": format}
    again |= {} if classes is None else {"classes": list(classes)}
    again |= {} if ignore == "usual" else {"ignore": ignore}
    if full_scale is not None:
        dataset = dataset.with_full_scale(full_scale)
        again["full_scale"] = int(full_scale)
    dataset = dataset.opened_with(again)
    return dataset if mapping is None else dataset.with_class_mapping(mapping)


def _without_splits(dataset: Dataset) -> Dataset:
    """The dataset, with a note if image folders are named like splits although the layout defines no splits."""
    folders = files.folders_like_splits(dataset.source.columns.names.texts())
    if len({files.split_name(folder) for folder in folders}) < 2:
        return dataset
    note = (
        f"images are in folders named {' and '.join(folders)}, but this layout has no splits: all images are in "
        "one split; name the folders to keep them apart (--train, --val, --test)"
    )
    return Dataset(replace(dataset.source, notes=(*dataset.source.notes, note)), fields=dataset.fields)


def _give_back_memory() -> None:
    """Return memory used for reading to the operating system, if the C library supports it."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only glibc has malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


def _existing(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"the path of a dataset is {str(path)[:60]!r}, but must be a string or a Path")
    try:
        root = Path(path).expanduser()
        root.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"there is no {root}; give the path of a dataset's folder") from None
    except (OSError, ValueError, RuntimeError) as error:  # name too long, null byte, home of an unknown user
        raise InputError(f"{str(path)[:60]!r} is not a valid path: {error}; correct it") from None
    special = "" if root.is_dir() else unusual_kind(root)
    if special:
        raise InputError(f"{root} is {special}; give the path of a dataset's folder or file")
    return root

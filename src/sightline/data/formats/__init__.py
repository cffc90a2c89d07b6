"""Formats of annotations: each is recognised by what a folder holds, read into a `Dataset`, and written from one."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from sightline.data.dataset import Dataset
from sightline.data.formats import (
    cityscapes,
    cityscapes_instances,
    coco,
    coco_relations,
    createml,
    csv_boxes,
    csv_labels,
    cvat,
    datumaro,
    files,
    folders,
    huggingface,
    label_studio,
    labelme,
    masks,
    panoptic,
    panoptic_instances,
    semantic,
    supervisely,
    via,
    voc,
    yolo,
    yolo_pose,
    yolo_seg,
)
from sightline.data.formats.archives import is_archive, unpacked
from sightline.data.formats.listed import LABEL_FOLDERS, head_of
from sightline.data.formats.listing import remembering
from sightline.data.formats.refusal import not_recognised
from sightline.data.kinds import KINDS, Kind
from sightline.data.malformed import collecting, refuse
from sightline.data.shared import shared_images
from sightline.data.tables import rows_lost
from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.runtime.reading import unusual_kind
from sightline.structures import Classes
from sightline.words import counted

__all__ = ["FORMATS", "WRITTEN", "Conversion", "convert", "held_by", "open_dataset"]

FORMATS: Mapping[str, ModuleType] = {
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "yolo-seg": yolo_seg,
    "yolo-pose": yolo_pose,
    "via": via,
    "labelme": labelme,
    "cvat": cvat,
    "masks": masks,
    "semantic": semantic,
    "csv": csv_boxes,
    "createml": createml,
    "label-studio": label_studio,
    "supervisely": supervisely,
    "datumaro": datumaro,
    "huggingface": huggingface,
    "cityscapes": cityscapes,
    "cityscapes-instances": cityscapes_instances,
    "panoptic": panoptic,
    "panoptic-instances": panoptic_instances,
    "csv-labels": csv_labels,
    "folders": folders,
}
"""The formats by name, those first that are recognised first."""
WRITTEN: tuple[str, ...] = tuple(name for name, module in FORMATS.items() if hasattr(module, "write"))
"""The formats that are written, too."""
_FIRST = ("coco", "voc", "yolo", "yolo-seg", "yolo-pose", "via", "labelme", "cvat")
_TABLES = ("csv", "panoptic", "huggingface")
"""Formats that are a further form of the same data where they lie beside one of `_FIRST`."""

_OF_LABELS = ("annotations", "labels", "xmls", "jsons", "json")
"""Names of folders that hold labels alone."""
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
    """Open a dataset; its format is recognised from what the folder holds.

    Splits are found where the tool that writes the format puts them, and are named "train", "val", "test" (others keep
    the tool's name). Without any there is one, "all": divide it with `dataset.split(0.8, 0.1, 0.1, seed=0)`. Opening is
    lenient and keeps everything as it is: an image without a label is one without objects, a label without an image is
    remembered in `dataset.orphans`; broken boxes stay for `sightline check` to report. A label that cannot be read at
    all (a line with a word among its numbers) or is of an unknown class is refused, unless `lenient` is set.

    Args:
        path: a folder in one of the formats (COCO, Pascal VOC, YOLO with boxes, polygons or keypoints, VIA, LabelMe,
            CVAT XML, masks of objects or class maps as pictures), or a file that describes one, such as a COCO .json or
            a YOLO data.yaml, or a zip or tar archive of such a folder, which is unpacked beside it
            (`sightline.data.formats.archives`). The layouts are listed in docs/formats.md, and in the module of each
            format.
        train, val, test: what makes up a split, where it is not found by itself: a folder, a COCO .json, or a text file
            that lists images. The dataset then has the splits named here and no others.
        classes: the class names in the order wanted; a label of any other class is refused. Or a dict of new names by
            old ones, which renames, merges and (with None) leaves out classes as `Dataset.with_class_mapping` does.
        images: the folder with the images, where they are not beside their labels.
        format: the format's name, a key of `FORMATS`, for a folder that holds several. Masks beside labels in another
            format are read only when they are named so.
        ignore: the value in class maps of pixels that do not count, where their file of classes names none; usually
            255, with more than 255 classes 65535. None where all count.
        lenient: leave out labels that cannot be read or are of an unknown class, and remember them in
            `dataset.malformed`, for `sightline check` to list and for its --fix to leave out of the copy.
        full_scale: the sample value that stands for white in images of more than 8 bits, such as 4095 for a camera of
            12 bits; by default found from the images (`Dataset.full_scale`).

    Raises:
        InputError: there is nothing at `path`, its format is not known or not clear, a file is damaged, or a label
            cannot be read or is of an unknown class (the sentence names the first one and counts the others).
    """
    root = _existing(path)
    if format is not None and not isinstance(format, str):
        raise InputError(f"format is {format!r}, but it must be a name, such as 'coco'")
    images = None if images is None else Path(images)
    if images is not None and not images.is_dir():
        raise InputError(f"there is no folder {images} for the images; correct its path")
    if is_archive(root):
        root = _inside(unpacked(root))
    module = _recognised(root, format)
    root = _home(root, module)
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
            if found:  # what is wrong first may be why nothing is left
                raise refuse(found, root) from None
            raise
    if found and not lenient:
        raise refuse(found, root)
    if found:
        dataset = Dataset(replace(dataset.source, malformed=tuple(found)), fields=dataset.fields)
    if dataset.source.split_names == ("all",) and dataset.root is not None:
        dataset = _without_splits(dataset)
    for words in shared_images(dataset):
        _LOG.warning("%s: %s", root, words)
    for note in dataset.notes:
        _LOG.warning("%s: %s", root, note)
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
    """The dataset, with a note where folders of its images are named as splits that its layout does not have."""
    folders = files.folders_like_splits(dataset.source.columns.names.texts())
    if len({files.split_name(folder) for folder in folders}) < 2:
        return dataset
    note = (
        f"images lie in folders called {' and '.join(folders)}, but where they lie makes no splits of them: all are in "
        "one; name the folders to keep them apart (--train, --val, --test)"
    )
    return Dataset(replace(dataset.source, notes=(*dataset.source.notes, note)), fields=dataset.fields)


def _give_back_memory() -> None:
    """Return what reading has used to the operating system, where the C library can."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _recognised(root: Path, format: str | None) -> ModuleType:
    if format is not None:
        if format not in FORMATS:
            raise InputError(f"there is no format {format!r}; there are {', '.join(FORMATS)}")
        return FORMATS[format]
    if root.is_dir() and not any(root.iterdir()):
        raise InputError(f"the folder {root} is empty; give one with a dataset in it")
    found = _formats_in(root)
    if len(found) > 1:
        several = " and ".join(f"{name} ({what})" for name, what in found.items())
        options = " or ".join(f"--format {name}" for name in found)
        raise InputError(
            f"{root} holds more than one format: {several}; say which by {options} "
            f'(in Python: open_dataset(…, format="{next(iter(found))}"))'
        )
    if not found:
        raise not_recognised(root, _formats_in)
    return FORMATS[next(iter(found))]


def _home(root: Path, module: ModuleType) -> Path:
    """The dataset's folder, where `root` is its folder of labels alone (annotations/ with the images beside it)."""
    place = root.resolve()
    if not root.is_dir() or place.name.lower() not in _OF_LABELS or files.images_below(place):
        return root
    return place.parent if module.recognise(place.parent) is not None else root


def _formats_in(root: Path) -> dict[str, str]:
    """The formats that a path may be read in, each with what speaks for it: none, one, or several that compete."""
    with remembering():
        found = {name: what for name, module in FORMATS.items() if (what := module.recognise(root)) is not None}
    if found.keys() & set(_FIRST):
        found = {
            name: what
            for name, what in found.items()
            if name in _FIRST or (name not in _TABLES and not _in_another_folder(what))
        }
    for name in ("folders", "csv-labels", "semantic", "masks"):  # those first that say least
        if len(found) > 1:
            found.pop(name, None)
    if "voc" in found and len(found) > 1 and _without_objects(root, found["voc"]):
        del found["voc"]
    return found


def _existing(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"the path of a dataset is {str(path)[:60]!r}, but it must be a text or a Path")
    try:
        root = Path(path).expanduser()
        root.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"there is no {root}; give the path of a dataset's folder") from None
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a zero byte, the home of nobody
        raise InputError(f"{str(path)[:60]!r} is no path of a dataset: {error}; correct it") from None
    special = "" if root.is_dir() else unusual_kind(root)
    if special:
        raise InputError(f"{root} is {special}; give the path of a dataset's folder or file")
    return root


def _inside(folder: Path) -> Path:
    """The dataset's own folder where an archive holds it in one that holds nothing else."""
    while not _formats_in(folder):
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        if len(entries) != 1 or not entries[0].is_dir():
            break
        folder = entries[0]
    return folder


def _in_another_folder(what: str) -> bool:
    """Whether labels lie in a folder that is none of labels and none of a split: perhaps of another dataset."""
    folder, slash, _ = what.partition("/")
    return bool(slash) and folder not in LABEL_FOLDERS and files.split_name(folder) not in files.ORDER


def _without_objects(root: Path, what: str) -> bool:
    """Whether the VOC file found only describes an image, as some tools write it beside their labels."""
    file = root / what
    return file.is_file() and b"<object" not in head_of(file)


_OF_OUTLINES = ("yolo-seg", "masks")
"""Formats in which every object has an outline."""


def _named(what: str) -> str:
    """What was lost, with its number before it: a column of the data is quoted."""
    own = ("segmentations", "keypoints", "captions", coco_relations.TABLE)
    return what if " " in what or what in own else f"values of {what!r}"


@dataclass(frozen=True)
class Conversion:
    """What `convert` has done.

    Attributes:
        folder: the folder written.
        format: its format.
        images, objects: how many were written.
        lost: what the format cannot hold, with how often.
        notes: what else the user should know of what was written.
        labels: what the images have, in words; the objects with their number where it is empty.
    """

    folder: Path
    format: str
    images: int
    objects: int
    lost: Mapping[str, int] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    labels: str = ""

    def __str__(self) -> str:
        lost = ", ".join(f"{count} {_named(what)}" for what, count in self.lost.items())
        left = f"; {self.format} cannot hold {lost}" if lost else ""
        notes = "".join(f"\n{note}" for note in self.notes)
        labels = self.labels or counted(self.objects, "object")
        return f"{counted(self.images)} with {labels} written to {self.folder} as {self.format}{left}{notes}"


def convert(source: Dataset | StrPath, out: StrPath, to: str, *, symlink: bool = False) -> Conversion:
    """Write a dataset in another format, with its images.

    Splits, classes (those without objects, too), names of images and images without objects are kept in every format.
    The folder appears when all is written: an interruption leaves nothing behind.

    Args:
        source: a dataset of objects, of class maps (for "semantic" alone, which draws objects as class maps) or of a
            class for each image (for "folders" and "csv"), or the path of one.
        out: the folder to make; it may exist if it is empty.
        to: the format's name, one of `WRITTEN`.
        symlink: link to the images instead of copying them.

    Raises:
        InputError: the format is unknown, `out` exists and is not empty, cannot be written, or an image is missing.
    """
    if to not in WRITTEN:
        reason = "is read but not written" if to in FORMATS else "is no format"
        raise InputError(f"{to!r} {reason}; write one of {', '.join(WRITTEN)}")
    dataset = source if isinstance(source, Dataset) else open_dataset(source)
    to = _form(to, dataset.label_kind)
    held = held_by(to)
    if dataset.label_kind not in held:
        what = " or ".join(kind.noun for kind in held)
        raise InputError(f"a dataset of {dataset.label_kind.noun} cannot be written as {to}, which holds {what}")
    out = Path(out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already, nothing was overwritten; name a new folder or remove it first")
    part = out.parent / f".{out.name}.{os.getpid()}.part"
    try:
        part.mkdir(parents=True)
        lost = FORMATS[to].write(dataset, part, symlink)
        if to != "coco":  # which says itself what it cannot hold of them
            lost |= rows_lost(dataset.columns.tables, {})
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        where = error.filename or out
        raise InputError(f"cannot write {out}: {error.strerror or error} ({where}); choose another folder") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    notes = _stand_ins(dataset.splits) if to.startswith("yolo") else ()
    boxes = int((dataset.columns.segmentations.lengths == 0).sum()) if to in _OF_OUTLINES else 0
    if boxes:
        notes += (f"{counted(boxes, 'object')} without an outline: written as the outline of the box",)
    objects = dataset.columns.objects
    labels = "" if held[-1].has_objects else held[-1].noun
    return Conversion(out, to, len(dataset), objects, lost, notes, labels)


def held_by(format: str) -> list[Kind]:
    """The kinds of label that a format is written from: those that its module names, else objects."""
    named = vars(FORMATS[format]).get("WRITES")
    return [kind for kind in KINDS.values() if (kind.has_objects if named is None else kind.name in named)]


def _form(to: str, kind: Kind) -> str:
    """The format, or the form of it that holds this kind of label: "csv-labels" is one of "csv"."""
    forms = (to, *(name for name in WRITTEN if name.startswith(f"{to}-")))
    return next((form for form in forms if kind in held_by(form)), to)


def _stand_ins(splits: Sequence[str]) -> tuple[str, ...]:
    missing = yolo.stand_ins(splits)
    if not missing:
        return ()
    words = " and ".join(f"{name} (the images of {other})" for name, other in missing.items())
    return (
        f"data.yaml also names {words}, for other tools need both: divide the data, such as with --split 80/10/10, "
        "before you judge a model by images that it was trained on",
    )

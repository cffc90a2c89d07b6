"""Annotation formats: each is recognised by the contents of a folder, read into a `Dataset`, and written from one."""

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
    activitynet,
    cityscapes,
    cityscapes_instances,
    coco,
    createml,
    csv_boxes,
    csv_labels,
    cvat,
    datumaro,
    files,
    folders,
    huggingface,
    kitti,
    label_studio,
    labelme,
    masks,
    omni3d,
    open_images_relations,
    panoptic,
    panoptic_instances,
    pix3d,
    semantic,
    supervisely,
    via,
    visual_genome,
    visual_genome_graphs,
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
from sightline.data.relations import TABLE
from sightline.data.shared import shared_images
from sightline.data.tables import rows_lost
from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.runtime.reading import unusual_kind
from sightline.structures import Classes
from sightline.words import counted

__all__ = ["FORMATS", "WRITTEN", "Conversion", "convert", "open_dataset", "supported_kinds"]

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
    "pix3d": pix3d,
    "huggingface": huggingface,
    "kitti": kitti,
    "omni3d": omni3d,
    "cityscapes": cityscapes,
    "cityscapes-instances": cityscapes_instances,
    "panoptic": panoptic,
    "panoptic-instances": panoptic_instances,
    "activitynet": activitynet,
    "visual-genome-graphs": visual_genome_graphs,
    "open-images-relations": open_images_relations,
    "visual-genome": visual_genome,
    "csv-labels": csv_labels,
    "folders": folders,
}
"""The formats by name, in the order in which they are tried."""
WRITTEN: tuple[str, ...] = tuple(name for name, module in FORMATS.items() if hasattr(module, "write"))
"""The formats that can also be written."""
_FIRST = ("coco", "voc", "yolo", "yolo-seg", "yolo-pose", "via", "labelme", "cvat")
_TABLES = ("csv", "panoptic", "huggingface")
"""Formats that are ignored next to one of `_FIRST`, because they hold the same data in another form."""

_OF_LABELS = ("annotations", "labels", "xmls", "jsons", "json")
"""Names of folders that contain only labels."""
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
            if found:  # the first problem may be the reason why nothing is left
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


def _recognised(root: Path, format: str | None) -> ModuleType:
    if format is not None:
        if format not in FORMATS:
            raise InputError(f"there is no format {format!r}; available: {', '.join(FORMATS)}")
        return FORMATS[format]
    if root.is_dir() and not any(root.iterdir()):
        raise InputError(f"the folder {root} is empty; give a folder that contains a dataset")
    found = _formats_in(root)
    if len(found) > 1:
        several = " and ".join(f"{name} ({what})" for name, what in found.items())
        options = " or ".join(f"--format {name}" for name in found)
        raise InputError(
            f"{root} contains more than one format: {several}; choose one with {options} "
            f'(in Python: open_dataset(…, format="{next(iter(found))}"))'
        )
    if not found:
        raise not_recognised(root, _formats_in)
    return FORMATS[next(iter(found))]


def _home(root: Path, module: ModuleType) -> Path:
    """The dataset's folder, if `root` is only its label folder (annotations/ with the images beside it)."""
    place = root.resolve()
    if not root.is_dir() or place.name.lower() not in _OF_LABELS or files.images_below(place):
        return root
    return place.parent if module.recognise(place.parent) is not None else root


def _formats_in(root: Path) -> dict[str, str]:
    """The formats in which a path may be read, each with the evidence for it: none, one, or several that compete."""
    with remembering():
        found = {name: what for name, module in FORMATS.items() if (what := module.recognise(root)) is not None}
    if found.keys() & set(_FIRST):
        found = {
            name: what
            for name, what in found.items()
            if name in _FIRST or (name not in _TABLES and not _in_another_folder(what))
        }
    for name in ("folders", "csv-labels", "semantic", "masks"):  # the weakest evidence first
        if len(found) > 1:
            found.pop(name, None)
    if "voc" in found and len(found) > 1 and _without_objects(root, found["voc"]):
        del found["voc"]
    return found


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


def _inside(folder: Path) -> Path:
    """The dataset's folder inside an unpacked archive, which may be the only entry of its root."""
    while not _formats_in(folder):
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        if len(entries) != 1 or not entries[0].is_dir():
            break
        folder = entries[0]
    return folder


def _in_another_folder(what: str) -> bool:
    """Whether labels are in a folder that is neither a label folder nor a split: perhaps of another dataset."""
    folder, slash, _ = what.partition("/")
    return bool(slash) and folder not in LABEL_FOLDERS and files.split_name(folder) not in files.ORDER


def _without_objects(root: Path, what: str) -> bool:
    """Whether the VOC file only describes an image, as some tools write it beside their labels."""
    file = root / what
    return file.is_file() and b"<object" not in head_of(file)


_OF_OUTLINES = ("yolo-seg", "masks")
"""Formats in which every object has an outline."""


def _named(what: str) -> str:
    """What was lost, in words; the name of a data column is quoted."""
    own = ("segmentations", "keypoints", "captions", TABLE)
    return what if " " in what or what in own else f"values of {what!r}"


@dataclass(frozen=True)
class Conversion:
    """The result of `convert`.

    Attributes:
        folder: the folder that was written.
        format: its format.
        images, objects: number of images and objects written.
        lost: what the format cannot store, with the number of values lost.
        notes: further remarks on what was written.
        labels: description of the labels; if empty, the number of objects is used.
        item: what `images` counts: "image", or "video".
    """

    folder: Path
    format: str
    images: int
    objects: int
    lost: Mapping[str, int] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    labels: str = ""
    item: str = "image"

    def __str__(self) -> str:
        lost = ", ".join(f"{count} {_named(what)}" for what, count in self.lost.items())
        left = f"; {self.format} cannot store {lost}" if lost else ""
        notes = "".join(f"\n{note}" for note in self.notes)
        labels = self.labels or counted(self.objects, "object")
        return f"{counted(self.images, self.item)} with {labels} written to {self.folder} as {self.format}{left}{notes}"


def convert(source: Dataset | StrPath, out: StrPath, to: str, *, symlink: bool = False) -> Conversion:
    """Write a dataset with its images in another format.

    All formats keep splits, classes (including those without objects), image names and images without objects. The
    folder appears only when everything is written: an interruption leaves nothing behind.

    Args:
        source: a dataset, or its path: objects, class maps ("semantic" only, which also draws objects as class maps),
            one class per image ("folders" and "csv"), or events in videos ("activitynet").
        out: the folder to create; it may exist if it is empty.
        to: the name of the format, one of `WRITTEN`.
        symlink: link to the images instead of copying them.

    Raises:
        InputError: the format is unknown, `out` is not empty or cannot be written, or an image is missing.
    """
    if to not in WRITTEN:
        reason = "can be read but not written" if to in FORMATS else "is not a format"
        raise InputError(f"{to!r} {reason}; write one of {', '.join(WRITTEN)}")
    dataset = source if isinstance(source, Dataset) else open_dataset(source)
    to = _form(to, dataset.label_kind)
    held = supported_kinds(to)
    if dataset.label_kind not in held:
        what = " or ".join(kind.noun for kind in held)
        raise InputError(f"a dataset of {dataset.label_kind.noun} cannot be written as {to}, which holds {what}")
    out = Path(out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} already exists, nothing was overwritten; choose a new folder or remove it first")
    part = out.parent / f".{out.name}.{os.getpid()}.part"
    try:
        part.mkdir(parents=True)
        lost = FORMATS[to].write(dataset, part, symlink)
        if to != "coco":  # the COCO writer reports itself what it cannot store
            written = vars(FORMATS[to]).get("TABLES", ())
            lost |= rows_lost({k: v for k, v in dataset.columns.tables.items() if k not in written}, {})
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
    return Conversion(out, to, len(dataset), objects, lost, notes, labels, dataset.label_kind.item)


def supported_kinds(format: str) -> list[Kind]:
    """The kinds of label that a format can store: those its module names, else objects."""
    named = vars(FORMATS[format]).get("WRITES")
    return [kind for kind in KINDS.values() if (kind.has_objects if named is None else kind.name in named)]


def _form(to: str, kind: Kind) -> str:
    """The format, or its variant for this kind of label: "csv-labels" is the variant of "csv" for image labels."""
    forms = (to, *(name for name in WRITTEN if name.startswith(f"{to}-")))
    return next((form for form in forms if kind in supported_kinds(form)), to)


def _stand_ins(splits: Sequence[str]) -> tuple[str, ...]:
    missing = yolo.stand_ins(splits)
    if not missing:
        return ()
    words = " and ".join(f"{name} (the images of {other})" for name, other in missing.items())
    return (
        f"data.yaml also names {words}, because other tools need both: divide the data, for example with --split "
        "80/10/10, before you evaluate a model on images that it was trained on",
    )

"""Write a dataset in another format."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sightline.data.dataset import Dataset
from sightline.data.formats import yolo
from sightline.data.formats.opening import StrPath, open_dataset
from sightline.data.formats.table import FORMATS, WRITTEN, supported_kinds
from sightline.data.kinds import Kind
from sightline.data.relations import TABLE
from sightline.data.tables import rows_lost
from sightline.errors import InputError
from sightline.words import counted

_OF_OUTLINES = ("yolo-seg", "masks")
"""Formats in which every object has an outline."""


def _in_words(what: str) -> str:
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
        notes: additional remarks on what was written.
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
        lost = ", ".join(f"{count} {_in_words(what)}" for what, count in self.lost.items())
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
    to = _variant(to, dataset.label_kind)
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


def _variant(to: str, kind: Kind) -> str:
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

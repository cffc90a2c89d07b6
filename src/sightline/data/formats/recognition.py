"""Recognise the format of a dataset from the contents of its folder."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from sightline.data.formats import files
from sightline.data.formats.listed import LABEL_FOLDERS, head_of
from sightline.data.formats.listing import remembering
from sightline.data.formats.refusal import not_recognised
from sightline.data.formats.table import FORMATS
from sightline.errors import InputError
from sightline.runtime.reading import is_hidden

_FIRST = ("coco", "voc", "yolo", "yolo-seg", "yolo-pose", "via", "labelme", "cvat")
_TABLES = ("csv", "panoptic", "huggingface")
"""Formats that are ignored next to one of `_FIRST`, because they hold the same data in another form."""

_OF_LABELS = ("annotations", "labels", "xmls", "jsons", "json")
"""Names of folders that contain only labels."""


def recognised(root: Path, format: str | None) -> ModuleType:
    """The module of the format `format`, or of the only format whose evidence is found in `root`.

    Raises:
        InputError: there is no such format, or none, or more than one, is found in `root`.
    """
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


def dataset_folder(root: Path, module: ModuleType) -> Path:
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


def unpacked_folder(folder: Path) -> Path:
    """The dataset's folder inside an unpacked archive, which may be the only entry of its root."""
    while not _formats_in(folder):
        entries = [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
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

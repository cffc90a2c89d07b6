"""CSV of whole-image labels: a row for each image, with its class.

Files lie where those of boxes do (`sightline.data.formats.csv_boxes`), and images are found alike: beside the file, in
images/, in a folder a split, or anywhere below, by a path or a name that may lack its ending. Columns are separated by
commas, semicolons or tabs (.csv or .tsv), and found by name, whatever their order; `dataset.notes` says which was taken
for what:

- the image: filename, file, path, image, image_id, id and the like;
- the class: class, label, category, name, breed and the like, a name or a number; of several, one that holds names;
- the split, where there is a column such as "split";
- without a header: path,class or path,class,split.

Classes are sorted by name, as numbers where all names are whole numbers; or in the order of classes.csv (name,id a
line) or classes.txt (a name a line), where that holds all of them. An image has one class. Images that no row names are
left out, and `dataset.notes` counts them.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.csv_boxes import listed_classes
from sightline.data.formats.csv_columns import IMAGE, LABEL, OF_BOXES, SPLIT, delimiter_of, plain_names
from sightline.data.formats.csv_write import CLASSES, write_classes
from sightline.data.formats.gather import Gather
from sightline.data.formats.image_labels import KIND, in_class_order, labelled
from sightline.data.formats.listed import Listed, assemble, files_to_read, head_of, recognised
from sightline.data.images import is_image
from sightline.data.kinds import GONE
from sightline.data.malformed import leave_out
from sightline.errors import InputError
from sightline.runtime.reading import parse_csv, read_text
from sightline.structures import Classes, Size

__all__ = ["LOOKED_FOR", "WRITES", "read", "recognise", "write"]

LOOKED_FOR = "CSV: *.csv with columns for the image and its class"
WRITES = (KIND,)
_ENDINGS = (".csv", ".tsv")
_NUMBERS = ("id", "idcode")
"""Names of the image's column, where the file has no other for what is not an image."""
_IMAGE = (*IMAGE, *_NUMBERS)
_LABEL = (*LABEL, "breed", "species", "diagnosis", "labels")
_NAMES_CLASSES = (CLASSES, "class_mapping.csv")
"""Files that hold names of classes, not of images."""
_FILE = "labels.csv"


@dataclass(frozen=True)
class _Columns:
    """Positions of the columns; `header` is empty where the file has none."""

    image: int
    label: int
    split: int | None = None
    header: tuple[str, ...] = ()

    def __str__(self) -> str:
        def named(position: int) -> str:
            return self.header[position] if self.header else str(position + 1)

        split = "" if self.split is None else f"; split from {named(self.split)}"
        how = "columns" if self.header else "columns by position"
        return f"{how}: image from {named(self.image)}; class from {named(self.label)}{split}"


@dataclass(frozen=True)
class _Row:
    """What a row says of its image, and where it stands."""

    where: str
    line: int
    label: str


def recognise(root: Path) -> str | None:
    """The CSV of image labels found in a folder (or `root` itself, if it is one), as words; None if there is none."""
    return recognised(root, _ENDINGS, _looks_right)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a CSV of image labels; arguments and errors as `sightline.open_dataset`."""
    root = root.absolute()
    home = files.home_of(root)
    wanted = "CSV with columns for the image and its class; name its columns so"
    found = files_to_read(root, splits, _ENDINGS, _looks_right, wanted)
    listed: list[Listed] = []
    notes = []
    for split, path in found:
        columns, part = _read_file(path, split)
        listed += part
        notes.append(f"{path.name}: {columns}")
    used = {row.label for one in listed for row in one.entries}
    names = list(classes) if classes is not None else _in_order(used, home, found[0][1].parent)
    gather = Gather(names)
    labels: list[int] = []

    def add(gather: Gather, one: Listed, row: _Row, size: Size) -> None:
        labels.extend([GONE] * (len(gather.image_extra) - len(labels)))  # images begun since
        if row.label not in gather.ids:
            raise files.unknown_class(row.where, f"class {row.label!r}", names)
        id = gather.ids[row.label]
        if labels[-1] not in (GONE, id):
            raise InputError(
                f"{row.where} says that {one.name} is of {row.label!r}, but another row says {names[labels[-1]]!r}, "
                "and an image has one class; remove one of the two"
            )
        labels[-1] = id

    dataset = assemble(root, "csv-labels", listed, add, gather, images=images, notes=notes)
    return labelled(dataset, labels, Classes(gather.ids))


def _looks_right(file: Path) -> bool:
    if not file.name.lower().endswith(_ENDINGS) or file.name.lower() in _NAMES_CLASSES or "submission" in file.stem:
        return False
    lines = [line for line in head_of(file, 2**13).decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return False
    delimiter = delimiter_of(lines[0])
    rows = list(csv.reader(lines[:2], delimiter=delimiter))
    return bool(rows) and _find(rows) is not None


def _find(rows: Sequence[Sequence[str]]) -> _Columns | None:
    """The columns that the first rows of a file name or show; None where they are no images with their classes."""
    header = [cell.strip() for cell in rows[0]]
    if len(header) > 1 and is_image(header[0]):
        return _Columns(0, 1, 2 if len(header) == 3 else None) if len(header) <= 3 and header[1] else None
    plain = plain_names(header)
    image = next((plain.index(name) for name in _IMAGE if name in plain), None)
    label = next((plain.index(name) for name in _LABEL if name in plain and plain.index(name) != image), None)
    if image is None or label is None or OF_BOXES & {*plain}:
        return None
    if plain[image] in _NUMBERS and not (len(rows) > 1 and image < len(rows[1]) and is_image(rows[1][image].strip())):
        return None if len(plain) > 2 else _Columns(image, label, None, tuple(header))
    split = next((plain.index(name) for name in SPLIT if name in plain), None)
    return _Columns(image, label, split, tuple(header))


def _read_file(path: Path, split: str) -> tuple[_Columns, list[Listed]]:
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    rows = parse_csv(text, path, delimiter_of(first))
    columns = _find(rows[:2]) if rows else None
    if columns is None:
        raise InputError(f"{path} has no columns for the image and its class; name them filename and class")
    columns = _with_names(columns, rows)
    images: dict[tuple[str, str], Listed] = {}
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if (number == 1 and columns.header) or not any(cell.strip() for cell in row):
            continue
        where = f"{path}, row {number}"
        try:
            if len(row) > width and any(cell.strip() for cell in row[width:]):
                raise InputError(
                    f"{where} has {len(row)} fields, but there are {width} columns; put quotes around text with commas"
                )
            cells = [cell.strip() for cell in [*row, *[""] * (width - len(row))]]
            name, label = cells[columns.image], cells[columns.label]
            if not name:
                raise InputError(f"{where} names no image; write its name, or remove the line")
            if not label:
                raise InputError(f"{where} names no class for {name}; write one, or remove the line")
            own = cells[columns.split] if columns.split is not None else ""
            own = files.split_name(own) if own else split
            image = images.setdefault((own, name), Listed(name, path, own))
            image.entries.append(_Row(where, number, label))
        except InputError as error:
            leave_out(error, path, number)
    return columns, list(images.values())


def _with_names(columns: _Columns, rows: Sequence[Sequence[str]]) -> _Columns:
    """The columns, the class from one that holds names, where there is such and the first holds numbers alone."""
    plain = plain_names(columns.header)
    for name in (name for name in (plain[columns.label], *_LABEL) if name in plain) if plain else ():
        k = plain.index(name)
        cells = [row[k].strip() for row in rows[1:] if k < len(row)]
        if k != columns.image and not all(cell.isdecimal() for cell in cells if cell):
            return _Columns(columns.image, k, columns.split, columns.header)
    return columns


def _in_order(used: set[str], *folders: Path) -> list[str]:
    """The names of classes by their ids: as a file beside the images lists them, if it lists all; else sorted."""
    listed = listed_classes(*folders) or []
    for file in (folder / "classes.txt" for folder in folders):
        if not listed and file.is_file():
            listed = list(dict.fromkeys(line.strip() for line in read_text(file).splitlines() if line.strip()))
    return listed if used and used <= {*listed} else in_class_order(used)


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as labels.csv (filename,class,split) with the images in SPLIT/, and classes.csv.

    Args:
        dataset: with a class for each image.
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with how often.
    """
    whole = dataset.splits == ("all",)
    labels = dataset.columns.image_labels
    assert labels is not None, "a dataset of whole-image labels has them"
    rows = [["filename", "class"] + ([] if whole else ["split"])]
    for i, name in enumerate(files.image_names(dataset)):
        split = dataset.split_of(i)
        place = files.joined("images" if whole else split, name)
        files.write_image(dataset, i, out / place, symlink)
        rows.append([place, dataset.classes[int(labels[i])]] + ([] if whole else [split]))
    with open(out / _FILE, "w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows(rows)
    write_classes(dataset.classes, out)
    return Counter()

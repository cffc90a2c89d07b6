"""CSV with image labels: one row per image, with its class.

Files and images are found as for boxes (`sightline.data.formats.csv_boxes`): images are beside the file, in images/, in
one folder per split, or anywhere below, and are named by a path or a name that may lack its extension. Columns are
separated by commas, semicolons or tabs (.csv or .tsv) and are found by name in any order; `dataset.notes` says how each
column was read:

- the image: filename, file, path, image, image_id, id and similar names;
- the class: class, label, category, name, breed and similar names, with names or numbers; a column with names is
  preferred;
- instead of the class, one column per class with 1 for the image's class and 0 for the others (Roboflow's
  _classes.csv, whose images have one class each);
- the split, if there is a column such as "split";
- without a header: path,class or path,class,split.

Classes are sorted by name, as numbers if all names are whole numbers; or in the order of classes.csv (one name,id per
line) or classes.txt (one name per line), if that file lists all of them. An image has one class. Images without a row
are left out, and `dataset.notes` gives their number.
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
from sightline.data.malformed import skip_label
from sightline.errors import InputError
from sightline.runtime.reading import parse_csv, read_text
from sightline.structures import Classes, Size

__all__ = ["LOOKED_FOR", "WRITES", "read", "recognise", "write"]

LOOKED_FOR = "CSV: *.csv with columns for the image and its class"
WRITES = (KIND,)
_ENDINGS = (".csv", ".tsv")
_NUMBERS = ("id", "idcode")
"""Names that are used for the image column only if the file has no other column for it."""
_IMAGE = (*IMAGE, *_NUMBERS)
_LABEL = (*LABEL, "breed", "species", "diagnosis", "labels")
_NAMES_CLASSES = (CLASSES, "class_mapping.csv")
"""Files with class names, not image names."""
_BITS = {"0": False, "1": True, "0.0": False, "1.0": True, "": False, "False": False, "True": True}
_FILE = "labels.csv"


@dataclass(frozen=True)
class _Columns:
    """Positions of the columns; `header` is empty if the file has none.

    `one_hot` are the columns of the classes if there is one per class; `label` is then the first of them.
    """

    image: int
    label: int
    split: int | None = None
    header: tuple[str, ...] = ()
    one_hot: tuple[int, ...] = ()

    def __str__(self) -> str:
        def named(position: int) -> str:
            return self.header[position] if self.header else str(position + 1)

        split = "" if self.split is None else f"; split from {named(self.split)}"
        how = "columns" if self.header else "columns by position"
        label = named(self.label)
        if self.one_hot:
            label = f"the {len(self.one_hot)} columns from {label} to {named(self.one_hot[-1])} (1 marks the class)"
        return f"{how}: image from {named(self.image)}; class from {label}{split}"

    def label_of(self, cells: Sequence[str], where: str) -> str:
        """The class in a row's cells, "" if it has none.

        Raises:
            InputError: a column of a class has neither 0 nor 1, or several have 1.
        """
        if not self.one_hot:
            return cells[self.label]
        wrong = next((k for k in self.one_hot if cells[k] not in _BITS), None)
        if wrong is not None:
            raise InputError(
                f"{where} has {cells[wrong]!r} in the column {self.header[wrong]}, but columns of classes have 0 or 1; "
                "correct it"
            )
        marked = [self.header[k] for k in self.one_hot if _BITS[cells[k]]]
        if len(marked) > 1:
            raise InputError(
                f"{where} marks {len(marked)} classes ({', '.join(marked[:4])}), but an image has one class; keep one, "
                "or remove the line"
            )
        return marked[0] if marked else ""


@dataclass(frozen=True)
class _Row:
    """The label of an image, and its position in the file."""

    where: str
    line: int
    label: str


def recognise(root: Path) -> str | None:
    """A description of the CSV with image labels found in a folder (or `root` itself); None if there is none."""
    return recognised(root, _ENDINGS, _looks_right)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a CSV with image labels. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    home = files.home_of(root)
    expected = "CSV with columns for the image and its class; name its columns so"
    found = files_to_read(root, splits, _ENDINGS, _looks_right, expected)
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
        labels.extend([GONE] * (len(gather.image_extra) - len(labels)))  # images added since the last label
        if row.label not in gather.ids:
            raise files.unknown_class(row.where, f"class {row.label!r}", names)
        id = gather.ids[row.label]
        if labels[-1] not in (GONE, id):
            raise InputError(
                f"{row.where} gives {one.name} the class {row.label!r}, but another row gives it "
                f"{names[labels[-1]]!r}, and an image has one class; remove one of the two"
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
    """The columns, from the header or the first rows; None if the rows are not images with classes."""
    header = [cell.strip() for cell in rows[0]]
    if len(header) > 1 and is_image(header[0]):
        return _Columns(0, 1, 2 if len(header) == 3 else None) if len(header) <= 3 and header[1] else None
    plain = plain_names(header)
    image = next((plain.index(name) for name in _IMAGE if name in plain), None)
    label = next((plain.index(name) for name in _LABEL if name in plain and plain.index(name) != image), None)
    if image is None or OF_BOXES & {*plain}:
        return None
    if label is None:
        return _one_column_per_class(header, rows[1:2], image)
    if plain[image] in _NUMBERS and not (len(rows) > 1 and image < len(rows[1]) and is_image(rows[1][image].strip())):
        return None if len(plain) > 2 else _Columns(image, label, None, tuple(header))
    split = next((plain.index(name) for name in SPLIT if name in plain), None)
    return _Columns(image, label, split, tuple(header))


def _one_column_per_class(header: list[str], rows: Sequence[Sequence[str]], image: int) -> _Columns | None:
    """The columns if all but those of image and split have 0 or 1 in the first row, and are at least two."""
    plain = plain_names(header)
    split = next((plain.index(name) for name in SPLIT if name in plain), None)
    rest = tuple(k for k in range(len(header)) if k not in (image, split))
    if len(rest) < 2 or not all(header[k] for k in rest) or not rows or len(rows[0]) < len(header):
        return None
    if not is_image(rows[0][image].strip()) or any(rows[0][k].strip() not in _BITS for k in rest):
        return None
    return _Columns(image, rest[0], split, tuple(header), rest)


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
            name = cells[columns.image]
            if not name:
                raise InputError(f"{where} has no image name; write it, or remove the line")
            label = columns.label_of(cells, where)
            if not label:
                raise InputError(f"{where} has no class for {name}; write one, or remove the line")
            own = cells[columns.split] if columns.split is not None else ""
            own = files.split_name(own) if own else split
            image = images.setdefault((own, name), Listed(name, path, own))
            image.entries.append(_Row(where, number, label))
        except InputError as error:
            skip_label(error, path, number)
    return columns, list(images.values())


def _with_names(columns: _Columns, rows: Sequence[Sequence[str]]) -> _Columns:
    """Replace a class column that contains only numbers by one that contains names, if there is one."""
    if columns.one_hot:
        return columns
    plain = plain_names(columns.header)
    for name in (name for name in (plain[columns.label], *_LABEL) if name in plain) if plain else ():
        k = plain.index(name)
        cells = [row[k].strip() for row in rows[1:] if k < len(row)]
        if k != columns.image and not all(cell.isdecimal() for cell in cells if cell):
            return _Columns(columns.image, k, columns.split, columns.header)
    return columns


def _in_order(used: set[str], *folders: Path) -> list[str]:
    """Class names in order of their ids: as listed in a file beside the images if it lists all, else sorted."""
    listed = listed_classes(*folders) or []
    for file in (folder / "classes.txt" for folder in folders):
        if not listed and file.is_file():
            listed = list(dict.fromkeys(line.strip() for line in read_text(file).splitlines() if line.strip()))
    return listed if used and used <= {*listed} else in_class_order(used)


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as labels.csv (filename,class,split) with the images in SPLIT/, and classes.csv.

    Args:
        dataset: a dataset with one class per image.
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    whole = dataset.splits == ("all",)
    labels = dataset.columns.image_labels
    assert labels is not None, "a dataset of image labels has this column"
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

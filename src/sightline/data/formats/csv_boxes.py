"""CSV with boxes: one row per object.

These layouts are recognised, with the images beside the file, in images/, in one folder per split, or anywhere below
(or the folder given by images=):

- *.csv in the folder itself or in annotations/, one file in total or one per split (train_labels.csv, test_labels.csv);
- SPLIT/*.csv beside the images (Roboflow's _annotations.csv);
- the path of one such file.

Columns are found by name in any order; `dataset.notes` says how each column was read:

- Kaggle: image_id,xmin,ymin,xmax,ymax or image_id,width,height,bbox with "[x, y, width, height]";
- TensorFlow object detection: filename,width,height,class,xmin,ymin,xmax,ymax;
- VoTT: image,xmin,ymin,xmax,ymax,label;
- Open Images: ImageID,LabelName,XMin,XMax,YMin,YMax, with class-descriptions*.csv beside it for the names; IsGroupOf
  becomes "crowd";
- x,y,width,height (the corner), xcenter,ycenter,width,height, x1,y1,x2,y2, left,top,right,bottom and similar names;
- without a header: keras-retinanet's path,x1,y1,x2,y2,class.

If box corners or a "bbox" column exist, width and height are those of the image. Coordinates are pixels, or fractions
of the image size if none is greater than 1; between semicolons or tabs they may have decimal commas. Image names may
lack folders and extensions. A row without coordinates is an image without objects. A column such as "split" defines the
splits. Without a class column, all objects have one class. Classes are in the order of classes.csv (one name,id per
line) if it exists, else sorted. Images without a row are left out, and `dataset.notes` gives their number.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.csv_columns import HEADERLESS, CsvColumns, delimiter_of, find_columns, is_headerless
from sightline.data.formats.csv_write import CLASSES, write
from sightline.data.formats.gather import Gather, only_class
from sightline.data.formats.listed import Listed, assemble, files_to_read, head_of, recognised
from sightline.data.malformed import skip_label
from sightline.errors import InputError
from sightline.runtime.reading import parse_csv, read_csv, read_text
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "CSV: *.csv with columns for the image, the box and the class"
_ALL_PARTS = 1.01
"""Coordinates up to this value may be fractions of the image size: tools round slightly above 1."""
_DECIMAL_COMMA = re.compile(r"^\s*([-+]?\d+),(\d+)\s*$")
_NO_BOX = frozenset(["", "nan", "none", "null", "[]"])


@dataclass
class _Row:
    """One object: its position in the file, four box numbers, its class, its flags."""

    where: str
    line: int
    numbers: list[float]
    label: str
    marks: dict[str, str]


@dataclass
class _File:
    path: Path
    split: str
    columns: CsvColumns
    images: list[Listed]


def recognise(root: Path) -> str | None:
    """A description of the box CSV found in a folder (or `root` itself, if it is one); None if there is none."""
    return recognised(root, ".csv", _looks_right)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a CSV with boxes. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    home = files.home_of(root)
    expected = "CSV with columns for the image and the box; name its columns so"
    found = files_to_read(root, splits, ".csv", _looks_right, expected)
    parts = [_read_file(path, split) for split, path in found]
    kinds = {part.columns.kind for part in parts}
    if len(parts) > 1 and len(kinds) > 1:
        raise InputError(f"{parts[0].path} and {parts[1].path} have different box columns; give the path of one file")
    relative = not any(part.columns.pixels for part in parts) and _are_parts(parts)
    names = descriptions(home, found[0][1].parent)
    only = None if any(part.columns.label is not None for part in parts) else only_class(home, classes)
    gather = Gather(classes, None if only is None else [only])
    if gather.fixed is False:
        listed = listed_classes(home, found[0][1].parent)
        gather = Gather(None, listed)
    kind = parts[0].columns.kind

    def add(gather: Gather, one: Listed, row: _Row, size: Size) -> None:
        label = only if only is not None else names.get(row.label, row.label)
        if not label:
            raise InputError(f"{row.where} has no class; write one, or leave the box empty")
        gather.object(row.where, label, box=_box(row.numbers, kind, size if relative else None), attributes=row.marks)

    notes = [f"{part.path.name}: {part.columns}" for part in parts]
    notes += [f"{parts[0].path.name}: coordinates are fractions of the image size"] if relative else []
    notes += ["there is no class column: all objects have the class " + repr(only)] if only else []
    listed_images = [one for part in parts for one in part.images]
    return assemble(root, "csv", listed_images, add, gather, images=images, relative=relative, notes=notes)


def _looks_right(file: Path) -> bool:
    if file.suffix.lower() != ".csv":
        return False
    head = head_of(file, 2**13).decode("utf-8", "replace")
    lines = [line for line in head.splitlines() if line.strip()]
    if not lines or "region_shape_attributes" in lines[0]:  # VIA's
        return False
    row = next(csv.reader(lines[:1], delimiter=delimiter_of(lines[0])), [])
    return is_headerless(row) or find_columns(row) is not None


def _read_file(path: Path, split: str) -> _File:
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    rows = parse_csv(text, path, delimiter_of(first))
    if delimiter_of(first) != ",":
        rows = [[_DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in row] for row in rows]
    columns = HEADERLESS if rows and is_headerless(rows[0]) else find_columns(rows[0] if rows else [])
    if columns is None:
        raise InputError(f"{path} has no columns for the image and the box; name them filename, xmin, ymin, xmax, ymax")
    images: dict[tuple[str, str], Listed] = {}
    start = 0 if columns is HEADERLESS else 1
    width = len(rows[0])
    for number, row in enumerate(rows[start:], start + 1):
        try:
            if len(row) > width and any(cell.strip() for cell in row[width:]):
                raise InputError(
                    f"{path}, row {number} has {len(row)} fields, but there are {width} columns; put quotes around "
                    "text with commas"
                )
            if any(cell.strip() for cell in row):
                _add_row(images, path, split, columns, number, [*row, *[""] * (width - len(row))])
        except InputError as error:
            skip_label(error, path, number)
    return _File(path, split, columns, list(images.values()))


def _add_row(
    images: dict[tuple[str, str], Listed], path: Path, split: str, columns: CsvColumns, number: int, row: list[str]
) -> None:
    where = f"{path}, row {number}"
    name = row[columns.image].strip()
    if not name:
        raise InputError(f"{where} has no image name; write it, or remove the line")
    own = row[columns.split].strip() if columns.split is not None else ""
    own = files.split_name(own) if own else split
    image = images.get((own, name))
    if image is None:
        image = images[own, name] = Listed(name, path, own, _stated_size(row, columns, where))
    cells = [row[k].strip() for k in columns.box]
    if all(cell.lower() in _NO_BOX for cell in cells):
        return
    if len(cells) == 1:
        cells = [word for word in re.split(r"[\s,;]+", cells[0].strip("[](){} ")) if word]
    if len(cells) != 4:
        raise InputError(f"{where} has the box {row[columns.box[0]][:60]!r}, but a box is four numbers; correct it")
    numbers = shapes.as_numbers(cells, where)
    label = row[columns.label].strip() if columns.label is not None else ""
    marks = {name: row[k].strip() for name, k in columns.marks if row[k].strip()}
    image.entries.append(_Row(where, number, numbers, label, marks))


def _stated_size(row: list[str], columns: CsvColumns, where: str) -> Size:
    if columns.size is None:
        return 0, 0
    width, height = (row[k].strip() for k in columns.size)
    if not width or not height:
        return 0, 0
    numbers = shapes.as_numbers([height, width], where)
    if any(number < 0 or number != int(number) for number in numbers):
        raise InputError(
            f"{where} gives an image size of {width} × {height}, but sizes are whole numbers of pixels; correct it"
        )
    return int(numbers[0]), int(numbers[1])


def _are_parts(parts: Sequence[_File]) -> bool:
    """Whether coordinates are fractions of the image size: none is greater than 1."""
    first_beyond: str | None = None
    within = beyond = 0
    for row in (row for part in parts for image in part.images for row in image.entries):
        if max(map(abs, row.numbers)) <= _ALL_PARTS:
            within += 1
        else:
            beyond += 1
            first_beyond = first_beyond or f"{row.where} ({', '.join(f'{v:g}' for v in row.numbers)})"
    if within and beyond and within > beyond:
        raise InputError(
            f"most boxes are fractions of the image size, between 0 and 1, but not that of {first_beyond}; correct it"
        )
    return within > 0 and not beyond


def _box(numbers: Sequence[float], kind: str, size: Size | None) -> list[float]:
    """Corners in pixels; NaN if coordinates are fractions of an unknown size."""
    a, b, c, d = numbers
    if size is not None:
        height, width = size if all(size) else (float("nan"), float("nan"))
        a, b, c, d = a * width, b * height, c * width, d * height
    if kind == "xywh":
        return [a, b, a + c, b + d]
    if kind == "cxcywh":
        return [a - c / 2, b - d / 2, a + c / 2, b + d / 2]
    return [a, b, c, d]


def descriptions(*folders: Path) -> dict[str, str]:
    """Open Images class names by label ("/m/011k07"), from class-descriptions*.csv; empty if there is no such file.

    The challenge of 2019 calls it classes-description*.csv.
    """
    for folder in folders:
        for file in sorted(folder.glob("*class*-description*.csv")):
            rows = read_csv(file)
            return {row[0].strip(): row[1].strip() for row in rows if len(row) >= 2 and row[0].startswith("/")}
    return {}


def listed_classes(*folders: Path) -> list[str] | None:
    """The names in classes.csv in order of their ids; None if there is no such file."""
    for folder in folders:
        for file in (folder / name for name in (CLASSES, "class_mapping.csv")):
            if not file.is_file():
                continue
            rows = [row for row in read_csv(file) if row]
            if rows and all(len(row) == 2 and row[1].strip().isdecimal() for row in rows):
                return [name.strip() for name, _ in sorted(rows, key=lambda row: int(row[1]))]
    return None

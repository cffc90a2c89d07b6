"""Open Images' visual relationships: CSV files with one pair of objects and their relation per row.

Files named *-vrd.csv, or *.csv with these columns, are recognised in the folder, in annotations/ or in one folder per
split, and the path of one such file; the split is that of the file's name (oidv6-train-annotations-vrd.csv,
challenge-2018-train-vrd.csv). Images are beside the files, in images/, in a folder per split, or in the folder given by
images=; they are named by their id. The columns are ImageID, LabelName1, LabelName2, XMin1, XMax1, YMin1, YMax1, XMin2,
XMax2, YMin2, YMax2 and RelationshipLabel (or RelationLabel), with coordinates as fractions of the image size.
*class-descriptions*.csv (or *classes-description*.csv) beside them has the names of the classes.

Equal boxes of one class in an image are one object. Rows with the relationship "is" state an attribute of a single
object ("table is wooden"); their object is read, and the attribute is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.csv_boxes import descriptions
from sightline.data.formats.graphs import GraphObject, ImageGraph, dataset_of_graphs
from sightline.data.formats.listed import Listed, files_to_read, head_of, recognised
from sightline.data.malformed import skip_label
from sightline.errors import InputError
from sightline.runtime.reading import read_csv
from sightline.words import counted

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "Open Images relationships: *-vrd.csv with two boxes per row"
_LABELS = ("LabelName1", "LabelName2")
_BOXES = (("XMin1", "YMin1", "XMax1", "YMax1"), ("XMin2", "YMin2", "XMax2", "YMax2"))
_RELATIONS = ("RelationshipLabel", "RelationLabel")
_ATTRIBUTE = "is"


def recognise(root: Path) -> str | None:
    """A description of the CSV found in a folder (or `root` itself, if it is one); None if there is none."""
    return recognised(root, ".csv", _looks_right)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read Open Images' relationships. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    expected = "CSV with relationships (columns ImageID, LabelName1, LabelName2, XMin1, …); give its path"
    found = files_to_read(root, splits, ".csv", _looks_right, expected)
    names = descriptions(files.home_of(root), found[0][1].parent)
    graphs: list[ImageGraph] = []
    attributes = 0
    for split, file in found:
        own, left_out = _read_file(file, split, names)
        graphs += own
        attributes += left_out
    notes = [f"{counted(attributes, 'attribute')} of single objects left out"] if attributes else []
    return dataset_of_graphs(root, "open-images-relations", graphs, classes, images, relative=True, notes=notes)


def _looks_right(file: Path) -> bool:
    if file.suffix.lower() != ".csv":
        return False
    first = head_of(file, 2**12).decode("utf-8", "replace").splitlines()[:1]
    columns = {name.strip().strip('"') for line in first for name in line.split(",")}
    return {"ImageID", *_LABELS, *_BOXES[0], *_BOXES[1]} <= columns


def _read_file(file: Path, split: str, names: Mapping[str, str]) -> tuple[list[ImageGraph], int]:
    """The graphs of a file, and the number of attributes in it."""
    heads, *rows = read_csv(file)
    columns = {name.strip(): k for k, name in enumerate(heads)}
    relation = next((columns[name] for name in _RELATIONS if name in columns), None)
    if relation is None:
        raise InputError(f"{file} has no column {' or '.join(_RELATIONS)}; name the column of the relations so")
    graphs: dict[str, ImageGraph] = {}
    attributes = 0
    for number, row in enumerate(rows, 2):
        where = f"{file}, row {number}"
        try:
            if len(row) != len(heads):
                raise InputError(f"{where} has {len(row)} fields, but there are {len(heads)} columns; correct it")
            id = row[columns["ImageID"]].strip()
            if not id:
                raise InputError(f"{where} has no ImageID; write it, or remove the row")
            graph = graphs.setdefault(id, ImageGraph(Listed(id, file, split, other_names=(f"{id}.jpg",))))
            predicate = row[relation].strip()
            sides = (0,) if predicate == _ATTRIBUTE else (0, 1)
            ends = [_object(graph, row, columns, side, where, number, names) for side in sides]
            if predicate == _ATTRIBUTE:
                attributes += 1
            else:
                graph.relate(ends[0], predicate, ends[1], where)
        except InputError as error:
            skip_label(error, file, number)
    return list(graphs.values()), attributes


def _object(
    graph: ImageGraph,
    row: Sequence[str],
    columns: Mapping[str, int],
    side: int,
    where: str,
    line: int,
    names: Mapping[str, str],
) -> int:
    """The id of one of the two objects of a row, which is added if it is not there yet."""
    label = row[columns[_LABELS[side]]].strip()
    if not label:
        raise InputError(f"{where} has no {_LABELS[side]}; write it, or remove the row")
    x1, y1, x2, y2 = shapes.as_numbers([row[columns[name]].strip() for name in _BOXES[side]], where)
    if max(abs(x1), abs(y1), abs(x2), abs(y2)) > 1.01:  # tools round slightly above 1
        raise InputError(
            f"{where} has the box {[x1, y1, x2, y2]}, but coordinates are fractions of the image size, from 0 to 1; "
            "correct it"
        )
    name = names.get(label, label)
    same = (own.id for own in graph.objects.values() if (own.label, own.box) == (name, (x1, y1, x2, y2)))
    id = next(same, len(graph.objects) + 1)
    graph.objects.setdefault(id, GraphObject(id, name, (x1, y1, x2, y2), where, line=line))
    return id

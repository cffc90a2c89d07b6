"""Hugging Face: an image folder with metadata, or Parquet files that contain the images.

These layouts are recognised:

- metadata.jsonl, metadata.csv or metadata.parquet in the folder, or in one folder per split, with "file_name" (relative
  to the file) and "objects" for each image;
- *.parquet in the folder or in data/, whose names begin with their split (train-00000-of-00002.parquet), with a column
  "image" and a column "objects"; their images are unpacked once, beside each file
  (`sightline.data.formats.archives`);
- the path of one such file.

"objects" contains lists, {"bbox": [[x, y, width, height], …], "categories": [0, …]}, or is a list of objects with a
"bbox" and a "category"; boxes are in pixels. Category numbers are indices into the class names given (classes=…) or
stated in a Parquet file; otherwise they are used as names. Captions ("text") are kept with the image. Images that the
metadata do not list are left out, and `dataset.notes` gives their number. Parquet needs pyarrow: pip install
'sightline[parquet]'.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.gather import Gather
from sightline.data.formats.huggingface_parquet import read_parquet
from sightline.data.formats.listed import Listed, assemble, head_of
from sightline.data.malformed import skip_label
from sightline.errors import InputError
from sightline.runtime.reading import parse_json, read_csv, read_text
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "Hugging Face: metadata.jsonl, or *.parquet, with objects"
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_BOXES = ("bbox", "bboxes", "boxes", "box")
_LABELS = ("categories", "category", "category_id", "labels", "label", "label_id", "classes", "class", "name")
_MARKS = {"iscrowd": "crowd", "is_crowd": "crowd", "difficult": "difficult", "truncated": "truncated"}


def recognise(root: Path) -> str | None:
    """A description of the metadata found in a folder (or `root` itself, if it is a file); None if there is none."""
    found = _files(root)
    return files.relative(found[0][1], files.home_of(root)) if found else None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a Hugging Face dataset. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    home = files.home_of(root)
    found = _files(root)
    if splits:
        places = {name: files.resolve(home, given).absolute() for name, given in splits.items()}
        found = [(name, file) for name, place in places.items() for _, file in _files(place)]
    if not found:
        raise InputError(f"{root} contains no metadata.jsonl and no Parquet file with objects; give its path")
    listed: list[Listed] = []
    names: list[str] | None = None
    for split, file in found:
        if file.suffix.lower() == ".parquet":
            rows, stated = read_parquet(file)
            names = names or stated
        else:
            rows = _csv_rows(file) if file.suffix.lower() == ".csv" else _json_rows(file)
        listed += _listed(rows, file, split)
    numbered = any(isinstance(label, int) for one in listed for label, _, _ in one.entries)
    order = list(classes) if classes is not None and names is None and numbered else names
    if order is None and numbered:
        most = max(label for one in listed for label, _, _ in one.entries if isinstance(label, int))
        order = [str(k) for k in range(most + 1)] if most < 10_000 else None

    def add(gather: Gather, one: Listed, entry: tuple[Any, list[float], dict[str, Any]], size: Size) -> None:
        label, (x, y, width, height), marks = entry
        where = f"{one.file}: {one.name}"
        if isinstance(label, int) and order is not None:
            if not 0 <= label < len(order):
                raise files.unknown_class(where, f"class id {label}", [f"{k} {name}" for k, name in enumerate(order)])
            label = order[label]
        gather.object(where, str(label), box=(x, y, x + width, y + height), attributes=marks)

    return assemble(root, "huggingface", listed, add, Gather(classes, order), images=images)


def _files(root: Path) -> list[tuple[str, Path]]:
    """(split, file) of the metadata, in the first place that has any."""
    if root.is_file():
        return [("all", root)] if _looks_right(root) else []
    if not root.is_dir():
        return []
    splits = files.folders_of_splits(root)
    for folders in ([root], splits):
        places = [(f, next((f / name for name in _METADATA if (f / name).is_file()), None)) for f in folders]
        found = [(f, file) for f, file in places if file is not None and _looks_right(file)]
        if found:
            return [("all" if f == root else files.split_name(f.name), file) for f, file in found]
    for folder in (root, root / "data"):
        parquet = files.with_ending(folder, ".parquet")
        if parquet:
            return [(files.split_in(file.stem) or "all", file) for file in parquet]
    return []


def _looks_right(file: Path) -> bool:
    head = head_of(file)
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return head.startswith(b"PAR1")
    if suffix == ".csv":
        first = head.split(b"\n")[0]
        return b"file_name" in first and b"objects" in first
    return suffix == ".jsonl" and b'"file_name"' in head and b'"objects"' in head


def _json_rows(file: Path) -> Iterable[tuple[int, Any]]:
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line.strip():
            try:
                yield number, parse_json(line, f"{file}, line {number}", dict)
            except InputError as error:
                skip_label(error, file, number)


def _csv_rows(file: Path) -> Iterable[tuple[int, Any]]:
    head, *rows = read_csv(file)
    for number, row in enumerate(rows, 2):
        entry: dict[str, Any] = dict(zip((name.strip() for name in head), row, strict=False))
        try:
            entry["objects"] = parse_json(entry.get("objects") or "{}", f"{file}, row {number}", (dict, list))
            yield number, entry
        except InputError as error:
            skip_label(error, file, number)


def _listed(rows: Iterable[tuple[int, Any]], file: Path, split: str) -> list[Listed]:
    listed = []
    for number, row in rows:
        where = f"{file}, row {number}"
        try:
            name = row.get("file_name")
            if not isinstance(name, str) or not name:
                raise InputError(f'{where} has no "file_name"; write the image\'s name')
            extra = {"captions": [str(row["text"])]} if row.get("text") else {}
            listed.append(Listed(name, file, split, (0, 0), _objects(row.get("objects"), where), extra))
        except InputError as error:
            skip_label(error, file, number)
    return listed


def _objects(objects: Any, where: str) -> list[tuple[Any, list[float], dict[str, Any]]]:
    """(label, [x, y, width, height], flags) of each object of an image."""
    if not objects:
        return []
    if isinstance(objects, dict):
        lengths = {key: len(values) for key, values in objects.items() if isinstance(values, list)}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{where} has objects of different lengths ({json.dumps(lengths)}); make them equal")
        count = next(iter(lengths.values()), 0)
        objects = [{key: values[k] for key, values in objects.items() if key in lengths} for k in range(count)]
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise InputError(f"{where} has objects that are neither a dict of lists nor a list of objects; correct them")
    found = []
    for k, one in enumerate(objects):
        box = next((one[key] for key in _BOXES if key in one), None)
        label = next((one[key] for key in _LABELS if one.get(key) is not None), None)
        if not isinstance(box, list) or len(box) != 4:
            raise InputError(f"{where}: object {k} has the bbox {str(box)[:60]}, but a box is [x, y, width, height]")
        if not isinstance(label, str | int):
            raise InputError(f"{where}: object {k} has no category; write one")
        marks = {_MARKS[key]: value for key, value in one.items() if key in _MARKS}
        found.append((label, shapes.as_numbers(box, f"{where}: object {k}"), marks))
    return found

"""Visual Genome's region descriptions (Krishna et al., "Visual Genome", IJCV 2017): boxes with a phrase each.

region_descriptions.json has one object for each image:

    [{"id": 1, "regions": [{"region_id": 1382, "image_id": 1, "x": 421, "y": 57, "width": 82, "height": 139,
      "phrase": "the clock is green in colour"}, …]}, …]

x and y are the upper left corner of the box, in pixels. All objects have the class "region". image_data.json, with the
width and the height of each image, is read if it is there. These layouts are recognised:

- region_descriptions.json in the folder itself or in annotations/;
- the path of such a file.

The image of id 1 is 1.jpg in VG_100K/, VG_100K_2/ or another folder below (images= names one). Splits are those of
densecap_splits.json ({"train": [ids], "val": …}) if it is beside the file, which leaves other images out; otherwise all
images are in one split. The path of a file for each split can be named, too (--train, --val).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.data.blob import Blob
from sightline.data.builder import Builder
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.listed import head_of
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime.entries import NUMBER, require_entries
from sightline.runtime.reading import read_json
from sightline.structures import Classes, Size
from sightline.words import counted, kind_of

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "Visual Genome: region_descriptions.json with regions and phrases"
FILE, SIZES, SPLITS = "region_descriptions.json", "image_data.json", "densecap_splits.json"
_FOLDERS = ("", "annotations")
_KEYS = (b'"regions"', b'"phrase"')
_REGION = {**dict.fromkeys(("x", "y", "width", "height"), NUMBER), "phrase": str}
_SIZE = {"image_id": int, "width": int, "height": int}
_REPAIR = "correct or remove it"
_Region = tuple[list[float], str]
"""Box x1, y1, x2, y2 in pixels, and phrase."""


def recognise(root: Path) -> str | None:
    """A description of the regions found in a folder, or in the file `root`; None if there are none."""
    if root.is_file():
        return root.name if _looks_right(root) else None
    return next((files.joined(name, FILE) for name in _FOLDERS if _looks_right(root / name / FILE)), None)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read region descriptions. Arguments and errors are those of `sightline.open_dataset`; `classes` is one name."""
    given, root = root, root.absolute()
    name = _class_name(given, classes)
    home = files.home_of(root)
    if splits:
        found = [(name, files.resolve(home, path).absolute()) for name, path in splits.items()]
    elif root.is_file():
        found = [("", root)]
    else:
        what = recognise(root)
        if what is None:
            raise InputError(f"{given} has no {FILE}; give the path of a file with regions and phrases")
        found = [("", root / what)]
    base = files.naming_root(home, images)
    places = _images_of((images or home).absolute())
    if not places and images is None and home.name.lower() in _FOLDERS:
        base = home.parent
        places = _images_of(base)
    by_split: dict[str, list[tuple[int, list[_Region], Path]]] = {}
    sizes: dict[int, Size] = {}
    orphans: list[str] = []
    for split, file in found:
        sizes |= _sizes_of(file.parent / SIZES)
        split_of = {} if split else _splits_of(file.parent / SPLITS)
        for id, regions in _read_file(file):
            own = split or (split_of.get(id, "") if split_of else "all")
            if own and str(id) not in places:
                orphans.append(f"{files.relative(file, home)}: image {id}")
            elif own:
                by_split.setdefault(own, []).append((id, regions, file))
    order = files.in_order(by_split)
    builder, phrases = Builder(), []
    for number, split in enumerate(order):
        for id, regions, file in by_split[split]:
            image = places[str(id)]
            size = sizes.get(id) or files.header_size(image)
            builder.add_image(files.relative(image, base), size, number, files.relative(file, base))
            for box, phrase in regions:
                builder.add_object(box, 0)
                phrases.append(phrase)
    if not order:
        raise files.none_found(given, orphans, "for images named by their ids, such as 1.jpg")
    columns = builder.build(captions=Blob.of(phrases))
    names, own_splits = columns.names.texts(), columns.splits.tolist()
    notes = (f"{counted(len(orphans), 'image')} of the regions left out, because there is no file",) if orphans else ()
    return Dataset(
        Source(
            columns=columns,
            classes=Classes([name]),
            about="captions",
            root=base,
            format="visual-genome",
            split_names=tuple(order),
            folders=tuple(
                files.common_folder([own for own, split in zip(names, own_splits, strict=True) if split == k])
                for k in range(len(order))
            ),
            orphans=tuple(orphans),
            notes=notes,
        )
    )


def _class_name(given: Path, classes: Sequence[str] | None) -> str:
    if classes is not None and len(classes) != 1:
        raise InputError(f"the regions of {given} have no classes, so all have one; give one name, not {list(classes)}")
    return "region" if classes is None else classes[0]


def _looks_right(file: Path) -> bool:
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    head = head_of(file)
    return head.lstrip().startswith(b"[") and all(key in head for key in _KEYS)


def _images_of(folder: Path) -> dict[str, Path]:
    """The images below a folder by their name without suffix; of several the first."""
    found: dict[str, Path] = {}
    for name in files.images_below(folder):
        found.setdefault(Path(name).stem, folder / name)
    return found


def _sizes_of(file: Path) -> dict[int, Size]:
    """(height, width) of images by their id, if the file exists."""
    if not file.is_file():
        return {}
    values = read_json(file, list)
    for number, value in enumerate(values):
        require_entries(value, _SIZE, f"{file}: entry {number}", _REPAIR)
    return {value["image_id"]: (value["height"], value["width"]) for value in values}


def _splits_of(file: Path) -> dict[int, str]:
    """The split of images by their id, if the file exists."""
    if not file.is_file():
        return {}
    values = read_json(file, dict)
    require_entries(values, {str: [int]}, str(file), _REPAIR)
    return {id: files.split_name(split) for split, ids in values.items() for id in ids}


def _read_file(file: Path) -> Iterator[tuple[int, list[_Region]]]:
    """Id and regions of each image; what cannot be used is skipped (`sightline.data.malformed`)."""
    first: dict[int, int] = {}
    for number, entry in enumerate(_entries(file)):
        try:
            require_entries(entry, {"regions": [dict]}, f"{file}: entry {number}", _REPAIR)
            id = entry.get("id", entry.get("image_id"))
            if not isinstance(id, int):
                raise InputError(f'{file}: entry {number} has no whole number as "id" of its image; {_REPAIR}')
            if first.setdefault(id, number) != number:
                raise InputError(
                    f"{file}: entry {number} has the image id {id} of entry {first[id]}, but each image has one entry; "
                    "correct the id, or join the two"
                )
        except InputError as error:
            skip_label(error, file)
            continue
        regions: list[_Region] = []
        for place, region in enumerate(entry["regions"]):
            try:
                own = region.get("region_id", place)
                require_entries(region, _REGION, f"image {id}, region {own}", _REPAIR)
            except InputError as error:
                skip_label(InputError(f"{file}: {error}"), file)
                continue
            x, y = float(region["x"]), float(region["y"])
            box = [x, y, x + float(region["width"]), y + float(region["height"])]
            regions.append((box, " ".join(region["phrase"].split())))
        yield id, regions


def _entries(file: Path) -> Iterator[Any]:
    """The entries of the list in a file, one after the other: all at once take ten times the memory of the text."""
    text, decoder = files.read_text(file), json.JSONDecoder()
    at = _after_space(text, 0)
    if text[at : at + 1] != "[":
        raise InputError(f"{file} holds {kind_of(read_json(file))}, but a list of images is expected; correct it")
    at = _after_space(text, at + 1)
    while text[at : at + 1] != "]":
        try:
            value, at = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            read_json(file)  # raises, with line and column
            raise
        yield value
        at = _after_space(text, at)
        if text[at : at + 1] not in (",", "]"):
            read_json(file)
        at = _after_space(text, at + (text[at] == ","))


def _after_space(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at

"""CreateML JSON: [{"image": …, "annotations": [{"label": …, "coordinates": {"x", "y", "width", "height"}}]}, …].

x and y are the CENTRE of the box, in pixels.

These layouts are recognised, with the images beside the file or in images/ (or the folder given by images=):

- one .json for all images, or one per image, in the folder itself or in annotations/;
- SPLIT/*.json beside the images (Roboflow's _annotations.createml.json);
- the path of one such file.

Classes are in the order of classes.txt (one name per line) if it exists, else sorted. Crowd flags, captions and similar
data are written as "attributes" of an object, which CreateML ignores.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.gather import Gather
from sightline.data.formats.listed import Listed, assemble, files_to_read, head_of, recognised
from sightline.data.formats.voc_lists import read_list
from sightline.data.formats.voc_write import not_held
from sightline.errors import InputError
from sightline.runtime.reading import read_json
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "CreateML: *.json with images and the coordinates of boxes"
_CLASSES = "classes.txt"
_SIDES = ("x", "y", "width", "height")
_NAMES = ("image", "imagefilename", "filename")


def recognise(root: Path) -> str | None:
    """A description of the CreateML file found in a folder (or `root` itself, if it is one); None if there is none."""
    return recognised(root, ".json", _looks_right)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read CreateML JSON. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    expected = "CreateML file (a .json with images and coordinates); give its path"
    found = files_to_read(root, splits, ".json", _looks_right, expected, most=10**6)
    listed: list[Listed] = []
    for split, file in found:
        listed += _read_file(file, split)
    if not splits and all(files.without_suffix(one.name) == one.file.stem for one in listed):
        for one in listed:  # one file per image: an image named like a split does not define one
            above = itertools.takewhile(lambda folder: folder != root, one.file.parents)
            one.split = next((name for f in above if (name := files.split_name(f.name)) in files.ORDER), "all")
    home = files.home_of(root)
    names = next((read_list(f) for f in (home / _CLASSES, found[0][1].with_name(_CLASSES)) if f.is_file()), None)
    return assemble(root, "createml", listed, _add, Gather(classes, names), images=images)


def _looks_right(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    head = head_of(file)
    if not head.lstrip().startswith(b"[") or not any(b'"%s"' % name.encode() in head for name in _NAMES):
        return False
    return b'"coordinates"' in head or (b'"annotations"' in head and b'"data"' not in head)


def _read_file(path: Path, split: str) -> list[Listed]:
    """The images of a file."""
    content = read_json(path, list)
    listed: list[Listed] = []
    for k, entry in enumerate(content):
        name = next((entry[n] for n in _NAMES if n in entry), None) if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            raise InputError(f'{path}: entry {k} names no "image"; write its file\'s name')
        objects = entry.get("annotations", entry.get("annotation")) or []
        if not isinstance(objects, list):
            raise InputError(f"{path}: {name} has annotations that are not a list; export the file again")
        listed.append(Listed(name, path, split, entries=[*enumerate(objects)]))
    return listed


def _add(gather: Gather, one: Listed, entry: tuple[int, Any], size: Size) -> None:
    number, content = entry
    where = f"{one.file}: {one.name}: object {number}"
    place = content.get("coordinates") if isinstance(content, dict) else None
    if not isinstance(place, dict) or not all(side in place for side in _SIDES):
        raise InputError(f'{where} has no "coordinates" with x, y, width and height; correct or remove it')
    label = content.get("label")
    if not isinstance(label, str | int) or label == "":
        raise InputError(f'{where} has no "label"; write its class, or remove it')
    x, y, width, height = shapes.as_numbers([place[side] for side in _SIDES], where)
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    attributes = content.get("attributes")
    gather.object(where, str(label), box=box, attributes=attributes if isinstance(attributes, dict) else {})


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as CreateML: SPLIT/_annotations.createml.json beside its images.

    Args:
        dataset: a dataset of kind "instances".
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    columns = dataset.columns
    whole = dataset.splits == ("all",)
    content: dict[Path, list[dict[str, Any]]] = {}
    for i, name in enumerate(files.image_names(dataset)):
        folder = out if whole else out / dataset.split_of(i)
        files.write_image(dataset, i, folder / name, symlink)
        objects = []
        for a in columns.objects_of(i):
            x1, y1, x2, y2 = columns.boxes[a].tolist()
            place = dict(zip(_SIDES, shapes.plain([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]), strict=True))
            known = shapes.attributes_of(columns, a)
            more = {"attributes": known} if known else {}
            objects.append({"label": dataset.classes[int(columns.labels[a])], "coordinates": place, **more})
        content.setdefault(folder, []).append({"image": name, "annotations": objects})
    for folder, entries in content.items():
        text = json.dumps(entries, ensure_ascii=False)
        (folder / "_annotations.createml.json").write_text(text, encoding="utf-8")
    (out / _CLASSES).write_text("".join(f"{name}\n" for name in dataset.classes), encoding="utf-8")
    return not_held(dataset, columns, frozenset([*shapes.FLAGS, *shapes.TEXTS, "captions", "other"]))

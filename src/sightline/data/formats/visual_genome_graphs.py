"""Visual Genome's scene graphs: objects and the relations between them.

These layouts are recognised, with the images in VG_100K/ and VG_100K_2/, in images/ or beside the file (or the folder
given by images=), each named by its id (1.jpg):

- scene_graphs.json: [{"image_id", "objects": [{"object_id", "x", "y", "w", "h", "names"}], "relationships":
  [{"predicate", "subject_id", "object_id"}]}];
- relationships.json: [{"image_id", "relationships": [{"predicate", "subject": {an object}, "object": {an object}}]}],
  with the other objects of the images in objects.json if it is there;
- the path of one of these files.

image_data.json states the sizes of the images; without it they are read from the images. Names and predicates are in
lower case without spaces around them; an object has the first of its names as its class. As in Xu et al., "Scene graph
generation by iterative message passing", CVPR 2017, section 5, objects of the 150 most frequent classes and relations
with the 50 most frequent predicates are read (of the files as a whole, while the paper also merges synonyms);
`dataset.notes` says how much this leaves out. With classes= the objects of these classes are read, and all predicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.graphs import GraphObject, ImageGraph, dataset_of_graphs
from sightline.data.formats.listed import Listed, head_of
from sightline.data.malformed import skip_label
from sightline.errors import InputError
from sightline.runtime.reading import read_json

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "Visual Genome: scene_graphs.json, or relationships.json with objects.json"
_NAMES = ("scene_graphs.json", "relationships.json")
_CLASSES, _PREDICATES = 150, 50
_FOLDERS = ("VG_100K", "VG_100K_2")


def recognise(root: Path) -> str | None:
    """A description of the file found in a folder (or `root` itself, if it is one); None if there is none."""
    file = _file(root)
    return None if file is None else file.name


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read Visual Genome's scene graphs. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    home = files.home_of(root)
    given = {name: files.resolve(home, place).absolute() for name, place in (splits or {}).items()}
    found = given or {"all": _file(root) or root / _NAMES[0]}
    graphs: list[ImageGraph] = []
    for split, place in found.items():
        file = _file(place)
        if file is None:
            raise InputError(f"{place} contains no {' or '.join(_NAMES)} with relationships; name the file")
        graphs += _read_file(file, split, classes)
    most = (_CLASSES, _PREDICATES) if classes is None else (None, None)
    return dataset_of_graphs(
        root, "visual-genome-graphs", graphs, classes, images, most_classes=most[0], most_predicates=most[1]
    )


def _file(root: Path) -> Path | None:
    candidates = [root] if root.is_file() else [root / name for name in _NAMES]
    return next((file for file in candidates if file.is_file() and _looks_right(file)), None)


def _looks_right(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    head = head_of(file)
    # the objects of a first image may be longer than the head
    return head.lstrip().startswith(b"[") and (
        b'"relationships"' in head or (file.name == _NAMES[0] and b'"objects"' in head)
    )


def _read_file(file: Path, split: str, classes: Sequence[str] | None) -> list[ImageGraph]:
    sizes = _sizes(file.with_name("image_data.json"))
    objects = file.with_name("objects.json")
    nested = file.name != _NAMES[0]
    own: dict[Any, list[Any]] = {}
    if nested and objects.is_file():
        for number, entry in enumerate(read_json(objects, list)):
            own[_image_id(entry, number, objects)] = _list(entry, "objects", objects)
    graphs = []
    first: dict[Any, int] = {}
    for number, entry in enumerate(read_json(file, list)):
        id = _image_id(entry, number, file)
        if first.setdefault(id, number) != number:
            twice = f"{file}: entry {number} has the image_id {id} of entry {first[id]}, but each image has one entry"
            skip_label(InputError(f"{twice}; correct the id, or join the two"), file)
            continue
        names = tuple(f"{folder}/{id}.jpg" for folder in _FOLDERS)
        graph = ImageGraph(Listed(f"{id}.jpg", file, split, sizes.get(id, (0, 0)), other_names=(*names, f"{id}.png")))
        where, source = f"{file}: image {id}", objects if nested else file
        stated = own.get(id, []) if nested else _list(entry, "objects", file)
        for k, one in enumerate(stated):
            _guarded(source, _add_stated, graph, one, f"{source}: image {id}: object {k}", classes)
        for k, one in enumerate(_list(entry, "relationships", file)):
            _guarded(file, _add_relation, graph, one, f"{where}: relationship {k}", classes)
        graphs.append(graph)
    return graphs


def _guarded(file: Path, add: Any, graph: ImageGraph, entry: Any, where: str, classes: Sequence[str] | None) -> None:
    try:
        add(graph, entry, where, classes)
    except InputError as error:
        skip_label(error, file)


def _image_id(entry: Any, number: int, file: Path) -> Any:
    id = entry.get("image_id", entry.get("id")) if isinstance(entry, dict) else None
    if not isinstance(id, int | str):
        raise InputError(f'{file}: entry {number} has no "image_id"; download the file again')
    return id


def _list(entry: Mapping[str, Any], key: str, file: Path) -> list[Any]:
    value = entry.get(key)
    if not isinstance(value, list):
        raise InputError(f'{file}: image {entry.get("image_id", entry.get("id"))} has no list "{key}"; correct it')
    return value


def _add_object(graph: ImageGraph, entry: Any, where: str, classes: Sequence[str] | None) -> int | None:
    """Add an object if it is not there yet; return its id, or None if it is of another class than the given ones."""
    id = entry.get("object_id") if isinstance(entry, dict) else None
    if not isinstance(id, int):
        raise InputError(f'{where} has no "object_id"; correct or remove it')
    if id not in graph.objects:
        names = entry.get("names") or [entry.get("name")]
        label = names[0].strip().lower() if isinstance(names, list) and isinstance(names[0], str) else ""
        if not label:
            raise InputError(f'{where} has no "names"; write its class, or remove it')
        sides = [entry.get(key) for key in ("x", "y", "w", "h")]
        if None in sides:
            raise InputError(f'{where} has no box with "x", "y", "w" and "h"; correct or remove it')
        x, y, width, height = shapes.as_numbers(sides, where)
        if classes is None or label in classes:
            graph.objects[id] = GraphObject(id, label, (x, y, x + width, y + height), where)
        else:
            return None
    return id


def _add_stated(graph: ImageGraph, entry: Any, where: str, classes: Sequence[str] | None) -> None:
    """Add an object of a list of objects, in which each id occurs once."""
    id = entry.get("object_id") if isinstance(entry, dict) else None
    known = graph.objects.get(id) if isinstance(id, int) else None
    if known is not None:
        raise InputError(
            f"{where} has the object_id {known.id} of another object of this image, {known.label!r}; give each object "
            "an id of its own, or remove the copy"
        )
    _add_object(graph, entry, where, classes)


def _add_relation(graph: ImageGraph, entry: Any, where: str, classes: Sequence[str] | None) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("predicate"), str):
        raise InputError(f'{where} has no "predicate"; correct or remove it')
    if isinstance(entry.get("subject"), dict) and isinstance(entry.get("object"), dict):
        ends = [_add_object(graph, entry[end], f"{where}: {end}", classes) for end in ("subject", "object")]
    else:
        ends = [entry.get("subject_id"), entry.get("object_id")]
        if not all(isinstance(end, int) for end in ends):
            raise InputError(f'{where} has no "subject_id" and "object_id"; correct or remove it')
        if classes is not None and not all(end in graph.objects for end in ends):
            return  # of another class
    if None not in ends:
        graph.relate(ends[0], entry["predicate"].strip().lower(), ends[1], where)  # type: ignore[arg-type]


def _sizes(file: Path) -> dict[Any, tuple[int, int]]:
    """(height, width) by image id, from image_data.json; empty without the file."""
    if not file.is_file():
        return {}
    found = {}
    for number, entry in enumerate(read_json(file, list)):
        id = _image_id(entry, number, file)
        sides = (entry.get("height"), entry.get("width"))
        if not all(isinstance(side, int) and side > 0 for side in sides):
            raise InputError(f"{file}: image {id} has the size {sides[1]} × {sides[0]}, but it must be whole pixels")
        found[id] = sides
    return found

"""JSON export of Label Studio, full (JSON) or short (JSON-MIN).

These layouts are recognised, with the images beside the file, in images/, or anywhere below (or the folder given by
images=):

- one .json for all images, in the folder itself or in annotations/;
- SPLIT/*.json;
- the path of one such file.

The image is the one named in the task's data: the last part of its URL, without the eight-digit prefix of uploads if no
file has that name. Coordinates are percentages of the image's width and height. Results are rectanglelabels,
polygonlabels, ellipselabels, keypointlabels and brushlabels; `sightline.data.formats.shapes` describes how they are
read. A rectangle is rotated around its top-left corner. Brush masks in Label Studio's run-length code are decoded;
opaque pixels are inside. If a region has several labels, the first is its class; all are kept in the extra column
"other". Choices and texts are kept in the image's extra data.

If a task has several annotations, the newest that is not cancelled is used. Tasks without annotations are left out, and
`dataset.notes` gives their number. Classes are those that occur, sorted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from sightline.data.dataset import Dataset
from sightline.data.formats import shapes
from sightline.data.formats.gather import Gather
from sightline.data.formats.label_studio_brush import decode_brush
from sightline.data.formats.listed import Listed, assemble, files_to_read, head_of, recognised
from sightline.data.images import is_image
from sightline.errors import InputError
from sightline.runtime.reading import read_json
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "Label Studio: *.json with tasks and their results"
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "keypointlabels", "brushlabels", "labels")
_ABOUT_IMAGES = frozenset(["choices", "textarea", "rating", "number", "taxonomy", "datetime", "pairwise", "ranker"])


def recognise(root: Path) -> str | None:
    """A description of the Label Studio file found in a folder (or `root` itself); None if there is none."""
    return recognised(root, ".json", _looks_right)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a Label Studio export. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    expected = "Label Studio export (a .json with tasks); give its path"
    found = files_to_read(root, splits, ".json", _looks_right, expected)
    listed: list[Listed] = []
    notes: list[str] = []
    for split, file in found:
        tasks = _tasks(file)
        mine = [one for k, task in enumerate(tasks) if (one := _listed(task, f"{file}: task {k}", file, split))]
        if len(mine) < len(tasks):
            notes.append(f"{file.name}: {len(tasks) - len(mine)} tasks without annotations are left out")
        if several := sum(len(_annotations(task)) > 1 for task in tasks):
            notes.append(f"{file.name}: tasks with several annotations, of which the newest is used: {several}")
        if several := sum(len(_labels(result["value"])) > 1 for one in mine for _, result in one.entries):
            notes.append(f"{file.name}: regions with several labels, of which the first is the class: {several}")
        listed += mine
    if not listed:
        raise InputError(f"{found[0][1]} contains no task with annotations; label the images, and export it again")
    return assemble(root, "label-studio", listed, _add, Gather(classes), images=images, relative=True, notes=notes)


def _looks_right(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    head = head_of(file)
    if not head.lstrip().startswith(b"["):
        return False
    if b'"data"' in head and b'"annotations"' in head and (b'"result"' in head or b'"predictions"' in head):
        return True
    return b'"original_width"' in head and any(b'"%s"' % name.encode() in head for name in _LABELS)


def _tasks(path: Path) -> list[dict[str, Any]]:
    content = read_json(path, list)
    if not all(isinstance(task, dict) for task in content):
        raise InputError(f"{path} is not a Label Studio file: it must be a list of tasks")
    return content


def _listed(task: dict[str, Any], where: str, file: Path, split: str) -> Listed | None:
    """The image of a task with its results; None if the task has not been annotated."""
    results = _results(task, where)
    if results is None:
        return None
    data = task.get("data") if isinstance(task.get("data"), dict) else task
    names = _image_names(data or {}, task, where)
    regions: list[tuple[int, dict[str, Any]]] = []
    extra: dict[str, Any] = {}
    size: Size = (0, 0)
    for k, result in enumerate(results):
        kind, value = result.get("type"), result.get("value")
        if not isinstance(kind, str):
            raise InputError(f'{where}: result {k} has the "type" {kind!r}, but a type is a string; export it again')
        if not isinstance(value, dict):
            if kind == "relation":
                continue
            raise InputError(f'{where}: result {k} has no "value"; draw it again or remove it')
        if kind in _ABOUT_IMAGES and not any(key in value for key in ("x", "points", "rle")):
            extra[str(result.get("from_name", kind))] = value.get(kind, value)
            continue
        stated = [result.get(f"original_{side}") for side in ("height", "width")]
        if all(isinstance(side, int) and side > 0 for side in stated):
            size = (int(stated[0] or 0), int(stated[1] or 0))
        regions.append((k, result))
    return Listed(names[0], file, split, size, list(regions), extra, names[1:])


def _results(task: dict[str, Any], where: str) -> list[dict[str, Any]] | None:
    """The results of the annotation that is used; None if the task has not been annotated."""
    annotations = task.get("annotations", task.get("completions"))
    if annotations is None:  # JSON-MIN: results are lists in the task itself
        found: list[dict[str, Any]] = []
        for name, values in task.items():
            for value in values if isinstance(values, list) else []:
                if isinstance(value, dict) and "original_width" in value:
                    kind = next((key for key in _LABELS if key in value), "")
                    found.append({**value, "from_name": name, "type": kind, "value": value})
        return found or None
    if not isinstance(annotations, list):
        raise InputError(f"{where} has annotations that are not a list; export the file again")
    valid = _annotations(task)
    if not valid:
        return None
    newest = max(valid, key=lambda a: str(a.get("updated_at") or a.get("created_at") or ""))
    results = newest.get("result") or []
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise InputError(f"{where} has a result that is not a list of regions; export the file again")
    return results


def _annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations that were finished."""
    found = task.get("annotations", task.get("completions"))
    every = [a for a in found if isinstance(a, dict)] if isinstance(found, list) else []
    return [a for a in every if not a.get("was_cancelled") and not a.get("skipped")]


def _labels(value: dict[str, Any]) -> list[str]:
    """The labels of a region; empty if it has none."""
    found: list[Any] = next((value[name] for name in _LABELS if isinstance(value.get(name), list) and value[name]), [])
    return [str(label) for label in found]


def _image_names(data: dict[str, Any], task: dict[str, Any], where: str) -> tuple[str, ...]:
    """The name of a task's image, and alternative names."""
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    keys = [key for key in ("image", "img", "image_url", "url", *texts) if key in texts]
    names = [_name(texts[key]) for key in keys]
    name = next((name for name in names if is_image(name)), None)
    if name is None:
        raise InputError(f"{where} has no image in its data; export it again with the URLs of the images")
    *folders, last = name.split("/")
    uploaded = _UPLOADED.fullmatch(last)
    others = ["/".join([*folders, uploaded[1]]), uploaded[1]] if uploaded else []
    return tuple(dict.fromkeys([name, last, *others]))


def _name(address: str) -> str:
    """The path in a URL: of a web address, a bucket, or a local file that Label Studio serves (?d=path)."""
    try:
        parts = urlsplit(address)
        local = parse_qs(parts.query).get("d")
    except ValueError:  # not a URL: the name is used as it is
        return address
    if local:
        return local[0]
    return unquote(parts.path) if parts.scheme or "?" in address or "%" in address else address


def _add(gather: Gather, one: Listed, entry: tuple[int, dict[str, Any]], size: Size) -> None:
    number, result = entry
    value = result["value"]
    where = f"{one.file}: {one.name}: result {number}"
    labels = _labels(value)
    if not labels:
        raise InputError(f"{where} has no label; give the region one, or remove it")
    if result.get("image_rotation"):
        raise InputError(
            f"{where} was drawn on the image rotated by {result['image_rotation']} degrees, which is not supported; "
            "rotate the image file and draw it again"
        )
    attributes = {"labels": labels} if len(labels) > 1 else {}
    height, width = size if all(size) else (math.nan, math.nan)

    def get(*names: str) -> list[float]:
        return shapes.as_numbers([value.get(name) for name in names], where)

    angle = get("rotation")[0] if value.get("rotation") else 0.0
    if isinstance(value.get("rle"), list):
        stated = [result.get(f"original_{side}") for side in ("height", "width")]
        rle = decode_brush(value["rle"], stated, where)
        gather.object(where, labels[0], rle=rle, attributes=attributes)
    elif isinstance(value.get("points"), list):
        try:
            flat = [coordinate for x, y in value["points"] for coordinate in (x, y)]
        except (TypeError, ValueError):
            flat = []
        numbers = shapes.as_numbers(flat, where, even=True)
        points = [v / 100 * (height if k % 2 else width) for k, v in enumerate(numbers)]
        gather.object(where, labels[0], polygons=[shapes.plain(points, 4)], attributes=attributes)
    elif "radiusX" in value:
        cx, cy, rx, ry = get("x", "y", "radiusX", "radiusY")
        shape = {"kind": "ellipse", "cx": cx / 100 * width, "cy": cy / 100 * height}
        shape |= {"rx": rx / 100 * width, "ry": ry / 100 * height} | ({"angle": angle} if angle else {})
        gather.object(where, labels[0], shape=shape, attributes=attributes)
    elif value.get("keypointlabels") or "height" not in value:
        x, y = get("x", "y")
        shape = {"kind": "points", "points": [x / 100 * width, y / 100 * height]}
        gather.object(where, labels[0], shape=shape, attributes=attributes)
    else:
        x, y, w, h = get("x", "y", "width", "height")
        x, y, w, h = x / 100 * width, y / 100 * height, w / 100 * width, h / 100 * height
        if angle % 360 == 0:
            gather.object(where, labels[0], box=(x, y, x + w, y + h), attributes=attributes)
            return
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        cx, cy = x + (w * cos - h * sin) / 2, y + (w * sin + h * cos) / 2
        box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        gather.object(where, labels[0], shape={"kind": "box", "box": box, "angle": angle}, attributes=attributes)

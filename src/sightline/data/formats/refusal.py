"""Error messages for paths that are not datasets: the format they resemble, and what is missing."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from sightline.data.formats import files
from sightline.data.formats.archives import SUFFIXES
from sightline.data.formats.listed import head_of
from sightline.data.images import is_image
from sightline.errors import InputError
from sightline.runtime.reading import is_hidden, shown
from sightline.words import counted, listed

WHERE = "docs/formats.md lists the formats"
_MOST = 20_000
"""The maximum number of files that are counted."""
_DEEP = 3
_NOT_READ = {
    ".tfrecord": "TFRecord, which is not supported: export the data as COCO or VOC",
    ".tfrecords": "TFRecord, which is not supported: export the data as COCO or VOC",
    ".mat": "MATLAB files, which are not supported: export the data as COCO or as masks",
    ".lmdb": "LMDB, which is not supported: export the data as files",
    ".record": "TFRecord, which is not supported: export the data as COCO or VOC",
}


def not_recognised(root: Path, recognise: Callable[[Path], Mapping[str, str]]) -> InputError:
    """The error for a path in which no format was recognised.

    Args:
        root: the folder or file.
        recognise: returns the formats recognised in a folder, with their evidence; called for the subfolders.
    """
    name = shown(root)
    if root.is_file():
        return InputError(f"{name} is not a label file in a known format. {_of_file(root)}; {WHERE}")
    counts, images_in = _contents(root)
    total = sum(counts.values())
    many = "more than " if total >= _MOST else ""
    parts = [counted(counts["images"])] if counts["images"] else []
    parts += [f"{count} {suffix}" for suffix, count in counts.most_common() if suffix != "images"][:3]
    holds = f"{many}{', '.join(parts)}" if parts else "no files"
    inside = _datasets_inside(root, recognise)
    if len(inside) == 1:
        advice = f"Its folder {inside[0]} is a dataset: give that path"
    elif inside:
        more = ", …" if len(inside) > 3 else ""
        advice = f"Its folders {', '.join(inside[:3])}{more} are datasets: give one of them"
    else:
        advice = _nearest(root, counts, images_in)
    if any(one.endswith("(folders)") for one in inside):
        advice += _or_as_classes(images_in, root)
    return InputError(f"{name} contains {holds}, but it is not a dataset in a known format. {advice}; {WHERE}")


def _contents(root: Path) -> tuple[Counter[str], Counter[str]]:
    """The number of images and of files with each suffix, and the number of images in each folder."""
    counts: Counter[str] = Counter()
    images_in: Counter[str] = Counter()
    for at, folders, names in os.walk(root):
        depth = len(Path(at).relative_to(root).parts)
        folders[:] = [f for f in sorted(folders) if not is_hidden(f)] if depth < _DEEP else []
        for name in names:
            if is_hidden(name):
                continue
            if is_image(name):
                counts["images"] += 1
                images_in[at] += 1
            else:
                counts[os.path.splitext(name)[1].lower() or "without ending"] += 1
        if sum(counts.values()) >= _MOST:
            break
    return counts, images_in


def _datasets_inside(root: Path, recognise: Callable[[Path], Mapping[str, str]]) -> list[str]:
    """The subfolders that are datasets, each with its format."""
    found = []
    for folder in sorted(f for f in root.iterdir() if f.is_dir() and not is_hidden(f.name))[:20]:
        try:
            formats = recognise(folder)
        except (InputError, OSError):
            continue
        if formats:
            found.append(f"{shown(folder.name)} ({' or '.join(formats)})")
    return found


def _nearest(root: Path, counts: Counter[str], images_in: Counter[str]) -> str:
    """The format that a folder resembles most, and what is missing."""
    for suffix, what in _NOT_READ.items():
        if counts[suffix]:
            return f"It looks like {what}"
    packed = next((file for suffix in SUFFIXES for file in sorted(root.glob(f"*{suffix}"))), None)
    if packed is not None and not counts["images"]:
        return f"Its images may be in {shown(packed.name)}: give the path of that file, or unpack it there"
    for suffix in (".json", ".csv", ".xml", ".txt"):
        if counts[suffix]:
            file = next(iter(sorted(root.glob(f"*{suffix}")) or sorted(root.rglob(f"*{suffix}"))[:1]), None)
            words = _of_file(file) if file is not None else ""
            if words:
                return words
    only = _only_class(root, images_in)
    if only is not None:
        return (
            f"All its images are in folders named {shown(only)}, and a classifier needs the folders of two classes: "
            "add another; for boxes, add labels such as a COCO .json or YOLO .txt"
        )
    if len(images_in) > 1 and counts["images"]:
        return (
            "For masks, put the images into images/ and masks with the same names into masks/; for boxes, add "
            f"labels such as a COCO .json or YOLO .txt{_or_as_classes(images_in, root)}"
        )
    if counts["images"]:
        return "Its images have no labels: add them, such as a COCO .json or a YOLO .txt for each image"
    return "Give the folder that contains the images and their labels"


def _or_as_classes(images_in: Mapping[str, int], root: Path) -> str:
    """How to read the folders directly below `root` as classes, if at least two of them hold images; otherwise ""."""
    below = [Path(at).relative_to(root).parts for at in images_in]
    names = sorted({parts[0] for parts in below if parts})
    if len(names) < 2 or any(files.of_layout(name) or files.split_name(name) in files.ORDER for name in names):
        return ""
    folders = listed([shown(name) for name in names], 3)
    return f"; if its folders ({folders}) are the classes of their images, add --format folders (in Python format=)"


def _only_class(root: Path, images_in: Mapping[str, int]) -> str | None:
    """The name of the folder or folders that hold all images, if it may be that of a class; None otherwise."""
    names = {Path(at).name for at in images_in if Path(at) != root}
    if len(names) != 1 or str(root) in images_in:
        return None
    (name,) = names
    return None if files.of_layout(name) or files.split_name(name) in files.ORDER else name


def _of_file(file: Path) -> str:
    """The format that one file resembles, and what is missing."""
    name, suffix = shown(file.name), file.suffix.lower()
    head = head_of(file)
    if not head.strip():
        return f"{name} is empty: export it again"
    if suffix == ".json":
        return _of_json(name, head)
    if suffix == ".xml":
        if b"<imagesize>" in head:
            return f"{name} looks like LabelMe XML, which is not supported: export the data as COCO"
        return f"{name} is neither a VOC label (<annotation> with <size> and <object>) nor CVAT (<annotations>)"
    if suffix == ".csv":
        first = shown(head.decode("utf-8", "replace").splitlines()[0])[:60]
        return (
            f"{name} lacks columns for the image and its box ({first!r}): name them filename, xmin, ymin, xmax, ymax, "
            "class; for images without boxes, filename and class"
        )
    if suffix == ".txt":
        first = shown(head.decode("utf-8", "replace").strip().splitlines()[0])[:40]
        return f"{name} is not a YOLO label, whose lines are 'class x y width height' as fractions, not {first!r}"
    if suffix in (".yaml", ".yml"):
        return f'{name} does not describe YOLO data: it needs "names" and "train" or "val"'
    if suffix in _NOT_READ:
        return f"It looks like {_NOT_READ[suffix]}"
    if is_image(file):
        return "It is an image: give the folder that contains the images and their labels"
    files_so = f"Files with the suffix {suffix}" if suffix else "Files without a suffix"
    return f"{files_so} are not labels: give a folder, a .json, a .csv or a data.yaml"


def _of_json(name: str, head: bytes) -> str:
    if b'"vid_list"' in head:
        return f"{name} looks like VIA 3, which is not supported: export the data as COCO"
    if b'"assets"' in head and b'"tags"' in head:
        return f"{name} looks like a VoTT project: export it as CSV"
    if b'"DataRow ID"' in head or b'"data_row"' in head:
        return f"{name} looks like Labelbox, which is not supported: export the data as COCO"
    known = [key for key in ("images", "annotations", "categories") if f'"{key}"'.encode() in head]
    if known:
        lacking = [key for key in ("images", "annotations", "categories") if key not in known]
        return f"{name} looks like COCO, but lacks {' and '.join(repr(key) for key in lacking)}"
    if b'"shapes"' in head:
        return f"{name} looks like LabelMe, but lacks 'imagePath'"
    if b'"bbox"' in head and b'"score"' in head:
        return f"{name} looks like detections, not labels: give the file or folder with the labels"
    try:
        content = json.loads(head)
        keys = list(content if isinstance(content, dict) else content[0])
        return f"{name} has the keys {', '.join(map(str, keys[:4]))}, which match no known format: export it as COCO"
    except (ValueError, TypeError, LookupError, RecursionError):
        return f"{name} is JSON in an unknown format: export it as COCO"

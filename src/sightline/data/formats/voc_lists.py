"""The text files of a Pascal VOC folder: image lists, and CVAT's class list."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

from sightline.data.formats.files import in_order, read_text, split_name, without_suffix
from sightline.data.images import is_image
from sightline.errors import InputError

_MARKED = re.compile(r"(\S+)\s+(-1|0|1)")
"""A line of a list for a single class: the image, and whether it contains the class."""
_LABEL = re.compile(r".+:\d+,\d+,\d+:[^:]*:[^:]*")
"""A line of labelmap.txt that defines a class."""
_BACKGROUND = "background:0,0,0::"


def image_lists(root: Path, known: Container[str]) -> list[tuple[str, Path, list[str]]]:
    """(split, file, image names without suffix) of each list in ImageSets/Main, or in ImageSets itself.

    Args:
        root: the folder that contains ImageSets.
        known: the existing images, without suffix.
    """
    for folder in (root / "ImageSets" / "Main", root / "ImageSets"):
        files = sorted(folder.glob("*.txt"))
        if files:
            break
    else:
        return []
    stems = {file.stem for file in files}
    found: dict[str, tuple[Path, list[str]]] = {}
    for file in files:
        lines = read_list(file)
        if "_" in file.stem and (
            file.stem.rsplit("_", 1)[1] in stems or (lines and all(map(_MARKED.fullmatch, lines)))
        ):
            continue  # a list for a single class
        name = split_name(file.stem)
        found[file.stem if name in found else name] = (file, [_image_name(line, known) for line in lines])
    if {"train", "val"} <= found.keys():
        found.pop("trainval", None)
    return [(name, *found[name]) for name in in_order(found)]


def read_list(file: Path) -> list[str]:
    """The non-empty lines of a list."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def names_in(file: Path, known: Container[str]) -> list[str]:
    """The image names, without suffix, in a list; `known` are the existing images."""
    return [_image_name(line, known) for line in read_list(file)]


def _image_name(line: str, known: Container[str]) -> str:
    marked = _MARKED.fullmatch(line)
    name = (marked[1] if marked else line).replace("\\", "/")
    return name if name in known or not is_image(name) else without_suffix(name)  # "a.jpg" may stand for a.jpg.png


def read_class_list(root: Path) -> list[str] | None:
    """The names in labelmap.txt ("name:r,g,b:parts:actions" per line), without the background; None if missing."""
    file = root / "labelmap.txt"
    if not file.is_file():
        return None
    lines = [line for line in read_list(file) if not is_comment(line) and line != _BACKGROUND]
    names = [line.rsplit(":", 3)[0] if line.count(":") >= 3 else line for line in lines]
    if len(set(names)) < len(names):
        again = next(name for k, name in enumerate(names) if name in names[:k])
        raise InputError(f"{file} names the class {again!r} twice; remove one")
    return names


def is_comment(line: str) -> bool:
    """Whether a line of labelmap.txt is a comment: a class name may begin like one."""
    return line.startswith("#") and not _LABEL.fullmatch(line)


def write_class_list(root: Path, names: list[str]) -> None:
    """Write labelmap.txt, with VOC's colours for the ids 1, 2, …"""
    lines = ["# label:color_rgb:parts:actions", _BACKGROUND]
    lines += [f"{name}:{','.join(map(str, colour(k + 1)))}::" for k, name in enumerate(names)]
    (root / "labelmap.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def colour(id: int) -> tuple[int, int, int]:
    """The colour of an id in VOC's palette: its bits, three at a time, are the top bits of red, green and blue."""
    rgb = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            rgb[channel] |= (id >> (3 * bit + channel) & 1) << (7 - bit)
    return rgb[0], rgb[1], rgb[2]

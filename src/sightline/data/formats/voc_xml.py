"""One Pascal VOC file: the XML of an image's objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from sightline.data.malformed import skip_label
from sightline.errors import InputError
from sightline.runtime import reading
from sightline.structures import Size


@dataclass(frozen=True)
class VocObject:
    """An object as stored in the file: box x1, y1, x2, y2 in the file's pixel coordinates."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    truncated: bool
    occluded: bool
    crowd: bool
    pose: str


@dataclass(frozen=True)
class VocFile:
    """The contents of a file: the image's name, its size ((0, 0) if not stated) and its objects."""

    image: str
    size: Size
    objects: list[VocObject]


def read_xml(path: Path) -> VocFile:
    """Read one XML file; an object without a name or a box of four numbers is skipped.

    Raises:
        InputError: the file is not XML.
    """
    tree = reading.read_xml(path)
    stated = (tree.findtext("filename") or "").strip().replace("\\", "/")
    size = _whole(tree.findtext("size/height")), _whole(tree.findtext("size/width"))
    objects = []
    for number, element in enumerate(tree.findall("object")):
        try:
            objects.append(_object(element, number, path))
        except InputError as error:
            skip_label(error, path)
    return VocFile(stated, size if all(size) else (0, 0), objects)


def _object(element: ElementTree.Element, number: int, path: Path) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{path}: object {number} has no <name>; name its class")
    box = element.find("bndbox")
    texts = [None if box is None else box.findtext(side) for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = (float(text) for text in texts if text is not None)
    except ValueError:
        raise InputError(
            f"{path}: object {number} ({name}) has the box {texts}, but <bndbox> must contain xmin, ymin, xmax and "
            "ymax in pixels; correct or remove it"
        ) from None
    return VocObject(
        name,
        (x1, y1, x2, y2),
        difficult=_flag(element, "difficult"),
        truncated=_flag(element, "truncated"),
        occluded=_flag(element, "occluded"),
        crowd=_flag(element, "iscrowd"),
        pose=(element.findtext("pose") or "").strip(),
    )


def _flag(element: ElementTree.Element, tag: str) -> bool:
    return (element.findtext(tag) or "0").strip().lower() not in ("0", "", "false", "no", "unspecified")


def _whole(text: str | None) -> int:
    try:
        return max(int(float(text or 0)), 0)
    except (ValueError, OverflowError):
        return 0

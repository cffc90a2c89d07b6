"""Finds the columns of a box CSV by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sightline.data.images import is_image

IMAGE: tuple[str, ...] = (
    *("filename", "imagefilename", "imagename", "imagepath", "filepath", "imagefile", "filenames", "path", "file"),
    *("imageid", "image", "imgname", "imgpath", "imgid", "img", "patientid", "uuid", "frame"),
)
LABEL: tuple[str, ...] = (
    *("class", "label", "labelname", "classname", "category", "categoryname", "objectclass", "objectname"),
    *("objecttype", "type", "object", "cls", "name", "target", "classid", "labelid", "categoryid"),
)
SPLIT = ("split", "subset", "set", "partition", "fold")
_SIZES = (("width", "height"), ("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("imgw", "imgh"))
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("bboxxmin", "bboxymin", "bboxxmax", "bboxymax"),
    ("xminpixels", "yminpixels", "xmaxpixels", "ymaxpixels"),
    ("x1", "y1", "x2", "y2"),
    ("bboxx1", "bboxy1", "bboxx2", "bboxy2"),
    ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
    ("xtl", "ytl", "xbr", "ybr"),
    ("startx", "starty", "endx", "endy"),
)
_SIDES = (
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
    ("bboxx", "bboxy", "bboxw", "bboxh"),
    ("xmin", "ymin", "width", "height"),
    ("xmin", "ymin", "w", "h"),
    ("left", "top", "width", "height"),
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
)
_CENTRED = (
    ("xcenter", "ycenter", "width", "height"),
    ("xcentre", "ycentre", "width", "height"),
    ("centerx", "centery", "width", "height"),
    ("xcenter", "ycenter", "w", "h"),
    ("xc", "yc", "w", "h"),
    ("cx", "cy", "w", "h"),
    ("cx", "cy", "width", "height"),
)
_LISTS = {"bbox": "xywh", "bboxxywh": "xywh", "box": "xywh", "boundingbox": "xywh", "bboxxyxy": "xyxy"}
OF_BOXES = frozenset(name for names in (*_CORNERS, *_SIDES, *_CENTRED) for name in names) | {*_LISTS}
OF_BOXES -= {"width", "height", "w", "h"}  # these may belong to the image
"""Column names that only boxes have."""
MARKS = {
    **{name: name for name in ("crowd", "difficult", "truncated", "occluded", "caption", "pose")},
    "iscrowd": "crowd",
    "isgroupof": "crowd",
    "istruncated": "truncated",
    "isoccluded": "occluded",
}
"""Flag columns, with the attribute that each stands for."""


@dataclass(frozen=True)
class CsvColumns:
    """Positions of the columns.

    Attributes:
        image: the image name.
        box: the four coordinates, or the one column with all four.
        kind: meaning of the coordinates: "xyxy" (corners), "xywh" (corner and size), "cxcywh" (centre and size).
        label, split: None if the file has no such column.
        size: width and height of the image.
        marks: flags such as crowd, difficult and truncated, by attribute.
        header: the column names; empty if the file has no header.
    """

    image: int
    box: tuple[int, ...]
    kind: str
    label: int | None = None
    split: int | None = None
    size: tuple[int, int] | None = None
    marks: tuple[tuple[str, int], ...] = ()
    header: tuple[str, ...] = ()

    @property
    def pixels(self) -> bool:
        """Whether the header says that coordinates are pixels, however small they are."""
        return bool(self.header) and all("pixel" in self.header[k].lower() for k in self.box)

    def __str__(self) -> str:
        def named(positions: Sequence[int]) -> str:
            return ", ".join(self.header[k] if self.header else str(k + 1) for k in positions)

        what = {"xyxy": "corners", "xywh": "corner and size", "cxcywh": "centre and size"}[self.kind]
        parts = [f"image from {named([self.image])}", f"box ({what}) from {named(self.box)}"]
        parts += [f"class from {named([self.label])}"] if self.label is not None else []
        parts += [f"split from {named([self.split])}"] if self.split is not None else []
        parts += [f"image size from {named(self.size)}"] if self.size is not None else []
        parts += [f"{name} from {named([k])}" for name, k in self.marks]
        return ("columns: " if self.header else "columns by position: ") + "; ".join(parts)


HEADERLESS = CsvColumns(0, (1, 2, 3, 4), "xyxy", label=5)
"""keras-retinanet's path,x1,y1,x2,y2,class."""


def find_columns(header: Sequence[str]) -> CsvColumns | None:
    """The columns found in a header; None if there is no column for the image or for the box."""
    plain = plain_names(header)

    def first(names: Sequence[str]) -> int | None:
        return next((plain.index(name) for name in names if name in plain), None)

    def all_of(sets: Sequence[Sequence[str]]) -> tuple[int, ...] | None:
        return next((tuple(plain.index(n) for n in names) for names in sets if set(names) <= set(plain)), None)

    image = first(IMAGE)
    listed = next((k for k, name in enumerate(plain) if name in _LISTS), None)
    kind, box = "xyxy", all_of(_CORNERS)
    if box is None and listed is not None:
        kind, box = _LISTS[plain[listed]], (listed,)
    for other, sets in (("cxcywh", _CENTRED), ("xywh", _SIDES)):
        if box is None:
            kind, box = other, all_of(sets)
    if image is None or box is None:
        return None
    size = all_of([pair for pair in _SIZES if not {plain.index(n) for n in pair if n in plain} & set(box)])
    marks = {MARKS[name]: k for k, name in reversed([*enumerate(plain)]) if name in MARKS}
    label = first(LABEL)
    return CsvColumns(
        image,
        box,
        kind,
        label,
        first(SPLIT),
        None if size is None else (size[0], size[1]),
        tuple(sorted(marks.items())),
        tuple(name.strip() for name in header),
    )


def plain_names(header: Sequence[str]) -> list[str]:
    """Column names in lower case, without spaces, underscores and similar characters."""
    return [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]


def is_headerless(row: Sequence[str]) -> bool:
    """Whether a first row is keras-retinanet's: an image, four numbers and a class, or only an image."""
    if len(row) != 6 or not is_image(row[0].strip()):
        return False
    return not any(cell.strip() for cell in row[1:]) or (all(map(_is_number, row[1:5])) and bool(row[5].strip()))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def delimiter_of(line: str) -> str:
    """The delimiter of a header or first row: the most frequent one of comma, semicolon and tab."""
    count: Callable[[str], int] = re.sub(r'"[^"]*"', "", line).count
    return max(",;\t", key=count)

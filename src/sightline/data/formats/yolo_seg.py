"""YOLO-seg: like YOLO (the layouts of `sightline.data.formats.yolo`), with a class id and a polygon in each line.

The format is determined line by line: five numbers are a box, seven or more are a polygon of three or more points. An
object may therefore be a box without an outline although others have one; `check` counts them. A dataset with any
polygon has the format "yolo-seg".
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import shapes, yolo
from sightline.data.formats.yolo import read
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "YOLO-seg: as YOLO, with polygons in the lines"


def recognise(root: Path) -> str | None:
    """None: the layout is recognised as YOLO, and the lines distinguish the two formats."""
    return None


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as YOLO-seg, in the layout of `sightline.data.formats.yolo.write`.

    An object with several parts becomes one polygon whose parts are connected by slits of zero width, and an RLE
    becomes the outline of its pixels; masks do not change. A box without an outline becomes the polygon of its corners,
    because other tools read all lines of a file as polygons if one of them is.

    Args:
        dataset: a dataset of kind "instances".
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    lost = yolo.write_folder(dataset, out, symlink, _lines)
    columns = dataset.columns
    lost.pop("segmentations", None)
    more = shapes.lost_by(dataset, columns)
    for name in ("outlines of fewer than three points", "boxes apart from their outlines"):
        lost[name] = more[name]
    return +lost


def _lines(columns: Columns, i: int, size: Size, true_size: Size) -> str:
    lines = []
    for a in columns.objects_of(i):
        ring = shapes.ring_of(columns, a, size, f"{columns.names.text(i)}: object {a - int(columns.offsets[i])}")
        if ring is None:
            x1, y1, x2, y2 = columns.boxes[a].tolist()
            ring = [x1, y1, x2, y1, x2, y2, x1, y2]
        values = " ".join(f"{value / true_size[(k + 1) % 2]:.10g}" for k, value in enumerate(ring))
        lines.append(f"{columns.labels[a]} {values}\n")
    return "".join(lines)

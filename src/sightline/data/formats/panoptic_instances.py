"""The things of COCO panoptic as objects with masks: format="panoptic-instances".

The layout is that of `sightline.data.formats.panoptic`. Classes are the thing categories ("isthing"), by increasing id;
segments of stuff are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sightline.data.dataset import Dataset
from sightline.data.formats.gather import Gather
from sightline.data.formats.listed import Listed, assemble
from sightline.data.formats.masks import mask_rles
from sightline.data.formats.panoptic import parts, segment_ids
from sightline.runtime.reading import read_json
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "COCO panoptic, named as panoptic-instances"


def recognise(root: Path) -> str | None:
    """None: this format is read only if it is named."""
    return None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read the things of COCO panoptic. Arguments and errors are those of `sightline.open_dataset`."""
    root, listed, names = parts(root, splits)
    stuff: set[int] = set()
    for file in dict.fromkeys(one.file for one in listed):
        stuff |= {int(c["id"]) for c in read_json(file, dict)["categories"] if not c.get("isthing", 1)}
    things = {id: name for id, name in names.items() if id not in stuff}
    pngs = {id(one): Path(str(one.extra["png"])) for one in listed}
    for one in listed:
        one.extra = {}

    def add(gather: Gather, one: Listed, segments: list[tuple[int, int, bool]], size: Size) -> None:
        png = pngs[id(one)]
        masks = dict(mask_rles(segment_ids(png, size)))
        for segment, category, crowd in segments:
            if category in things and segment in masks:
                marks = {"crowd": "1"} if crowd else {}
                where = f"{png}: segment {segment}"
                gather.object(where, things[category], attributes=marks, **masks[segment]._asdict())

    return assemble(root, "panoptic-instances", listed, add, Gather(classes, list(things.values())), images=images)

"""Cityscapes as objects: format="cityscapes-instances".

The layout is that of `sightline.data.formats.cityscapes`. Objects of the eight instance classes are read from
*_instanceIds.png. If that file is missing, they are read from *_polygons.json, whose polygons include occluded parts. A
group of objects ("cargroup") is a crowd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.formats import files, shapes
from sightline.data.formats.cityscapes import CLASSES, found
from sightline.data.formats.gather import Gather
from sightline.data.formats.masks import mask_rles
from sightline.data.images import read_map
from sightline.data.malformed import skip_label
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime.reading import read_json

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "Cityscapes: leftImg8bit/ with gtFine/, named as cityscapes-instances"
THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
_OF_ID = {CLASSES[name]: name for name in THINGS}


def recognise(root: Path) -> str | None:
    """None: this format is read only if it is named."""
    return None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read the objects of Cityscapes. Arguments and errors are those of `sightline.open_dataset`."""
    root = root.absolute()
    pairs = found(root, splits, images, ("instanceIds", "polygons"))
    base = files.naming_root(root, images)
    gather = Gather(classes, list(THINGS))
    split_names = files.in_order(dict.fromkeys(split for split, _, _ in pairs))
    texts: dict[str, list[str]] = {split: [] for split in split_names}
    for split in split_names:
        for image, label in ((i, m) for own, i, m in pairs if own == split):
            texts[split].append(files.relative(image, base))
            at = "" if label is None else files.relative(label, base)
            gather.image(texts[split][-1], files.header_size(image), split_names.index(split), at)
            if label is not None and label.suffix == ".png":
                _add_masks(gather, label)
            elif label is not None:
                _add_polygons(gather, label)
    columns, known = gather.finish()
    source = Source(
        columns=columns,
        classes=known,
        root=base,
        format="cityscapes-instances",
        split_names=tuple(split_names),
        folders=tuple(files.common_folder(texts[split]) for split in split_names),
    )
    return Dataset(source)


def _add_masks(gather: Gather, label: Path) -> None:
    for id, mask in mask_rles(read_map(label).numpy()):
        name = _OF_ID.get(id // 1000 if id >= 1000 else id)
        if name is not None:
            marks = {} if id >= 1000 else {"crowd": "1"}
            gather.object(f"{label}: object {id}", name, attributes=marks, **mask._asdict())


def _add_polygons(gather: Gather, label: Path) -> None:
    content: dict[str, Any] = read_json(label, dict)
    objects = content.get("objects")
    for k, one in enumerate(objects if isinstance(objects, list) else []):
        where = f"{label}: object {k}"
        try:
            if not isinstance(one, dict) or not isinstance(one.get("polygon"), list):
                raise InputError(f"{where} has no polygon; correct or remove it")
            name = str(one.get("label")).removesuffix("group")
            if name not in THINGS or one.get("deleted"):
                continue
            flat = [value for point in one["polygon"] for value in (point if isinstance(point, list) else [point])]
            points = shapes.plain(shapes.as_numbers(flat, where, even=True))
            marks = {"crowd": "1"} if name != one.get("label") else {}
            gather.object(where, name, polygons=[points], attributes=marks)
        except InputError as error:
            skip_label(error, label)

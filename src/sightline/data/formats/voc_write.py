"""Writing Pascal VOC: Annotations/*.xml, JPEGImages/*, ImageSets/Main/SPLIT.txt and labelmap.txt."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats.files import image_names, number, require_distinct, without_suffix, write_image
from sightline.data.formats.voc_lists import write_class_list

_HELD = frozenset(["truncated", "occluded", "pose"])


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as VOC.

    Coordinates are written unchanged, with fractions if they have any. labelmap.txt keeps the order of classes,
    including those without objects. A crowd region is marked as difficult, with an <iscrowd> that other tools ignore.

    Args:
        dataset: a dataset of kind "instances".
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    columns = dataset.columns
    names = image_names(dataset)
    stems = [without_suffix(name) for name in names]
    if len(set(stems)) < len(stems) and len(dataset.splits) > 1:  # the same name in two splits: one folder per split
        names = [f"{dataset.split_of(i)}/{name}" for i, name in enumerate(names)]
        stems = [without_suffix(name) for name in names]
    require_distinct(names, stems, "a label file in VOC, which goes by the name without its ending")
    lists: dict[str, list[str]] = {name: [] for name in dataset.splits}
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (out / folder).mkdir(parents=True)
    for i, (name, stem) in enumerate(zip(names, stems, strict=True)):
        lists[dataset.split_of(i)].append(stem)
        write_image(dataset, i, out / "JPEGImages" / name, symlink)
        file = out / "Annotations" / f"{stem}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_xml(dataset, columns, i, name), encoding="utf-8")
    for split, listed in lists.items():
        file = out / "ImageSets" / "Main" / ("default.txt" if split == "all" else f"{split}.txt")
        file.write_text("".join(f"{stem}\n" for stem in listed), encoding="utf-8")
    write_class_list(out, list(dataset.classes))
    return not_held(dataset, columns)


def not_held(dataset: Dataset, columns: Columns, held: frozenset[str] = _HELD) -> Counter[str]:
    """What is lost if a dataset is written as boxes with names."""
    lost = Counter(
        segmentations=int((columns.segmentations.lengths > 0).sum()),
        keypoints=0 if columns.keypoints is None else int((columns.keypoints[:, :, 2] > 0).any(1).sum()),
        captions=0 if columns.captions is None else int((columns.captions.lengths > 0).sum()),
    )
    lost["facts about images"] = 0 if columns.image_extra is None else int((columns.image_extra.lengths > 0).sum())
    for name, column in columns.extra.items():
        if name not in held:
            given = column.lengths > 0 if isinstance(column, Blob) else column if column.dtype == bool else None
            lost[name] = len(column) if given is None else int(given.sum())
    for name in dataset.source.later:
        lost[f"{name} in files beside the labels"] = 1
    return +lost


def _xml(dataset: Dataset, columns: Columns, i: int, name: str) -> str:
    height, width = dataset.image_size(i)
    depth = int(dataset.image(i).shape[0]) if dataset.source.images is not None else 3
    lines = [
        "<annotation>",
        "\t<folder>JPEGImages</folder>",
        f"\t<filename>{escape(name)}</filename>",
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>{depth}</depth>\n\t</size>",
        "\t<segmented>0</segmented>",
    ]
    for a in columns.objects_of(i):
        x1, y1, x2, y2 = columns.boxes[a].tolist()
        crowd = bool(columns.crowd[a])
        lines += [
            "\t<object>",
            f"\t\t<name>{escape(dataset.classes[int(columns.labels[a])])}</name>",
            f"\t\t<pose>{escape(_text(columns, 'pose', a) or 'Unspecified')}</pose>",
            f"\t\t<truncated>{_flag(columns, 'truncated', a)}</truncated>",
            *([f"\t\t<occluded>{_flag(columns, 'occluded', a)}</occluded>"] if "occluded" in columns.extra else []),
            f"\t\t<difficult>{int(columns.difficult[a] or crowd)}</difficult>",
            *(["\t\t<iscrowd>1</iscrowd>"] if crowd else []),
            f"\t\t<bndbox>\n\t\t\t<xmin>{number(x1)}</xmin>\n\t\t\t<ymin>{number(y1)}</ymin>",
            f"\t\t\t<xmax>{number(x2)}</xmax>\n\t\t\t<ymax>{number(y2)}</ymax>\n\t\t</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _text(columns: Columns, name: str, a: int) -> str:
    column = columns.extra.get(name)
    return column.text(a) if isinstance(column, Blob) else ""


def _flag(columns: Columns, name: str, a: int) -> int:
    column = columns.extra.get(name)
    return 0 if column is None or isinstance(column, Blob) else int(bool(column[a]))

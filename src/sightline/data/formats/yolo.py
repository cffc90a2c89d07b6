"""YOLO (detect): one text file per image, one line per object: class id, then centre x, y, width and height in 0 … 1.

These layouts are recognised:

- data.yaml with names and train, val, test: image folders or lists of images, relative to the file or its `path`
  (Ultralytics, Roboflow); labels in labels/ if images are in images/, else beside the images;
- obj.data with obj.names and train.txt (darknet, CVAT);
- images/ and labels/, with or without one folder per split, or labels beside images; classes.txt contains the class
  names (LabelImg, Label Studio), else classes are named by their numbers;
- the path of such a data.yaml or obj.data.

An entry of data.yaml that is listed in its `stand_ins` (see `write`) is not a split.

Folder names and suffixes are case-insensitive. Lines with polygons (YOLO-seg) are read, too: the polygon is the
segmentation, and the box is the bounding box of its points. A dataset with any polygon has the format "yolo-seg". A
line of five numbers is a box in both formats. A confidence or track number after a box, as in predictions, is ignored,
and a note gives the number of such lines. If data.yaml contains `kpt_shape`, lines are boxes with keypoints, and
the format is "yolo-pose" (see `sightline.data.formats.yolo_pose`).

A split whose folder or list does not exist is recorded as missing; it is not replaced by another.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.builder import Builder
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import files, yolo_config, yolo_layout
from sightline.data.formats.listing import find_folder
from sightline.data.formats.voc_write import not_held
from sightline.data.formats.yolo_lines import Lines
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.runtime.reading_ahead import read_ahead
from sightline.structures import Classes, Size
from sightline.words import counted

LOOKED_FOR = "YOLO: data.yaml, obj.data, images/ with labels/*.txt, or *.txt beside images"


def recognise(root: Path) -> str | None:
    """A description of the YOLO data found in a folder (or in the file `root`); None if there is none."""
    if root.is_file():
        return root.name if root.suffix.lower() in (".yaml", ".yml", ".data") else None
    try:
        configuration = yolo_config.find_configuration(root)
    except InputError:
        return "several data.yaml"
    if configuration is not None:
        return configuration.name
    splits = files.folders_of_splits(root)
    for folder in (root, *splits):
        images, labels = find_folder(folder, "images"), find_folder(folder, "labels")
        found = None
        if images is not None and labels is not None:
            found = next((labels / name for name in files.files_below(labels) if name.lower().endswith(".txt")), None)
        found = found or next((f for f in files.with_ending(folder, ".txt") if _is_label(f)), None)
        if found is not None:
            return files.relative(found, root)
    return None


def _is_label(file: Path) -> bool:
    """Whether a file contains labels: by its first line or, if it is empty, because an image has its name."""
    if file.suffix.lower() != ".txt" or not file.is_file():
        return False
    return yolo_layout.looks_like_labels(file) or any(
        file.with_suffix(suffix).is_file() for suffix in (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
    )


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a YOLO dataset. Arguments and errors are those of `sightline.open_dataset`.

    Labels contain no image sizes, so each image's header is read when the dataset is opened (about 30 µs each). An
    unreadable image gets size (0, 0) and NaN boxes: `check` reports it, and reading it raises an error.
    """
    root = root.absolute()
    images = None if images is None else images.absolute()
    configuration = yolo_config.find_configuration(root)
    layout = (
        yolo_layout.from_folder(root, images, splits or {})
        if configuration is None
        else yolo_layout.from_description(configuration, images, splits or {})
    )
    orphans = [orphan for part in layout.parts for orphan in part.orphans]
    if not any(part.pairs for part in layout.parts):
        raise files.none_found(root, orphans, "for images beside the labels and in images/")
    base = files.naming_root(layout.root, images)
    columns, known, predicted = _columns(layout, classes, base)
    keypoints = layout.keypoints
    kind = "yolo-pose" if keypoints is not None else "yolo-seg" if columns.segmentations.data.size else "yolo"
    source = Source(
        columns=columns,
        classes=known,
        root=base,
        format=kind,
        split_names=tuple(part.split for part in layout.parts),
        folders=tuple(files.folder_name(part.image_folder, base) for part in layout.parts),
        orphans=tuple(dict.fromkeys(orphans)),
        left_out=tuple(layout.left_out if splits else [*layout.left_out, *_in_no_split(layout, columns, base)]),
        missing_splits=layout.missing,
        notes=(
            *layout.notes,
            *(_unnamed(known) if layout.names is None and classes is None else ()),
            *_of_predictions(predicted),
        ),
        keypoint_names=() if keypoints is None else keypoints.names,
        keypoint_swap=None if keypoints is None else keypoints.swap,
    )
    return Dataset(source)


def _unnamed(classes: Classes) -> list[str]:
    """A note on classes that are named after their ids."""
    if not len(classes):
        return []
    called = classes[0] if len(classes) == 1 else f"{classes[0]} to {classes[len(classes) - 1]}"
    return [f"no file names the classes, so they are called {called}; a classes.txt names them, one per line"]


def _of_predictions(lines: int) -> list[str]:
    """A note on lines that end in a confidence or a track number."""
    if not lines:
        return []
    return [
        f"{counted(lines, 'line')} of the label files {'ends' if lines == 1 else 'end'} in a confidence or a track "
        "number, as predictions do; it is not used, and all objects count as true"
    ]


def _in_no_split(layout: yolo_layout.Layout, columns: Columns, base: Path) -> list[str]:
    """Images beside those of the splits, if a description or lists define what belongs to them."""
    tops = [part.image_folder for part in layout.parts]
    if layout.left_out or not tops or any(not top.is_relative_to(layout.root) for top in tops):
        return []
    return files.unlisted(Path(os.path.commonpath(tops)), columns.names.texts(), base)


def _columns(layout: yolo_layout.Layout, classes: Sequence[str] | None, base: Path) -> tuple[Columns, Classes, int]:
    """The columns, the classes, and the number of lines with a confidence or a track number."""
    names = layout.names
    if names is None and classes is not None:
        names = dict(enumerate(classes))
    given = None if classes is None else Classes(classes)
    builder = Builder()
    lines = Lines(builder, names, given, layout.keypoints)
    workers = min(16, 4 * (os.cpu_count() or 1))
    for number, part in enumerate(layout.parts):
        with closing(read_ahead(files.header_size, [image for image, _ in part.pairs], workers, 4 * workers)) as sizes:
            for (image, label), size in zip(part.pairs, sizes, strict=True):
                text = lines.text(label)
                if text is None:
                    continue  # reading it as an image without objects would be wrong training data
                at = "" if label is None else files.relative(label, base)
                builder.add_image(files.relative(image, base), size, number, at)
                if label is not None:
                    lines.add(label, text, size)
    columns = builder.build()
    if layout.keypoints is not None:
        points = np.array(lines.keypoint_rows, np.float32).reshape(-1, layout.keypoints.points, 3)
        columns = columns.replace(keypoints=points)
    if names is None:
        count = int(columns.labels.max()) + 1 if columns.objects else 0
        return columns, Classes(str(k) for k in range(count)), lines.predicted
    own = files.class_names(names.values(), layout.names_file or layout.root)
    return columns, own if given is None else given, lines.predicted


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as YOLO: data.yaml, images/SPLIT/, labels/SPLIT/; without splits images/ and labels/.

    Other tools need the entries train and val in data.yaml. If the data has no such split, the entry refers to the
    images of another split and is listed in `stand_ins`, so that it is not read as a split again.

    Numbers have ten digits, so that boxes are restored to within 1e-6 pixels. They are fractions of the actual image
    size, which readers will use. An image without objects has an empty label file. Crowd regions and difficult objects
    become ordinary objects.

    Args:
        dataset: a dataset of kind "instances".
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    lost = write_folder(dataset, out, symlink, lambda columns, i, _, true_size: _lines(columns, i, true_size))
    return +lost


def write_folder(
    dataset: Dataset,
    out: Path,
    symlink: bool,
    lines: Callable[[Columns, int, Size, Size], str],
    more: Mapping[str, Any] | None = None,
) -> Counter[str]:
    """Write images, labels and class names; return what boxes cannot represent.

    Args:
        lines: function that returns the label text of image i, from the columns, i, and the image's stated and
            actual size.
        more: additional entries of data.yaml, which is then always written.
    """
    import yaml

    columns = dataset.columns
    names = files.image_names(dataset)
    keys = [(dataset.split_of(i), files.without_suffix(name)) for i, name in enumerate(names)]
    files.require_distinct(names, keys, "a label file in YOLO, which goes by the name without its ending")
    whole = dataset.splits == ("all",)
    for folder in ("images", "labels"):
        (out / folder).mkdir()
    for i, (split, stem) in enumerate(keys):
        below = "" if whole else split
        write_at = out / "images" / below / names[i]
        files.write_image(dataset, i, write_at, symlink)
        height, width = files.header_size(write_at)
        size = (height, width) if height and width else dataset.image_size(i)
        label = out / "labels" / below / f"{stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(lines(columns, i, dataset.image_size(i), size), encoding="utf-8")
    if whole:  # used by labelling tools
        (out / "classes.txt").write_text("".join(f"{name}\n" for name in dataset.classes), encoding="utf-8")
    config = {**_places(dataset.splits), **(more or {}), "names": dict(enumerate(dataset.classes))}
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (out / "data.yaml").write_text(text, encoding="utf-8")
    lost = not_held(dataset, columns, frozenset())
    lost["crowd marks"], lost["difficult marks"] = int(columns.crowd.sum()), int(columns.difficult.sum())
    return lost


def stand_ins(splits: Sequence[str]) -> dict[str, str]:
    """For "train" and "val", if the dataset has no such split, the split that is used instead.

    Other tools can train only if data.yaml names both. "val" is replaced by "test", or else by the training images, in
    which case a note is needed.
    """
    first = next((name for name in ("train", "all", "val", "test", *splits) if name in splits), None)
    if first is None:
        return {}
    found = {"train": first, "val": "test" if "test" in splits else first}
    return {name: other for name, other in found.items() if name not in splits}


def _places(splits: Sequence[str]) -> dict[str, Any]:
    """The entries of data.yaml for splits and stand-ins; `stand_ins` tells readers that the latter are not splits."""
    own = {name: "images" if splits == ("all",) else f"images/{name}" for name in splits}
    missing = stand_ins(splits)
    found = own | {name: own[other] for name, other in missing.items()}
    places: dict[str, Any] = {name: found[name] for name in files.in_order(found)}
    return places | ({"stand_ins": missing} if missing else {})


def _lines(columns: Columns, i: int, size: Size) -> str:
    return "".join(f"{line}\n" for line in box_lines(columns, i, size))


def box_lines(columns: Columns, i: int, size: Size) -> list[str]:
    """One line per object of image i: class id and box, without a line break."""
    rows = slice(int(columns.offsets[i]), int(columns.offsets[i + 1]))
    corners = columns.boxes[rows] / np.array([size[1], size[0], size[1], size[0]], np.float64)
    centres, sides = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    lines = zip(columns.labels[rows].tolist(), np.hstack([centres, sides]).tolist(), strict=True)
    return [f"{label} {' '.join(f'{value:.10g}' for value in values)}" for label, values in lines]

"""`check`: finds everything that would break or bias training, before it starts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

import numpy as np

from sightline.data.cameras import needs_cameras
from sightline.data.check.about import (
    captions_without_words,
    depth_problems,
    described,
    open_meshes,
    unknown_cameras,
    wrong_durations,
)
from sightline.data.check.copies import copies
from sightline.data.check.exif import WORDS, drawn_on, is_stored_size
from sightline.data.check.images import ImageInspection, inspect_images
from sightline.data.check.labels import alike, anchor_fit, bad_boxes, box_problems
from sightline.data.check.outlines import bad_outlines, keypoint_problems, outline_problems
from sightline.data.check.problems import LEVELS, RULES, CheckReport, Level, Problem
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats.files import relative
from sightline.data.images import part_name
from sightline.data.shared import shared_images
from sightline.data.stored import optional_fields
from sightline.errors import InputError
from sightline.structures import Size
from sightline.words import class_text, counted, listed

TINY = 8  # pixels
RARE = 10  # objects
IMBALANCE = 50
SHARE = 0.05  # minimum fraction of objects for a problem to be reported


class DetectorProtocol(Protocol):
    """The part of a model that `check` uses; `sightline.models.model.Model` provides it."""

    target_fields: tuple[str, ...]

    def anchor_shapes(self, image_size: Size) -> Any:
        """[K, 2] widths and heights in pixels for an image of size (height, width); None without anchors."""

    def resized(self, image_size: Size) -> Size:
        """The (height, width) to which the model resizes an image of size (height, width)."""


def check(
    dataset: Dataset,
    model: DetectorProtocol | None = None,
    *,
    anchors: Any = None,
    resized: Callable[[Size], Size] | None = None,
    full: bool = True,
    progress: bool = True,
) -> CheckReport:
    """Find everything that would break or bias training.

    Errors: missing, truncated or unreadable images; labels whose size differs from their image; inverted or non-finite
    boxes; unknown classes; nothing to learn. Warnings: boxes without area or outside the image; unusable outlines and
    masks whose size differs from their image (errors if the targets or the model have masks); objects without an
    outline in data where others have one; keypoints outside the image; duplicate objects; labels without images; images
    in two splits or two classes; missing or rare classes; shapes that no anchor fits; cameras whose principal point is
    outside their image, or unknown; captions without words; videos of another duration than their labels say. Notes:
    duplicate images within a split, images without objects, EXIF rotation, class imbalance.

    Args:
        dataset: the dataset with all its splits, so that they can be compared.
        model: a detector; its anchors are compared with the objects.
        anchors: replaces the model's anchors: [K, 2] widths and heights in pixels, or a function that maps
            (height, width) to them.
        resized: replaces the model's resizing: a function that maps the (height, width) of an image to the size the
            model sees.
        full: decode every image, which is needed to find truncated images and duplicates. If False, only headers are
            read.
        progress: show a progress bar on stderr.

    Returns:
        The report; `report.ok` is True if training can start.
    """
    if model is not None:
        has_anchors = anchors is None and model.anchor_shapes((32, 32)) is not None
        anchors = model.anchor_shapes if has_anchors else anchors
        resized = model.resized if resized is None else resized
    looks = inspect_images(dataset, full, progress)
    columns = dataset.columns
    stated = np.column_stack([columns.heights, columns.widths]).astype(np.int64).reshape(-1, 2)
    sizes = np.array([one.size or (0, 0) for one in looks], dtype=np.int64).reshape(-1, 2)
    sizes = np.where(sizes > 0, sizes, stated)
    problems = [*_image_problems(dataset, looks, stated), *copies(dataset, looks, columns)]
    problems += [
        Problem.of("label-without-image", "its image does not exist", orphan) for orphan in dataset.source.orphans
    ]
    if dataset.whole:  # a subset does not have to contain all splits
        problems += _layout_problems(dataset)
    problems += [Problem.of("splits-share-images", words) for words in shared_images(dataset)]
    problems += [Problem.of("reading-note", note) for note in dataset.notes]
    problems += _malformed(dataset)
    problems += [Problem.of("classes-alike", listed(group)) for group in alike(dataset.classes)]
    scale = dataset.full_scale
    if scale is not None:
        known = dataset.source.full_scale
        how = "as given" if known.stated else f"the largest value in a sample of the images is {known.highest}"
        problems.append(Problem.of("full-scale", f"whole-number samples are divided by {scale} ({how})"))
    further = dataset.label_kind.problems
    for rule, value, i in () if further is None else further(columns):
        problems.append(Problem.of(rule, value, dataset.name(i)))
    problems += wrong_durations(dataset, looks)
    unit, counts, more = _counts(dataset, columns, looks)
    problems += more
    measured: dict[str, Any] = {}
    if dataset.label_kind.has_objects:
        bad = bad_boxes(columns, sizes, len(dataset.classes))
        with_masks = "masks" in (*dataset.fields, *(() if model is None else model.target_fields))
        seen = sizes.min(1)[columns.image_of] > 0  # relative boxes of unreadable images are NaN
        problems += box_problems(dataset, columns, sizes, bad | {"box-not-finite": bad["box-not-finite"] & seen})
        outside = int(bad["box-outside"].sum())
        if outside >= 4 and 2 * outside > columns.objects:
            value = f"{outside} of {columns.objects} boxes extend beyond their image"
            problems.append(Problem.of("boxes-elsewhere", value))
        elif columns.objects and 0 < columns.boxes.max() <= 1 and sizes.max() > TINY:
            value = f"all {counted(columns.objects, 'box')} lie within the first pixel of their image"
            problems.append(Problem.of("boxes-elsewhere", value))
        problems += outline_problems(dataset, columns, bad_outlines(columns, sizes), with_masks)
        problems += keypoint_problems(dataset, columns, sizes)
        problems += _unlabelled(dataset, columns)
        broken = np.unique(columns.image_of[bad["box-not-finite"] | bad["box-inverted"] | bad["unknown-class"]])
        wrong = {one.file for one in problems if one.level == "error"} | {dataset.name(i) for i in broken.tolist()}
        problems += _unusable(dataset, wrong, full)
        problems += captions_without_words(dataset)
        problems += [*_cameras(dataset, sizes), *unknown_cameras(dataset), *depth_problems(dataset, sizes, full)]
        measured, more = _object_sizes(dataset, columns, sizes, bad, _as_function(anchors), resized)
        problems += more
    images = {name: len(dataset[name]) for name in dataset.splits}
    problems += [*_split_problems(dataset, images, counts, unit), *_class_problems(counts, unit)]
    place = {name: position for position, name in enumerate(RULES)}
    problems.sort(key=lambda problem: (LEVELS.index(problem.level), place[problem.rule]))
    item = dataset.label_kind.item
    return CheckReport(tuple(problems), dataset.format, images, counts, measured, unit, full, item, described(dataset))


def _layout_problems(dataset: Dataset) -> Iterator[Problem]:
    """Images that belong to no split, and splits that are configured but do not exist."""
    for words in dataset.source.left_out:
        yield Problem.of("image-left-out", words)
    for split, words in dataset.missing_splits.items():
        level: Level = "warning" if split == "test" else "error"
        yield Problem.of("split-missing", f"{split} does not exist ({words})", level=level)


def _malformed(dataset: Dataset) -> Iterator[Problem]:
    """Labels that were skipped when the dataset was opened."""
    for bad in dataset.malformed:
        file = bad.file if dataset.root is None else relative(bad.file, dataset.root)
        yield Problem.of(bad.rule, bad.value, str(file), bad.line)


def _image_problems(dataset: Dataset, looks: list[ImageInspection], stated: np.ndarray) -> Iterator[Problem]:
    columns = dataset.columns
    for i, one in enumerate(looks):
        if one.rule is not None:
            yield Problem.of(one.rule, one.error, dataset.name(i))
            continue
        turned = one.orientation != 1
        if turned:
            yield Problem.of("exif-rotated", f"its EXIF orientation is {one.orientation}", dataset.name(i))
        if one.unread:
            yield Problem.of(
                "pages-unread", f"it has {counted(one.unread + 1, part_name(dataset.name(i)))}", dataset.name(i)
            )
        height, width = stated[i].tolist()
        if height and width and one.size is not None and one.size != (height, width):
            how = ""
            if is_stored_size((height, width), one.size, one.orientation):
                decided = drawn_on(columns, i, one.size) if dataset.label_kind.has_objects else None
                how = f", the size before EXIF rotation; {WORDS[decided]}"
            value = f"the label says {width} × {height}, but the image is {one.size[1]} × {one.size[0]} pixels{how}"
            yield Problem.of("size-differs", value, dataset.name(i))


def _counts(
    dataset: Dataset, columns: Columns, looks: list[ImageInspection]
) -> tuple[str, dict[str, dict[str, int]], list[Problem]]:
    """The unit counted, the counts per class and split, and problems in the class maps that were read for counting."""
    names, total = list(dataset.classes), len(dataset.classes)
    problems: list[Problem] = []
    table = {split: np.zeros(total, dtype=np.int64) for split in dataset.splits}
    kind = dataset.label_kind
    if kind.has_maps:
        for i, one in enumerate(looks):
            try:
                labels = dataset.target(i).labels  # type: ignore[union-attr]
            except InputError as error:
                problems.append(Problem.of("map-invalid", str(error), dataset.name(i)))
                continue
            if one.size is not None and tuple(labels.shape) != one.size:
                value = f"its map has shape {list(labels.shape)}, but the image is {list(one.size)}"
                problems.append(Problem.of("map-invalid", value, dataset.name(i)))
            table[dataset.split_of(i)] += np.bincount(labels[labels >= 0].numpy(), minlength=total)
    else:
        splits = np.array([dataset.split_of(i) for i in range(len(dataset))])
        if kind.class_ids is None:
            return kind.unit, {}, []
        labels, images = kind.class_ids(columns)
        owners = splits[images]
        known = (labels >= 0) & (labels < total)
        for split in table:
            table[split] += np.bincount(labels[known & (owners == split)], minlength=total)
        for i in np.flatnonzero(~known).tolist() if not kind.has_objects else ():  # `box_problems` reports objects
            value = f"has class id {labels[i]}, but valid ids are 0 to {total - 1}"
            problems.append(Problem.of("unknown-class", value, dataset.name(int(images[i]))))
    learnt = [row for split, row in table.items() if split not in ("val", "test")]
    held = np.flatnonzero(np.sum(learnt, axis=0)).tolist()  # a small validation split may contain one class only
    if len(held) == 1 and not kind.has_objects:
        what = "labelled pixel" if kind.has_maps else "training image"
        problems.append(Problem.of("one-class", f"every {what} has the class {names[held[0]]!r}"))
    counts = {split: dict(zip(names, row.tolist(), strict=True)) for split, row in table.items()}
    return kind.unit, counts, problems


def _unusable(dataset: Dataset, wrong: Collection[str], full: bool) -> Iterator[Problem]:
    """Images whose labels cannot become a target with the field that the labels are about, such as wrong cuboids.

    Args:
        dataset: the dataset.
        wrong: images that already have an error, which are left out.
        full: if False, fields that are read from files of their own are left out.
    """
    about = dataset.about
    stored = optional_fields(dataset.columns)
    column = dataset.columns.extra.get(about)
    from_files = about in dataset.source.later or (isinstance(column, np.ndarray) and column.dtype.hasobject)
    if (about not in stored and about not in dataset.source.later) or (from_files and not full):
        return
    part = dataset.with_fields(about)
    for i in range(len(part)):
        name = part.name(i)
        if name in wrong:
            continue
        try:
            target: Any = part.target(i)
        except InputError as error:
            yield Problem.of("label-invalid", str(error).removeprefix(f"{name}: "), name)
            continue
        if border := open_meshes(target):
            value = f"the surfaces of {border} of its {counted(len(target), 'object')} have a border"
            yield Problem.of("mesh-open", value, name)


def _cameras(dataset: Dataset, sizes: np.ndarray) -> Iterator[Problem]:
    """Cameras of labels in metres that are not cameras, or whose principal point lies outside their image."""
    if not needs_cameras((dataset.about,)):
        return
    for i, (height, width) in enumerate(sizes.tolist()):
        name = dataset.name(i)
        try:
            camera = dataset.camera(i)
        except InputError as error:
            yield Problem.of("label-invalid", str(error).removeprefix(f"{name}: "), name)
            continue
        if camera is None or not height:
            continue
        x, y = camera.intrinsics[:2, 2].tolist()
        if not (0 <= x <= width and 0 <= y <= height):
            value = f"the principal point ({x:g}, {y:g}) lies outside an image {width} wide and {height} high"
            yield Problem.of("camera-elsewhere", value, name)


def _unlabelled(dataset: Dataset, columns: Columns) -> Iterator[Problem]:
    for i in np.flatnonzero(np.diff(columns.offsets) == 0).tolist():
        label = dataset.label_path(i)
        there = label is not None and label.is_file()
        yield Problem.of(
            "image-without-label", "its label holds no objects" if there else "has no label", dataset.name(i)
        )


def _split_problems(
    dataset: Dataset, images: dict[str, int], counts: dict[str, dict[str, int]], unit: str
) -> Iterator[Problem]:
    if not len(dataset):
        yield Problem.of("no-images", "the dataset has no images")
        return
    if len(dataset) == dataset.source.columns.images:  # a subset may consist of one split
        for split in dataset.source.split_names:
            if split not in images:
                yield Problem.of("split-empty", f"{split} has no images", level=None if split == "train" else "warning")
    total = sum(sum(row.values()) for row in counts.values())
    if counts and not total:
        yield Problem.of("no-objects", f"none of the {len(dataset)} images has {unit} of a known class")
        return
    for split, row in counts.items():
        if images[split] and not sum(row.values()):
            yield Problem.of(
                "no-objects",
                f"none of the {images[split]} images of {split} has {unit} of a known class",
                level="error" if split == "train" else "warning",
            )


def _class_problems(counts: dict[str, dict[str, int]], unit: str) -> Iterator[Problem]:
    filled = {
        split: {class_text(name): count for name, count in row.items()}
        for split, row in counts.items()
        if sum(row.values())
    }
    if not filled:
        return
    taught = "train" if "train" in filled else next(iter(filled))
    everywhere = {name: sum(row[name] for row in filled.values()) for name in filled[taught]}
    nowhere = [name for name, count in everywhere.items() if not count]
    if nowhere:
        yield Problem.of("class-missing", f"no {unit} in any split: {listed(nowhere)}")
    for split, row in filled.items():
        missing = [name for name, count in row.items() if not count and everywhere[name]]
        if missing:
            kind = "cannot be learnt" if split == taught else "cannot be evaluated there"
            of = _plural(len(missing), "class has", "classes have")
            yield Problem.of("class-missing", f"{of} no {unit} in {split} and {kind}: {listed(missing)}")
    present = {name: count for name, count in filled[taught].items() if count}
    if unit != "pixels":
        rare = sorted((count, name) for name, count in present.items() if count < RARE)
        if rare:
            of = _plural(len(rare), "class has", "classes have")
            named = listed([f"{name} ({count})" for count, name in rare])
            yield Problem.of("class-rare", f"{of} fewer than {RARE} {unit} in {taught}: {named}")
    most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    if present[most] >= IMBALANCE * present[least]:
        ratio = present[most] / present[least]
        value = f"{most} is {ratio:.0f} times as frequent as {least} in {taught} ({present[most]} to {present[least]})"
        yield Problem.of("class-imbalance", value)


def _object_sizes(
    dataset: Dataset,
    columns: Columns,
    sizes: np.ndarray,
    bad: dict[str, np.ndarray],
    anchors: Callable[[Size], np.ndarray] | None,
    resized: Callable[[Size], Size] | None,
) -> tuple[dict[str, Any], list[Problem]]:
    """Statistics of the object sizes, and the problems they cause for the model."""
    broken = bad["box-not-finite"] | bad["box-inverted"] | bad["box-zero-area"]
    rows = np.flatnonzero(~broken & ~columns.crowd)
    if not len(rows):
        return {}, []
    problems: list[Problem] = []
    shapes = columns.boxes[rows, 2:] - columns.boxes[rows, :2]
    images = columns.image_of[rows]
    area = shapes.prod(1)
    measured: dict[str, Any] = {
        "median": np.median(shapes, axis=0).round(1).tolist(),
        "small": float((area < 32**2).mean()),
        "medium": float(((area >= 32**2) & (area < 96**2)).mean()),
        "large": float((area >= 96**2).mean()),
    }
    scale = np.ones((len(sizes), 2))
    known = np.asarray((sizes > 0).all(1))
    if resized is not None:
        kinds, which = np.unique(sizes[known], axis=0, return_inverse=True)
        seen = np.array([resized((int(h), int(w))) for h, w in kinds], dtype=np.float64).reshape(-1, 2)
        scale[known] = (seen / np.maximum(kinds, 1))[which.reshape(-1)]
    tiny = area * scale[images].prod(1) < TINY**2
    measured["tiny"] = float(tiny.mean())
    if tiny.mean() >= SHARE:
        where = "at the model's input size" if resized is not None else "in the image"
        value = f"{_share(tiny)} of the objects are smaller than {TINY} × {TINY} pixels {where}"
        value += _mostly(dataset, columns, rows[tiny])
        problems.append(Problem.of("objects-tiny", value))
    if anchors is not None and known[images].any():
        placed = known[images]
        best = anchor_fit(columns, rows[placed], sizes, anchors)
        misfit = best < 0.5
        measured["anchors"] = {"misfit": float(misfit.mean()), "median_iou": float(np.median(best))}
        if misfit.mean() >= SHARE:
            width, height = np.median(shapes[placed][misfit], axis=0)
            value = (
                f"{_share(misfit)} of the objects have an IoU below 0.5 with every anchor shape; their median size is "
                f"{width:.0f} × {height:.0f} pixels{_mostly(dataset, columns, rows[placed][misfit])}"
            )
            problems.append(Problem.of("anchors-misfit", value))
    return measured, problems


def _as_function(anchors: Any) -> Callable[[Size], np.ndarray] | None:
    if anchors is None:
        return None
    if callable(anchors):
        return lambda size: np.asarray(anchors(size), dtype=np.float64)
    fixed = np.asarray(anchors, dtype=np.float64)
    if fixed.ndim != 2 or fixed.shape[1] != 2:
        raise InputError(f"anchors have shape {list(fixed.shape)}, but must be [K, 2]: width and height in pixels")
    return lambda size: fixed


def _share(chosen: np.ndarray) -> str:
    percent = 100 * float(chosen.mean())
    return f"{percent:.0f} % ({int(chosen.sum())})"


def _mostly(dataset: Dataset, columns: Columns, rows: np.ndarray) -> str:
    """ ", mostly CLASS" if one class makes up more than half of the objects `rows` and there are other classes."""
    labels = columns.labels[rows]
    labels = labels[(labels >= 0) & (labels < len(dataset.classes))]
    if not len(labels) or len(dataset.classes) < 2:
        return ""
    counts = np.bincount(labels)
    return f", mostly {dataset.classes[int(counts.argmax())]}" if 2 * counts.max() > len(rows) else ""


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"

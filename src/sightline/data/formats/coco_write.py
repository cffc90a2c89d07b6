"""Writing COCO JSON: annotations/instances_SPLIT.json with images in SPLIT/ (a dataset without splits: images/)."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from sightline.data.blob import Blob, Column
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats.coco_relations import relations_of, written
from sightline.data.formats.files import image_names, write_image
from sightline.data.keypoint_pairs import mirrored_keypoints
from sightline.data.relations import TABLE
from sightline.data.tables import rows_lost


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as COCO.

    Keypoints are written to the same file as boxes, captions to captions_SPLIT.json. Ids of images and annotations are
    kept if they are unique, ids of categories if the dataset came from COCO.

    Args:
        dataset: a dataset of kind "instances".
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.
    """
    dataset = dataset.with_fields(*dataset.source.later)
    columns = written(dataset.columns)
    lost = Counter({f"extra column {name}": 1 for name, column in columns.extra.items() if not _fits_json(column)})
    lost |= rows_lost(dataset.columns.tables, columns.tables)
    names = image_names(dataset)
    categories = _categories(dataset)
    if dataset.keypoint_swap is not None and mirrored_keypoints(dataset.keypoint_names) != dataset.keypoint_swap:
        lost["statement of left and right keypoints, which their names do not tell"] = int(
            len(dataset.keypoint_swap) > 1
        )
    category_ids = [c["id"] for c in categories]
    own_ids = _own_ids(dataset)
    (out / "annotations").mkdir()
    for split in dataset.splits:
        rows = np.flatnonzero(columns.splits == dataset.source.split_names.index(split))
        folder = "images" if split == "all" else split
        image_ids = [own_ids[row] for row in rows.tolist()] if own_ids else _unique(columns.image_ids[rows]).tolist()
        part = columns.take_images(rows)
        ids = _unique(part.ids)
        stem = "default" if split == "all" else split
        head = {"info": _info(dataset), "licenses": dataset.source.meta.get("licenses", [])}
        images, captions = [], []
        for i, (row, image_id) in enumerate(zip(rows.tolist(), image_ids, strict=True)):
            height, width = dataset.image_size(row)
            extra = dataset.image_extra(row)
            captions += [{"image_id": image_id, "caption": text} for text in extra.pop("captions", [])]
            extra.pop("id", None)
            extra |= {TABLE: relations} if (relations := relations_of(part, i, ids)) else {}
            images.append({"id": image_id, "file_name": names[row], "height": height, "width": width, **extra})
            write_image(dataset, row, out / folder / names[row], symlink)
            _write_depth(dataset, row, out, extra)
        with open(out / "annotations" / f"instances_{stem}.json", "w", encoding="utf-8") as file:
            _dump(file, {**head, "categories": categories, "images": images})
            _dump_annotations(file, _annotations(part, image_ids, ids, category_ids))
        if captions:
            numbered = [{"id": k + 1, **caption} for k, caption in enumerate(captions)]
            with open(out / "annotations" / f"captions_{stem}.json", "w", encoding="utf-8") as file:
                without = [{k: v for k, v in image.items() if k != TABLE} for image in images]  # they name annotations
                _dump(file, {**head, "images": without})
                _dump_annotations(file, iter(json.dumps(c, ensure_ascii=False) for c in numbered))
    return +lost


def _write_depth(dataset: Dataset, row: int, out: Path, extra: Mapping[str, Any]) -> None:
    """Copy the depth map of an image to the place that its "camera" states."""
    source = dataset.depth_path(row)
    if source is not None and source.is_file():
        place = out / extra["camera"]["depth_file_name"]
        if place.resolve().is_relative_to(out.resolve()) and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)


def _info(dataset: Dataset) -> Any:
    info = dataset.source.meta.get("info", {})
    return {**info, "about": dataset.about} if dataset.about and isinstance(info, dict) else info


def _categories(dataset: Dataset) -> list[dict[str, Any]]:
    """One per class, in the order of classes; with the original ids if they increase in that order (or are strings)."""
    by_name = {category.get("name"): category for category in dataset.source.meta.get("categories") or ()}
    known = [by_name.get(name, {}) for name in dataset.classes]
    ids = [category.get("id") for category in known]
    if not any(isinstance(id, str) for id in ids) and None not in ids:
        kept = ids == sorted(set(ids))
    else:
        kept = None not in ids and len(set(ids)) == len(ids)
    if not kept:
        known = [{key: value for key, value in category.items() if key != "id"} for category in known]
    found = [{"id": k + 1, **known[k], "name": name} for k, name in enumerate(dataset.classes)]
    columns = dataset.source.columns
    if columns.keypoints is not None:
        labels = columns.labels[(columns.keypoints[:, :, 2] > 0).any(1)]
        for k in np.unique(labels[(labels >= 0) & (labels < len(found))]).tolist():
            found[k] = {**_of_keypoints(dataset, columns.keypoints.shape[1]), **found[k]}
    return found


def _of_keypoints(dataset: Dataset, points: int) -> dict[str, Any]:
    """Keypoint entries of a category: names, and left-right pairs if the names do not define them.

    COCO has no key for the pairs; that of YOLO pose is used.
    """
    names = dataset.keypoint_names if len(dataset.keypoint_names) == points else ()
    known: dict[str, Any] = {"keypoints": list(names)} if names else {}
    swap = dataset.keypoint_swap
    return known if swap is None or swap == mirrored_keypoints(names) else known | {"flip_idx": list(swap)}


def _own_ids(dataset: Dataset) -> list[int | str]:
    """The images' original ids if some are strings or very large; empty if none is, or if they are not unique."""
    numbers = dataset.columns.image_ids.tolist()
    ids = [dataset.image_extra(i).get("id", number) for i, number in enumerate(numbers)]
    return ids if ids != numbers and len(set(map(str, ids))) == len(ids) else []


def _annotations(
    columns: Columns, image_ids: Sequence[int | str], ids: np.ndarray, category_ids: Sequence[int | str]
) -> Iterator[str]:
    """The JSON of each annotation, with coordinates rounded to 1e-6 pixels."""
    boxes = columns.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    boxes = boxes.round(6) + 0.0  # no −0
    of, areas = columns.image_of.tolist(), columns.areas.round(6)
    listed = {name for name, column in columns.extra.items() if _fits_json(column)}
    for a in range(columns.objects):
        entry: dict[str, Any] = {
            "id": int(ids[a]),
            "image_id": image_ids[of[a]],
            "category_id": category_ids[columns.labels[a]],
            "bbox": [_plain(v) for v in boxes[a].tolist()],
            "area": _plain(float(areas[a])),
            "iscrowd": int(columns.crowd[a]),
        }
        if columns.difficult[a]:
            entry["difficult"] = 1
        if columns.keypoints is not None and columns.keypoints[a].any():
            points = columns.keypoints[a].astype(np.float64).round(4)
            entry["keypoints"] = [_plain(v) for v in points.ravel().tolist()]
            entry["num_keypoints"] = int((columns.keypoints[a, :, 2] > 0).sum())
        if columns.captions is not None and columns.captions[a]:
            entry["caption"] = columns.captions.text(a)
        for name, column in columns.extra.items():
            if isinstance(column, Blob):
                entry |= json.loads(column[a] or "{}") if name == "other" else {name: column.text(a)}
            elif column.dtype != object:
                known = column.dtype.kind != "f" or bool(np.isfinite(column[a]).all())  # JSON has no NaN
                entry |= {name: column[a].tolist()} if known else {}
            elif name in listed:
                entry[name] = column[a]
        segmentation = columns.segmentations.text(a)
        text = json.dumps(entry, ensure_ascii=False)
        yield f'{text[:-1]}, "segmentation": {segmentation or "[]"}}}'


def _fits_json(column: Column) -> bool:
    if isinstance(column, Blob) or column.dtype != object:
        return True
    try:
        json.dumps(column.tolist())
    except (TypeError, ValueError):
        return False
    return True


def _plain(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _unique(ids: np.ndarray) -> np.ndarray:
    return ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1)


def _dump(file: TextIO, head: dict[str, Any]) -> None:
    """Write the members of an object, leaving it open for its annotations."""
    file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "annotations": [\n')


def _dump_annotations(file: TextIO, entries: Iterator[str]) -> None:
    first = True
    for entry in entries:
        file.write(entry if first else ",\n" + entry)
        first = False
    file.write("\n]}\n")

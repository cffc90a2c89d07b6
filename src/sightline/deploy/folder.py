"""A model's answers for many images written to a folder: COCO-style JSON, and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from sightline.data.formats.semantic_write import save_ids, write_class_file
from sightline.deploy.exports import CSV_FILE, LABELS, require_formats, write_csv, write_yolo
from sightline.deploy.predict import Prediction, class_ids, predict_each, require_some, score_threshold
from sightline.deploy.sources import Item, Source, find_images
from sightline.errors import InputError
from sightline.runtime.values import require_whole
from sightline.structures import IGNORE, ClassMap, Instances, Target
from sightline.training.metrics_log import replacing
from sightline.training.run import new_folder, numbered_folder
from sightline.words import counted

RESULTS_FILE = "predictions.json"
PREDICTIONS = "predictions"
"""The folder of folders, where none is given."""
MASKS = Path("masks")
"""The folder of class maps."""
Draw = Callable[[Tensor, Target], Image.Image]
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass
class PredictedFolder:
    """What `predict_to_folder` wrote.

    Attributes:
        folder: where.
        images: how many were looked at.
        objects: how many objects were found in them.
        maps: how many class maps were written; `objects` are then the classes in them.
        pictures: how many pictures were drawn.
        errors: for each file that could not be read, the sentence why.
        files: names of what holds the predictions.
        threshold: the score that objects have at least.
    """

    folder: Path
    images: int = 0
    objects: int = 0
    maps: int = 0
    pictures: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=lambda: [RESULTS_FILE])
    threshold: float = 0.5

    def __str__(self) -> str:
        drawn = f", {counted(self.pictures, 'picture')}" if self.pictures else ""
        what = f"{counted(self.maps, 'class map')} in {MASKS}/" if self.maps else counted(self.objects, "object")
        found = f"{what} in {counted(self.images, 'image')}" if not self.maps else what
        lines = [f"{self.folder}: {found}; written: {', '.join(self.files)}{drawn}"]
        lines += [f"left out: {sentence}" for sentence in self.errors.values()]
        return "\n".join(lines)


def predict_to_folder(
    model: nn.Module,
    source: Source,
    out: str | os.PathLike[str] | None = None,
    *,
    draw: Draw | None = None,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    save: Sequence[str] = ("json",),
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    full_scale: int | None = None,
) -> PredictedFolder:
    """Write what a model finds as `predictions.json` and, given `draw`, as one picture an image.

    The JSON is laid out as COCO annotations: images {id, file_name, width, height}, annotations {id, image_id,
    category_id, category, bbox [x, y, w, h], score, …}, categories {id, name} with ids from 1. File names, and the
    pictures' places, are relative to the folder that all the images have in common. A picture is a JPEG or PNG as its
    image, and a PNG for other kinds. Of a segmenter each image's class map is written, too, as a palette PNG in masks/
    (with classes.json: names and colours); in the JSON it has an annotation a class, whose segmentation is an RLE.

    Args:
        model: a detector or segmenter with `classes`.
        source: see `predict`.
        out: folder, made if need be; must be empty, for nothing is overwritten. By default predictions/predict1,
            predict2, …: the first that is free.
        draw: makes a picture of an image [C, H, W] and its result: `sightline.draw`.
        save: what the predictions are written as, beside the pictures: "json", "csv" (predictions.csv), "yolo" (label
            files in labels/); see `sightline.deploy.exports`.
        threshold, classes, batch_size, device, progress, tile, overlap, full_scale: see `predict`.

    Raises:
        InputError: nothing to predict, every file unreadable, or `out` is not empty or cannot be written to.
    """
    formats = require_formats(save)
    score_threshold(model, threshold)  # what cannot be is refused before anything is made
    require_whole("batch_size", batch_size, 1, "batch_size", "give 8 images at a time if in doubt")
    if classes is not None:
        class_ids(model, classes)
    items, _ = find_images(source)
    places = _relative_places(items)
    masks = [MASKS / place for place in _picture_places(places, (".png",))]
    pictures = _picture_places(places, taken=set(masks) if getattr(model, "task", "") == "segmentation" else set())
    done = PredictedFolder(
        numbered_folder(PREDICTIONS, "predict") if out is None else new_folder(out, "give another --out"),
        files=[{"json": RESULTS_FILE, "csv": CSV_FILE, "yolo": f"{LABELS}/"}[name] for name in formats],
        threshold=score_threshold(model, threshold),
    )
    texts = _picture_places(places, (".txt",), ending=".txt")
    written: list[Path] = []
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(getattr(model, "classes", None) or ())]
    results: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": categories}
    first: InputError | None = None
    lean = draw is None  # nothing else needs more of a huge map than its ids
    predictions = predict_each(
        model,
        items,
        threshold,
        batch_size,
        device,
        progress,
        tile,
        overlap,
        lean,
        full_scale=full_scale,
        classes=classes,
    )
    for place, picture, own, text, prediction in zip(
        places, pictures, masks, texts, _or_nothing(predictions, done), strict=True
    ):
        image, result, ids = prediction.image, prediction.result, prediction.ids
        if image is None or (result is None and ids is None):
            done.errors[str(prediction.item.name)] = str(prediction.error)
            first = first or prediction.error
            continue
        if ids is None and not isinstance(result, Instances | ClassMap):
            raise InputError(
                f"the model answers with {type(result).__name__}, but objects and class maps alone are written to "
                "files; in Python sightline.predict(model, images) gives its answers"
            )
        height, width = (int(side) for side in image.shape[-2:])
        done.images += 1
        written.append(text)
        results["images"].append({"id": done.images, "file_name": place.as_posix(), "width": width, "height": height})
        if isinstance(result, ClassMap):
            ids = result.labels
        if ids is not None:
            entries = _regions(ids, [entry["name"] for entry in categories], done.images, done.objects + 1)
            save_ids(ids.cpu().numpy(), done.folder / own, len(categories) or int(ids.max()) + 1)
            done.maps += 1
        else:
            assert isinstance(result, Instances)
            entries = _annotations(result, done.images, done.objects + 1)
        results["annotations"] += entries
        done.objects += len(entries)
        if draw is not None and result is not None:
            path = done.folder / picture
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(image, result).save(path, quality=92)
            done.pictures += 1
    if len(done.errors) == len(items):
        done.folder.rmdir()  # made or found empty above, and left so
    require_some(done.errors, len(items), first)
    if done.maps:
        write_class_file([entry["name"] for entry in categories], done.folder)
    if "json" in formats:
        with replacing(done.folder / RESULTS_FILE) as path:
            path.write_text(json.dumps(results, ensure_ascii=False), encoding="utf-8")
    if "csv" in formats:
        write_csv(results, done.folder)
    if "yolo" in formats:
        write_yolo(results, written, done.folder)
    return done


def _or_nothing(predictions: Iterator[Prediction], done: PredictedFolder) -> Iterator[Prediction]:
    """The predictions; where an argument is refused before the first, the folder made for them is taken away."""
    try:
        yield from predictions
    except InputError:
        if not any(done.folder.iterdir()):
            done.folder.rmdir()
        raise


def _annotations(result: Instances, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """COCO entries of an image's objects; coordinates to a thousandth of a pixel, scores to six places."""
    boxes = result.boxes.double()
    sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    entries: list[dict[str, Any]] = []
    for row, (box, label) in enumerate(zip(sides.tolist(), result.labels.tolist(), strict=True)):
        entry: dict[str, Any] = {"id": first_id + row, "image_id": image_id, "category_id": label + 1}
        if result.classes is not None:
            entry["category"] = result.classes[label]
        entry |= {"bbox": [round(v, 3) for v in box], "area": round(box[2] * box[3], 3), "iscrowd": 0}
        if "scores" in result:
            entry["score"] = round(float(result.scores[row]), 6)
        if "masks" in result:
            from sightline.ops.masks import mask_to_rle

            entry["segmentation"] = mask_to_rle(result.masks[row])
            entry["area"] = int(result.masks[row].sum())
        if "keypoints" in result:
            entry["keypoints"] = [round(v, 3) for v in result.keypoints[row].flatten().tolist()]
        entries.append(entry)
    return entries


def _regions(labels: Tensor, names: list[str], image_id: int, first_id: int) -> list[dict[str, Any]]:
    """COCO entries of a map's ids [H, W]: one for each class in it."""
    from sightline.ops.masks import mask_to_rle, masks_to_boxes

    entries: list[dict[str, Any]] = []
    found = {label for rows in labels.split(1024) for label in rows.unique().tolist()}  # its copies stay small
    for label in sorted(found - {IGNORE}):
        mask = labels == label
        x1, y1, x2, y2 = masks_to_boxes(mask[None])[0].tolist()
        entry: dict[str, Any] = {"id": first_id + len(entries), "image_id": image_id, "category_id": label + 1}
        if names:
            entry["category"] = names[label]
        entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(mask.sum()), "iscrowd": 0}
        entries.append(entry | {"segmentation": mask_to_rle(mask)})
    return entries


def _relative_places(items: list[Item]) -> list[Path]:
    """A distinct relative path for each item: from the folder common to all files on; images in memory by number."""
    paths = [Path(os.path.abspath(item.image)) if isinstance(item.image, Path) else None for item in items]
    parents = [str(path.parent) for path in paths if path is not None]
    try:
        common = os.path.commonpath(parents) if parents else ""
    except ValueError:  # on different drives
        common = ""
    places: list[Path] = []
    seen: set[Path] = set()
    for number, path in enumerate(paths):
        place = Path(f"image{number}.png") if path is None else path.relative_to(common) if common else Path(path.name)
        while place in seen:  # one file given twice, or files of one name on different drives
            place = place.with_stem(f"{place.stem}-{number}")
        seen.add(place)
        places.append(place)
    return places


def _picture_places(
    places: list[Path],
    suffixes: tuple[str, ...] = _PICTURE_SUFFIXES,
    taken: Collection[Path] = (),
    ending: str = ".png",
) -> list[Path]:
    """Where each picture goes, no two to one place and none to one `taken`: the image's place, with this ending where
    it has none of these suffixes."""
    used = {place for place in places if place.suffix.lower() in suffixes} | set(taken)
    pictures: list[Path] = []
    for place in places:
        picture = place
        if place.suffix.lower() not in suffixes or place in taken:
            picture = place.with_suffix(ending)
            while picture in used:
                picture = picture.with_name(f"{place.name if picture.stem == place.stem else picture.name}{ending}")
            used.add(picture)
        pictures.append(picture)
    return pictures

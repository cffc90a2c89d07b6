"""Write detections: COCO JSON, CSV, YOLO label files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.deploy.writers.base import PredictedImage, Written, file_paths, require_prediction
from sightline.deploy.writers.coco import FORMATS, CocoFiles
from sightline.ops.geometry import geometry_of
from sightline.structures import Instances
from sightline.structures.fields import FIELDS
from sightline.words import counted


class DetectionWriter:
    """Writes one annotation per object, with its mask and keypoints if it has them."""

    formats = tuple(FORMATS)

    def begin(
        self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]
    ) -> DetectionFiles:
        return DetectionFiles(folder, paths, classes, formats)


class DetectionFiles:
    """See `sightline.deploy.writers.base.Writing`."""

    taken: frozenset[Path] = frozenset()
    what = "object"
    columns: tuple[str, ...] = ()
    """Entries of annotations that are additional columns of the CSV file."""

    def __init__(self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]):
        self._files = CocoFiles(folder, classes, file_paths(paths, (".txt",), ".txt"), formats, self.columns)
        self._images = 0

    def add(self, image: PredictedImage, prediction: Any, ids: Tensor | None) -> None:
        require_prediction(prediction, Instances, "objects (Instances)")
        self._files.add(image, entries_of(prediction))
        self._images += 1

    def finish(self, threshold: float, given: bool) -> Written:
        found, hint = self._files.objects, ""
        if not found:
            hint = f"no {self.what} has a score of at least {threshold:.3g}; lower it with --threshold"
        elif not given:
            hint = f"{self.what}s with a score of at least {threshold:.3g} are kept; change it with --threshold"
        summary = f"{counted(found, self.what)} in {counted(self._images)}"
        return Written(summary, self._files.finish(), found, hint)


def entries_of(result: Instances) -> Iterator[dict[str, Any]]:
    """COCO entries of an image's objects; coordinates are rounded to 0.001 pixels, scores to six decimals."""
    boxes = result.boxes.double()
    sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    fields = [field for field in FIELDS.values() if field.name in result and field.json is not None]
    for row, (box, label) in enumerate(zip(sides.tolist(), result.labels.tolist(), strict=True)):
        entry: dict[str, Any] = {"category_id": label + 1}
        if result.classes is not None:
            entry["category"] = result.classes[label]
        entry |= {"bbox": [round(v, 3) for v in box], "area": round(box[2] * box[3], 3), "iscrowd": 0}
        for field in fields:
            value = result.fields[field.name][row]
            entry[field.json or field.name] = geometry_of(field).written(value, field)
            if field.outline:
                entry["area"] = int(value.sum())
        yield entry

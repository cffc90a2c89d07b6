"""Write class maps: palette images, and the region of each class as a COCO annotation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.data.formats.semantic_write import save_ids, write_class_file
from sightline.deploy.writers.base import NO_THRESHOLD, PredictedImage, Written, file_paths, require_prediction
from sightline.deploy.writers.coco import FORMATS, CocoFiles
from sightline.ops.masks import mask_to_rle, masks_to_boxes
from sightline.structures import IGNORE, ClassMap
from sightline.words import counted

MASKS = Path("masks")
"""The folder of class maps."""


class SegmentationWriter:
    """Writes one palette PNG per image, and a file with the names and colours of the classes."""

    formats = tuple(FORMATS)

    def begin(
        self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]
    ) -> SegmentationFiles:
        return SegmentationFiles(folder, paths, classes, formats)


class SegmentationFiles:
    """See `sightline.deploy.writers.base.Writing`."""

    def __init__(self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]):
        self.folder, self.classes = folder, classes
        self._masks = [MASKS / place for place in file_paths(paths, (".png",), ".png")]
        self._files = CocoFiles(folder, classes, file_paths(paths, (".txt",), ".txt"), formats)
        self._maps = 0
        self.taken = frozenset(self._masks)

    def add(self, image: PredictedImage, prediction: Any, ids: Tensor | None) -> None:
        if ids is None:
            require_prediction(prediction, ClassMap, "class maps (ClassMap)")
            ids = prediction.labels
        self._files.add(image, regions(ids, self.classes))
        save_ids(ids.cpu().numpy(), self.folder / self._masks[image.position], len(self.classes) or int(ids.max()) + 1)
        self._maps += 1

    def finish(self, threshold: float, given: bool) -> Written:
        if self._maps:
            write_class_file(list(self.classes), self.folder)
        summary = f"{counted(self._maps, 'class map')} in {MASKS}/"
        return Written(summary, self._files.finish(), self._files.objects, NO_THRESHOLD if given else "")


def regions(labels: Tensor, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """COCO entries of the ids of a class map [H, W]: one per class in it."""
    found = {label for rows in labels.split(1024) for label in rows.unique().tolist()}  # in parts, to save memory
    for label in sorted(found - {IGNORE}):
        mask = labels == label
        x1, y1, x2, y2 = masks_to_boxes(mask[None])[0].tolist()
        entry: dict[str, Any] = {"category_id": label + 1}
        if names:
            entry["category"] = names[label]
        entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(mask.sum()), "iscrowd": 0}
        yield entry | {"segmentation": mask_to_rle(mask)}

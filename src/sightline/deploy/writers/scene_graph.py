"""Write scene graphs: objects as detections, and in the JSON the relations between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.deploy.writers.base import PredictedImage, Written, require_prediction
from sightline.deploy.writers.coco import FORMATS
from sightline.deploy.writers.detection import DetectionFiles, entries_of
from sightline.structures import Instances
from sightline.structures.relations import likely
from sightline.words import counted


class SceneGraphWriter:
    """Writes one annotation per object, and the relations of each image that hold rather than not.

    In predictions.json, "relations" of an image is a list of [subject, predicate, object], where subject and object are
    annotation ids, as in scenes and in other datasets with relations; "relation_scores" has the score of each. CSV and
    YOLO files hold the objects only.
    """

    formats = tuple(FORMATS)

    def begin(
        self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]
    ) -> SceneGraphFiles:
        return SceneGraphFiles(folder, paths, classes, formats)


class SceneGraphFiles(DetectionFiles):
    """See `sightline.deploy.writers.base.Writing`."""

    def __init__(self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]):
        super().__init__(folder, paths, classes, formats)
        self._relations, self._with_json = 0, "json" in formats

    def add(self, image: PredictedImage, prediction: Any, ids: Tensor | None) -> None:
        require_prediction(prediction, Instances, "objects with relations (Instances)")
        triplets, first = likely(prediction), self._files.objects + 1
        relations = [[first + t.subject, t.predicate, first + t.object] for t in triplets]
        scores = [round(t.score, 6) for t in triplets]
        self._files.add(image, entries_of(prediction), {"relations": relations, "relation_scores": scores})
        self._images += 1
        self._relations += len(triplets)

    def finish(self, threshold: float, given: bool) -> Written:
        written = super().finish(threshold, given)
        if self._relations and not self._with_json:
            lost = f"{counted(self._relations, 'relation')} left out, because only the format json holds them"
            return replace(written, summary=f"{written.summary} ({lost})")
        summary = f"{counted(written.objects, 'object')} and {counted(self._relations, 'relation')} in "
        return replace(written, summary=summary + counted(self._images))
